//! `tributary-client`: the agent on a data-holding machine.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tributary_client::agent::Agent;
use tributary_client::config::ClientConfig;
use tributary_client::observer::{Log, Observer};
use tributary_client::rpc::Proxy;
use tributary_client::trainer::{Bases, LocalTrainer};
use tributary_core::identity::Token;
use tributary_core::spec::JobSpec;
use tributary_learning::Pretrained;

mod alone;
mod bar;
mod check;
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
        #[command(flatten)]
        form: Form,
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

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines for people.
    Table,
    /// JSON.
    Json,
}

#[derive(clap::Args)]
struct Form {
    /// A table for people, or JSON for programs: one document, of a ledger one a line.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    args: Args,
    #[command(flatten)]
    form: Form,
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
    #[command(flatten)]
    form: Form,
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
        Command::Ledger { args, form } => {
            departures::run(&ClientConfig::load(&args.config)?, form.output)
        }
        Command::Check(CheckArgs { args, form, spec }) => {
            check::run(&ClientConfig::load(&args.config)?, spec.as_deref(), form.output)
        }
        Command::TrainLocal(args) => alone::run(&args),
    }
}

fn read_spec(path: &Path) -> anyhow::Result<JobSpec> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    JobSpec::parse(&text).map_err(|faults| anyhow::anyhow!("{}: {faults}", path.display()))
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
