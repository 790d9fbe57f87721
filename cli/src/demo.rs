//! `tributary demo`: a whole federation on this machine. The coordinator is the real one, the
//! clients are real agents over real gRPC on loopback, and what is learnt is real.

pub(crate) mod curve;
pub(crate) mod data;
pub(crate) mod federation;
mod report;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tributary_client::config::DataConfig;
use tributary_client::trainer::Bases;
use tributary_coordinator::blobs::constants_key;
use tributary_coordinator::config::Config;
use tributary_core::spec::JobSpec;
use tributary_data::{Dataset, Wanted, open};
use tributary_learning::Pretrained;

use crate::args::{DemoArgs, Output};
use crate::figure::{Figure, Series};
use crate::jobs::initial::Submission;
use crate::jobs::model::fetch;
use crate::jobs::watch::follow;
use curve::{Point, Scorer};
use data::load;
use federation::{Federation, submit};
use report::Report;
use view::View;

/// Clients of a demo, where nobody says how many.
pub(crate) const CLIENTS_DEFAULT: u32 = 4;
const DIGITS: &str = include_str!("demo/digits.toml");
const MNIST: &str = include_str!("demo/mnist.toml");

pub(crate) async fn run(args: DemoArgs, out: Output) -> anyhow::Result<()> {
    let submission = Submission::new(spec_text(&args)?, args.init.as_deref(), "the spec")?;
    let spec = submission.spec.clone();
    let bases = args.model.iter().map(|dir| Pretrained::open(dir)).collect::<Result<_, _>>()?;
    let bases = Arc::new(Bases::new(bases));
    // What is refused leaves no folder behind.
    let shares = load(&args, &spec)?;
    let dir = demo_dir(args.dir.as_deref())?;
    std::fs::write(dir.join("job.toml"), &submission.text).context("cannot write the spec")?;

    let mut config = Config::embedded(&dir.join("coordinator"));
    if let Some(url) = args.database.clone() {
        config.database_url = url.into();
    }
    let mut federation = Federation::start(&config).await?;
    let at = federation.at().to_owned();
    let view = View::new(out, &shares, &spec, &at, &dir);
    let measured = shares.held_out.clone().filter(|_| args.figure.is_some()).map(|rows| Measured {
        spec: spec.clone(),
        rows,
        frozen: bases.clone(),
        files: shares.files.clone(),
        blobs: config.blobs.clone().into(),
    });
    let title = format!("{}: {}", spec.name, shares.title);
    federation.join(&dir, shares, &bases, |site| view.observer(site))?;
    let finished = tokio::select! {
        finished = federate(&at, &submission, &view, &dir, measured) => finished,
        failed = federation.failure() => Err(failed),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    federation.stop().await?;
    let report = finished?;
    if let Some(path) = &args.figure {
        figure(title, &report.curve).write(path)?;
    }
    view.finish(&report, &dir, &config)
}

/// The rows to score every round on, once the job has its constants.
struct Measured {
    spec: JobSpec,
    rows: Dataset,
    frozen: Arc<Bases>,
    files: Option<DataConfig>,
    /// The coordinator's blobs, where the constants lie.
    blobs: PathBuf,
}

impl Measured {
    fn scorer(self, job: &str) -> anyhow::Result<Scorer> {
        let frozen = self.frozen.frozen(&self.spec.model)?;
        let Some(files) = &self.files else {
            return Ok(Scorer::new(&self.spec, self.rows, frozen));
        };
        let path = self.blobs.join(constants_key(&job.parse()?));
        let bytes = std::fs::read(&path)
            .with_context(|| format!("cannot read the constants in {}", path.display()))?;
        let spec = self.spec.with_constants(&bytes)?;
        let opened = open(&files.source.only(None, Some(&self.rows)), &Wanted::by_job(&spec))?;
        Ok(Scorer::new(&spec, opened.evaluate.context("no rows to score")?, frozen))
    }
}

/// The curve on rows that nobody trains on.
fn figure(title: String, curve: &[Point]) -> Figure {
    let points = curve.iter().map(|point| (f64::from(point.round), point.score)).collect();
    let series = vec![Series { name: "held-out rows".to_owned(), points }];
    let measure = curve.first().map_or("accuracy", |point| point.measure).to_owned();
    Figure { title, measure, series, target: None }
}

/// The demo's own spec with the number of rounds and clients that were asked for, or the user's.
fn spec_text(args: &DemoArgs) -> anyhow::Result<String> {
    if let Some(path) = &args.spec {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(args.rounds.map_or(text.clone(), |rounds| with_rounds(&text, rounds)));
    }
    let text = if args.data.is_some() { MNIST } else { DIGITS };
    let clients = args.clients.unwrap_or(CLIENTS_DEFAULT);
    let clients = format!("min_available_clients = {clients}");
    let mut text = text.replace("min_available_clients = 4", &clients);
    if let Some(rounds) = args.rounds {
        text = with_rounds(&text, rounds);
    }
    Ok(text)
}

/// The same document with another number of rounds.
fn with_rounds(text: &str, rounds: u32) -> String {
    let is_rounds =
        |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim() == "rounds");
    let line = |line: &str| {
        if is_rounds(line) { format!("rounds = {rounds}\n") } else { format!("{line}\n") }
    };
    text.lines().map(line).collect()
}

fn demo_dir(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match given {
        Some(dir) => dir.to_owned(),
        // It stays: the model is what the user came for.
        None => tempfile::Builder::new().prefix("tributary-demo-").tempdir()?.keep(),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    dir.canonicalize().with_context(|| format!("cannot use {}", dir.display()))
}

/// Submits the job, follows it, fetches the model, and scores every round where `measured` are given.
async fn federate(
    at: &str,
    submission: &Submission,
    view: &View,
    dir: &Path,
    measured: Option<Measured>,
) -> anyhow::Result<Report> {
    submission.bring(at).await?;
    let id = submit(at, &submission.text).await?;
    let mut rounds = Vec::new();
    let job = follow(at, &id, |snapshot| {
        rounds.extend(snapshot.committed.iter().cloned());
        view.show(snapshot);
    })
    .await?;
    if job.status != "completed" {
        bail!("the job is {}: {}", job.status, job.reason);
    }
    let mut curve = Vec::new();
    if let Some(measured) = measured {
        let scorer = measured.scorer(&id)?;
        for round in 1..=submission.spec.rounds {
            curve.push(scorer.score((at, &id, round), dir).await?);
        }
    }
    let model = fetch(at, &id, None, Some(&dir.join("model.safetensors"))).await?;
    Ok(Report::new(&job, rounds, curve, model))
}
