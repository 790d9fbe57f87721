//! Headlines of papers: rounds to a test accuracy, with the paper's model, clients and local work.
//! The clients are real participants over gRPC on loopback, in this process.
//!
//! Learning rates are stated here, before any run; seeds come by flag, and all of them are reported.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::json;
use tributary_client::observer::Log;
use tributary_coordinator::config::Config;
use tributary_core::spec::JobSpec;
use tributary_proto::v1;

use crate::args::PaperArgs;
use crate::connect::{jobs, said};
use crate::demo::curve::{Point, Scorer};
use crate::demo::data::mnist_shares;
use crate::demo::federation::{Federation, submit};
use crate::figure::{Figure, Series};

/// McMahan et al. 2017: 100 clients, a tenth of them in each round.
const CLIENTS: usize = 100;
const PAPER: &str = "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from \
                     Decentralized Data";

/// One headline.
struct Case {
    name: &'static str,
    preset: &'static str,
    partition: &'static str,
    local_epochs: u32,
    learning_rate: f64,
    /// The test accuracy to reach.
    target: f64,
    /// Rounds that the paper needs, and where they stand.
    paper: (u32, &'static str),
    /// Rounds that the median of the seeds may need.
    gate: u32,
    rounds_max: u32,
}

/// B = 10 everywhere.
const BATCH: u32 = 10;

const CASES: [Case; 6] = [
    Case {
        name: "2nn-iid",
        preset: "mnist_2nn",
        partition: "iid",
        local_epochs: 1,
        learning_rate: 0.1,
        target: 0.97,
        paper: (87, "table 1, 2NN, C = 0.1, E = 1, B = 10, IID"),
        gate: 87,
        rounds_max: 120,
    },
    Case {
        name: "2nn-shards",
        preset: "mnist_2nn",
        partition: "shards",
        local_epochs: 1,
        learning_rate: 0.1,
        target: 0.97,
        paper: (664, "table 1, 2NN, C = 0.1, E = 1, B = 10, two shards a client"),
        gate: 664,
        rounds_max: 700,
    },
    Case {
        name: "2nn-iid-e20",
        preset: "mnist_2nn",
        partition: "iid",
        local_epochs: 20,
        learning_rate: 0.1,
        target: 0.97,
        paper: (32, "table 4, 2NN, C = 0.1, E = 20, B = 10, IID"),
        gate: 32,
        rounds_max: 50,
    },
    Case {
        name: "cnn-iid",
        preset: "mnist_cnn",
        partition: "iid",
        local_epochs: 5,
        learning_rate: 0.1,
        target: 0.99,
        paper: (20, "table 2, CNN, C = 0.1, E = 5, B = 10, IID"),
        gate: 24,
        rounds_max: 40,
    },
    Case {
        name: "cnn-iid-e1",
        preset: "mnist_cnn",
        partition: "iid",
        local_epochs: 1,
        learning_rate: 0.1,
        target: 0.99,
        paper: (34, "table 2, CNN, C = 0.1, E = 1, B = 10, IID"),
        gate: 40,
        rounds_max: 60,
    },
    Case {
        name: "cnn-shards",
        preset: "mnist_cnn",
        partition: "shards",
        local_epochs: 5,
        learning_rate: 0.05,
        target: 0.99,
        paper: (229, "table 2, CNN, C = 0.1, E = 5, B = 10, two shards a client"),
        gate: 229,
        rounds_max: 400,
    },
];

/// One seed's run.
#[derive(Serialize)]
struct Run {
    seed: u64,
    /// The first round whose checkpoint reached the target; none where no round did.
    rounds_to_target: Option<u32>,
    rounds: u32,
    best_accuracy: f64,
    seconds: f64,
    stopped_by: &'static str,
    curve: Vec<Point>,
}

pub(crate) async fn run(args: PaperArgs) -> anyhow::Result<()> {
    let Some(case) = CASES.iter().find(|case| case.name == args.name) else {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        bail!("expected one of the headlines {}, found {:?}", names.join(", "), args.name);
    };
    if let Some(rounds) = args.rounds.filter(|rounds| !(1..=case.rounds_max).contains(rounds)) {
        bail!("--rounds: expected 1 to {}, the headline's limit, found {rounds}", case.rounds_max);
    }
    let mut runs = Vec::new();
    for &seed in &args.seeds {
        eprint_line(&format!("{}: seed {seed}", case.name));
        runs.push(run_seed(case, seed, &args).await.with_context(|| format!("seed {seed}"))?);
    }
    if let Some(path) = &args.figure {
        figure(case, &runs).write(path)?;
    }
    let median = median(runs.iter().map(|run| run.rounds_to_target).collect());
    let passed = median.is_some_and(|rounds| rounds <= case.gate);
    let cut = runs.iter().any(|run| run.rounds_to_target.is_none() && run.rounds < case.rounds_max);
    let line = json!({
        "bench": "paper",
        "name": case.name,
        "paper": PAPER,
        "place": case.paper.1,
        "model": case.preset,
        "clients": CLIENTS,
        "fraction_train": 0.1,
        "local_epochs": case.local_epochs,
        "batch_size": BATCH,
        "learning_rate": case.learning_rate,
        "partition": case.partition,
        "target_accuracy": case.target,
        "paper_rounds": case.paper.0,
        "gate_rounds": case.gate,
        "median_rounds": median,
        "passed": (!cut).then_some(passed),
        "runs": runs,
    });
    println!("{line}");
    if !passed && !cut {
        bail!("the median of the seeds is above the gate of {} rounds", case.gate);
    }
    Ok(())
}

/// The middle one; none where it was not reached. The lower of two middles would flatter.
fn median(mut rounds: Vec<Option<u32>>) -> Option<u32> {
    rounds.sort_by_key(|rounds| rounds.unwrap_or(u32::MAX));
    rounds.get(rounds.len() / 2).copied().flatten()
}

#[allow(clippy::print_stderr)]
fn eprint_line(line: &str) {
    eprintln!("{line}");
}

fn spec_text(case: &Case, seed: u64, rounds: u32) -> String {
    let Case { name, preset, local_epochs, learning_rate, .. } = case;
    format!(
        "[job]\nname = \"{name}\"\nrounds = {rounds}\nseed = {seed}\n\
         [data]\nname = \"digits\"\nkind = \"image\"\nclasses = 10\n\
         [model]\npreset = \"{preset}\"\n\
         [train]\nlocal_epochs = {local_epochs}\nbatch_size = {BATCH}\n\
         optimizer = {{ kind = \"sgd\", learning_rate = {learning_rate:?} }}\n\
         [cohort]\nfraction_train = 0.1\nmin_available_clients = {CLIENTS}\n\
         min_train_clients = 10\nmin_updates = 10\ndeadline_s = 3600\nlease_s = 300\n\
         [evaluation]\nfinal = false\n"
    )
}

async fn run_seed(case: &Case, seed: u64, args: &PaperArgs) -> anyhow::Result<Run> {
    let rounds = args.rounds.unwrap_or(case.rounds_max);
    let text = spec_text(case, seed, rounds);
    let spec = JobSpec::parse(&text).map_err(|faults| anyhow::anyhow!("the spec: {faults}"))?;
    let mut shares = mnist_shares(&args.data, case.partition, CLIENTS, seed)?;
    let held_out = shares.held_out.take().context("no test set")?;
    let dir = tempfile::Builder::new().prefix("tributary-paper-").tempdir()?;
    let config = Config::embedded(&dir.path().join("coordinator"));
    let mut federation = Federation::start(&config).await?;
    let at = federation.at().to_owned();
    federation.join(dir.path(), shares, &Arc::default(), |_| Arc::new(Log))?;
    let scorer = Scorer::new(&spec, held_out, None);
    let limit = Duration::from_secs(args.minutes.map_or(u64::MAX, |minutes| minutes * 60));
    let following = follow(case, &spec, &text, &at, dir.path(), (scorer, limit));
    let finished = tokio::select! {
        finished = following => finished,
        failed = federation.failure() => Err(failed),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    federation.stop().await?;
    finished
}

/// Scores each checkpoint as it is committed, until one reaches the target.
async fn follow(
    case: &Case,
    spec: &JobSpec,
    text: &str,
    at: &str,
    dir: &Path,
    (scorer, limit): (Scorer, Duration),
) -> anyhow::Result<Run> {
    let begin = Instant::now();
    let job = submit(at, text).await?;
    let request = v1::WatchJobRequest { job: job.clone() };
    let mut snapshots = jobs(at).await?.watch_job(request).await.map_err(said)?.into_inner();
    let mut run = Run {
        seed: spec.seed,
        rounds_to_target: None,
        rounds: 0,
        best_accuracy: 0.0,
        seconds: 0.0,
        stopped_by: "rounds",
        curve: Vec::new(),
    };
    'watching: while let Some(snapshot) = snapshots.message().await.map_err(said)? {
        for round in snapshot.committed {
            let point = scorer.score((at, &job, round.number), dir).await?;
            run.seconds = begin.elapsed().as_secs_f64();
            run.rounds = point.round;
            run.best_accuracy = run.best_accuracy.max(point.accuracy);
            let Point { round, accuracy, loss } = point;
            eprint_line(&format!(
                "round {round:>4}  test accuracy {accuracy:.4}  loss {loss:.4}  {:.0} s",
                run.seconds
            ));
            run.curve.push(point);
            if accuracy >= case.target {
                (run.rounds_to_target, run.stopped_by) = (Some(round), "target");
                break 'watching;
            }
            if begin.elapsed() >= limit {
                run.stopped_by = "minutes";
                break 'watching;
            }
        }
        match snapshot.job.map(|job| (job.status, job.reason)) {
            Some((status, _)) if status == "completed" => break,
            Some((status, reason)) if status == "failed" => bail!("the job failed: {reason}"),
            _ => {}
        }
    }
    Ok(run)
}

fn figure(case: &Case, runs: &[Run]) -> Figure {
    let series = |run: &Run| Series {
        name: format!("seed {}", run.seed),
        points: run.curve.iter().map(|p| (f64::from(p.round), p.accuracy)).collect(),
    };
    Figure {
        title: format!(
            "{}: {CLIENTS} clients, {}, E = {}, B = {BATCH}",
            case.preset, case.partition, case.local_epochs
        ),
        measure: "test accuracy".to_owned(),
        series: runs.iter().map(series).collect(),
        target: Some((
            case.target,
            format!("{}: the paper needs {} rounds", case.target, case.paper.0),
        )),
    }
}

#[cfg(test)]
mod tests {
    use tributary_core::spec::JobSpec;

    use super::{CASES, median, spec_text};

    #[test]
    fn every_headline_is_a_sound_job() {
        for case in &CASES {
            let text = spec_text(case, 1, case.rounds_max);
            let spec = JobSpec::parse(&text).unwrap_or_else(|f| panic!("{}: {f}", case.name));
            assert!(case.gate <= case.rounds_max && spec.train.local_epochs == case.local_epochs);
        }
    }

    #[test]
    fn a_seed_that_never_came_there_counts_as_the_slowest() {
        assert_eq!(median(vec![Some(30), None, Some(20)]), Some(30));
        assert_eq!(median(vec![None, None, Some(20)]), None);
        assert_eq!(median(vec![Some(20), Some(30)]), Some(30));
    }
}
