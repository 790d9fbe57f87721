//! `tributary-client train-local`: a spec's model on this site's rows alone, by the trainer of a
//! federation, so that a site sees what taking part gains it.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tributary_client::config::ClientConfig;
use tributary_client::trainer::{Bases, Control, LocalTrainer, Order, Trainer};
use tributary_core::checkpoint;
use tributary_core::digest::Digest;
use tributary_core::metrics::Metrics;
use tributary_core::params::ParameterSet;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::{Pool, encode_constants};
use tributary_data::sums::site_sums;
use tributary_learning::start_from;

use crate::AloneArgs;

/// Trains and prints; nothing leaves the machine.
pub(crate) fn run(args: &AloneArgs) -> anyhow::Result<()> {
    let config = ClientConfig::load(&args.config)?;
    let text = std::fs::read_to_string(&args.spec)
        .with_context(|| format!("cannot read {}", args.spec.display()))?;
    let mut spec = JobSpec::parse(&text)
        .map_err(|faults| anyhow::anyhow!("{}: {faults}", args.spec.display()))?;
    spec.rounds = args.rounds.unwrap_or(spec.rounds);
    let asks = spec.statistics.is_some();
    if asks {
        spec = with_own_constants(&config, spec)?;
    }
    let mut model = first(args, &spec)?;
    let bases = Arc::new(Bases::new(crate::open_models(&config)?));
    let trainer = LocalTrainer::open(&config.data, config.compute)?.with_bases(bases);
    let scores = trainer.bindings().iter().any(|binding| binding.evaluate_examples > 0);

    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {} alone, {} rounds", spec.name, config.agent.name, spec.rounds)?;
    if asks {
        writeln!(out, "constants: of this site's rows alone, where a federation has all sites'")?;
    }
    let bar = Bar::new();
    for round in 1..=spec.rounds {
        bar.begin(format!("round {round}: training"));
        let trained = trainer.train(&order(&config, &spec, round, &model), &bar)?;
        for (value, change) in model.values_mut().iter_mut().zip(&trained.update) {
            // As a federation of one would: rounded once.
            *value = (f64::from(*value) + f64::from(*change)) as f32;
        }
        let mut line = format!("round {round:>4}  {}", line(trained.statistics.metrics()));
        if scores {
            bar.begin(format!("round {round}: scoring"));
            let held_out = trainer.evaluate(&order(&config, &spec, round, &model), &bar)?;
            let shown = self::line(held_out.metrics());
            line += &format!("   validation: {shown}");
            if round == spec.rounds {
                line += &format!(" on {} rows", held_out.examples);
            }
        }
        bar.say(&line, &mut out)?;
    }
    bar.0.finish_and_clear();
    if !scores {
        writeln!(out, "no held-out rows: name `evaluate_` files or a `validation_fraction`")?;
    }
    if let Some(path) = &args.out {
        write_whole(path, &checkpoint::encode(&model))?;
        writeln!(out, "model      {}", path.display())?;
    }
    Ok(())
}

/// What a job leaves to all sites' sums, from this one's: there is no other. Nothing leaves the machine,
/// so the policy's floors do not count.
fn with_own_constants(config: &ClientConfig, spec: JobSpec) -> anyhow::Result<JobSpec> {
    let named = spec.data.name.as_deref();
    let set = config.data.iter().find(|set| named.is_none_or(|name| set.name == name));
    let set = set.context("this site binds no data set of the spec's name")?;
    let sums = site_sums(&set.source, &spec)?;
    let mut pool = Pool::default();
    // As if every site had these rows: constants never come from one site, and equal ones agree.
    let sites = spec.statistics.as_ref().map_or(1, |statistics| statistics.min_sites).max(2);
    for _ in 0..sites {
        pool.merge(&sums)?;
    }
    let constants = encode_constants(&pool.constants(&spec)?);
    Ok(spec.with_constants(&constants)?)
}

/// What training starts from: the checkpoint that a file brings, or the seed's draw.
fn first(args: &AloneArgs, spec: &JobSpec) -> anyhow::Result<ParameterSet> {
    let Some(path) = &args.init else {
        anyhow::ensure!(
            spec.init.is_none(),
            "the spec starts from a checkpoint: name its file with --init"
        );
        return Ok(spec.model.initial(spec.seed));
    };
    let model = start_from(path, &spec.model, spec.seed)?;
    let found = Digest::of(&checkpoint::encode(&model));
    match spec.init {
        Some(named) if named != found => anyhow::bail!(
            "--init {}: expected init.checkpoint of the spec, {named}, found {found}",
            path.display()
        ),
        _ => Ok(model),
    }
}

/// What a federation would ask of this site in a round.
fn order<'a>(
    config: &'a ClientConfig,
    spec: &'a JobSpec,
    round: u32,
    checkpoint: &'a ParameterSet,
) -> Order<'a> {
    Order { spec, round, client: &config.agent.name, checkpoint, data: None }
}

/// The scores that a model of its kind has.
fn line(metrics: Option<Metrics>) -> String {
    let Some(metrics) = metrics else { return "no rows".to_owned() };
    let loss = format!("loss {:.4}", metrics.loss);
    match (&metrics.values, metrics.perplexity) {
        (Some(values), _) => format!("{loss}  RMSE {:.4}  R² {:.4}", values.rmse, values.r2),
        (_, Some(perplexity)) => {
            format!("{loss}  perplexity {perplexity:.4}  accuracy {:.4}", metrics.accuracy)
        }
        _ => format!("{loss}  accuracy {:.4}", metrics.accuracy),
    }
}

/// Under another name first: a model file is whole or is not there.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let write = || {
        let mut file = std::fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// One line that follows the current round.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len} batches");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self(bar)
    }

    fn begin(&self, message: String) {
        self.0.set_position(0);
        self.0.set_message(message);
    }

    fn say(&self, line: &str, out: &mut impl Write) -> std::io::Result<()> {
        self.0.suspend(|| writeln!(out, "{line}"))
    }
}

impl Control for Bar {
    fn progress(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    fn cancelled(&self) -> bool {
        false
    }
}
