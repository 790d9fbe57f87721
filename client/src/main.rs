//! `tributary-client`: the agent on a data-holding machine.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tributary_client::agent::Agent;
use tributary_client::config::{ClientConfig, DataConfig};
use tributary_client::observer::{Log, Observer};
use tributary_client::rpc::Proxy;
use tributary_client::trainer::{Bases, LocalTrainer};
use tributary_core::binding::Binding;
use tributary_core::identity::Token;
use tributary_core::spec::JobSpec;
use tributary_data::open::open;
use tributary_data::sums::site_sums;
use tributary_data::wanted::Wanted;
use tributary_learning::Pretrained;

mod alone;
mod bar;
mod departures;
mod enrollment;

// Big buffers come and go with every batch; glibc would give each back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains on this machine's data and sends updates, never rows.
///
/// It asks a coordinator for work, for months: a coordinator that is away is waited for, and after a
/// kill it goes on where it was.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work until SIGTERM or SIGINT.
    Run(Args),
    /// Trade a one-time token for this machine's certificate.
    Enroll(EnrollArgs),
    /// Take over a certificate that another authority gave.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Show and verify what left this machine.
    Ledger {
        #[command(flatten)]
        args: Args,
        /// A table for people, or JSON lines for programs.
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration and the data, say what this site would offer, and stop.
    Check(CheckArgs),
    /// Train a job's model on this site's rows alone, to compare with what a federation learns.
    ///
    /// The same trainer and the same seed as in the job; one line a round, scored on the site's
    /// held-out rows where it has some. Nothing leaves the machine.
    TrainLocal(AloneArgs),
}

#[derive(Subcommand)]
enum IdentityCommand {
    /// Put a certificate and its key into the state folder; each renewal is another import.
    Import(ImportArgs),
}

#[derive(clap::Args)]
struct ImportArgs {
    /// The site's own TOML file, whose state folder and name are used.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The certificate (PEM); it says spiffe://FEDERATION/client/NAME.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its key (PKCS#8, PEM).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The authority of the coordinator's own certificate (PEM): what is trusted.
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
}

#[derive(clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    args: Args,
    /// Read the data as this job wants them, and say whether they serve.
    #[arg(long, value_name = "JOB.TOML")]
    spec: Option<PathBuf>,
}

#[derive(clap::Args)]
struct AloneArgs {
    /// The site's own TOML file; of it `[data]`, models, name, threads and device count.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The job's spec.
    #[arg(long, value_name = "JOB.TOML")]
    spec: PathBuf,
    /// How many rounds; the spec's unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: Option<u32>,
    /// What training starts from, instead of the seed's draw: a safetensors file, or a folder as Hugging
    /// Face's save_pretrained makes it.
    #[arg(long, value_name = "FILE|DIR")]
    init: Option<PathBuf>,
    /// Write the trained model here, as safetensors.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Args {
    /// The site's own TOML file: coordinator, name, `[data]`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(clap::Args)]
struct EnrollArgs {
    /// The coordinator, such as https://fl.example.org:7443.
    #[arg(value_name = "URL")]
    coordinator: String,
    /// The token that an admin gave you (`tributary token create`).
    #[arg(
        long,
        env = "TRIBUTARY_TOKEN",
        hide_env_values = true,
        required_unless_present = "token_file"
    )]
    token: Option<Token>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The site's own TOML file, whose state folder and name are used.
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    config: Option<PathBuf>,
    /// The state folder; tributary-client-NAME unless given.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// An HTTP proxy on the way, `http://[USER:PASSWORD@]HOST:PORT`; the client's file's, or else
    /// HTTPS_PROXY's (but for NO_PROXY), unless given.
    #[arg(long, env = "TRIBUTARY_PROXY", hide_env_values = true, value_name = "URL")]
    proxy: Option<Proxy>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match cli.command {
        Command::Run(args) => run(&ClientConfig::load(&args.config)?).await,
        Command::Enroll(args) => enrollment::run(args).await,
        Command::Identity(IdentityCommand::Import(args)) => enrollment::import(&args),
        Command::Ledger { args, json } => departures::run(&ClientConfig::load(&args.config)?, json),
        Command::Check(CheckArgs { args, spec }) => {
            check(&ClientConfig::load(&args.config)?, spec.as_deref())
        }
        Command::TrainLocal(args) => alone::run(&args),
    }
}

