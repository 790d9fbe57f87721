//! `tributary-client`: the agent on a data-holding machine.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tributary_client::agent::Agent;
use tributary_client::config::ClientConfig;
use tributary_client::observer::{Log, Observer};
use tributary_client::trainer::{CandleTrainer, Trainer};

mod bar;

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
    /// Read the configuration and the data, say what this site would offer, and stop.
    Check(Args),
}

#[derive(clap::Args)]
struct Args {
    /// The site's own TOML file: coordinator, name, [data].
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
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
        Command::Check(args) => check(&ClientConfig::load(&args.config)?),
    }
}

fn check(config: &ClientConfig) -> anyhow::Result<()> {
    let trainer = CandleTrainer::open(&config.data, config.threads)?;
    for binding in trainer.bindings() {
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
    Ok(())
}

async fn run(config: &ClientConfig) -> anyhow::Result<()> {
    let trainer = Arc::new(CandleTrainer::open(&config.data, config.threads)?);
    let observer: Arc<dyn Observer> =
        if std::io::stderr().is_terminal() { Arc::new(bar::Bar::new()) } else { Arc::new(Log) };
    let agent = Agent::new(config.agent.clone(), trainer, observer);
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