fn check(config: &ClientConfig, spec: Option<&Path>) -> anyhow::Result<()> {
    let spec = spec.map(|path| {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        JobSpec::parse(&text).map_err(|faults| anyhow::anyhow!("{}: {faults}", path.display()))
    });
    let spec = spec.transpose()?;
    let mut out = std::io::stdout().lock();
    // A job that names a data set is for that one alone.
    let named = spec.as_ref().and_then(|spec| spec.data.name.as_deref());
    let sets = config.data.iter().filter(|data| named.is_none_or(|name| data.name == name));
    for data in sets {
        if let Some(spec) = spec.as_ref().filter(|spec| spec.statistics.is_some()) {
            check_sums(config, data, spec, &mut out)?;
            continue;
        }
        for binding in check_data(data, spec.as_ref(), &mut out)? {
            tell(config, &config.policy.offered(binding));
        }
    }
    for model in open_models(config)? {
        writeln!(out, "pretrained model: {}; a job's [model] for it:", model.digest())?;
        writeln!(out, "{}", model.spec_lines()?)?;
    }
    Ok(())
}

/// What a job that asks for sums would hear before its first round; how the rows are read after it is
/// all sites' to say.
fn check_sums(
    config: &ClientConfig,
    data: &DataConfig,
    spec: &JobSpec,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if let Some(reason) = config.policy.refuses_statistics(spec) {
        anyhow::bail!("{reason}");
    }
    let sums = site_sums(&data.source, spec)?;
    let sums = config.policy.told(sums).map_err(anyhow::Error::msg)?;
    writeln!(out, "rows to train on: {}", sums.rows)?;
    for (at, feature) in sums.features.iter().enumerate().filter(|(_, sums)| sums.count > 0) {
        let (mean, deviation) = (feature.mean().unwrap_or(0.0), feature.deviation().unwrap_or(0.0));
        let (count, left_out) = (feature.count, feature.left_out);
        writeln!(
            out,
            "feature {at}: {count} values of mean {mean:.6}, deviation {deviation:.6}; {left_out} left out"
        )?;
    }
    if spec.statistics.as_ref().is_some_and(|statistics| statistics.asked.tokens.is_some()) {
        let told = sums.tokens.len();
        writeln!(out, "tokens told: {told}, and that {} more occurrences are not", sums.left_out)?;
    }
    if !sums.names.is_empty() {
        writeln!(out, "class names: {}", sums.names.join(", "))?;
    }
    tracing::info!("the job would hear this before its first round, in the clear");
    Ok(())
}

/// Reads one data set, as a job wants it where there is one, and prints what it is.
fn check_data(
    data: &DataConfig,
    spec: Option<&JobSpec>,
    out: &mut impl Write,
) -> anyhow::Result<Vec<Binding>> {
    let format = &data.source.format;
    let wanted = match spec {
        Some(spec) => Wanted::by_job(spec),
        None if format.needs_job() => Wanted::count(),
        None => Wanted::default(),
    };
    let counted = spec.is_none() && format.needs_job();
    for what in spec.iter().flat_map(|_| data.source.decides(&wanted)) {
        tracing::warn!(
            what,
            "the job does not say it, and this site's own is used: sites may differ"
        );
    }
    let opened = open(&data.source, &wanted)?;
    if counted {
        tracing::warn!("rows are only counted: a job says how they are read (`--spec job.toml`)");
    }
    writeln!(out, "{}", opened.summary()?)?;
    Ok(if counted {
        opened.open_bindings(&data.name, format)
    } else {
        vec![opened.binding(&data.name)]
    })
}

fn tell(config: &ClientConfig, binding: &Binding) {
    tracing::info!(
        name = %config.agent.name,
        data = %binding.name,
        kind = %binding.kind,
        classes = binding.classes,
        shape = ?binding.shape,
        train_examples = binding.train_examples,
        evaluate_examples = binding.evaluate_examples,
        "the coordinator would hear this, and nothing else of the data"
    );
}

/// The pretrained models of the site, each told by the digest that a spec names.
fn open_models(config: &ClientConfig) -> anyhow::Result<Vec<Pretrained>> {
    let open = |folder: &std::path::PathBuf| {
        let model = Pretrained::open(folder)?;
        tracing::info!(folder = %folder.display(), digest = %model.digest(), "a pretrained model");
        Ok(model)
    };
    config.models.iter().map(open).collect()
}

async fn run(config: &ClientConfig) -> anyhow::Result<()> {
    let bases = Arc::new(Bases::new(open_models(config)?));
    let trainer = LocalTrainer::open(&config.data, config.compute)?.with_bases(bases);
    let trainer = Arc::new(trainer);
    let observer: Arc<dyn Observer> =
        if std::io::stderr().is_terminal() { Arc::new(bar::Bar::new()) } else { Arc::new(Log) };
    let agent =
        Agent::new(config.agent.clone(), trainer, observer).with_policy(config.policy.clone());
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    tracing::info!(name = %config.agent.name, coordinator = %config.agent.coordinator, "started");
    agent.run(stop).await?;
    tracing::info!("stopped");
    Ok(())
}
