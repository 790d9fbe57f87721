//! `tributary-coordinator`: serve, migrate, ca, token, check-config.

use std::io::IsTerminal;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tributary_coordinator::app::{Coordinator, migrate};
use tributary_coordinator::commands::{Args, CaCommand, TokenArgs, VerifyArgs, ca, token, verify};
use tributary_coordinator::config::Config;

/// Schedules rounds, aggregates updates, keeps the history.
///
/// Without a configuration it listens on 127.0.0.1:7443 and keeps everything in ./tributary-data
/// (a SQLite file and a folder of blobs). Every key of the file can be set by a variable as well:
/// TRIBUTARY__DATABASE_URL=postgres://…
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM or SIGINT; a later start goes on with the same jobs.
    Serve(Args),
    /// Bring the database to this version's schema, and stop.
    Migrate(Args),
    /// Make, take over or rotate the certificate authority.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Print a one-time token for the first admin (later ones: `tributary token create`).
    Token(TokenArgs),
    /// Recompute a job's committed rounds from the record and the stored updates, offline: prints one
    /// JSON object. It needs keep_updates = "always", and with SQLite a coordinator that is stopped.
    Verify(VerifyArgs),
    /// Read the configuration, print it (passwords hidden), and stop.
    CheckConfig(Args),
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
        Command::Serve(args) => serve(&args.load()?).await,
        Command::Migrate(args) => {
            let config = args.load()?;
            migrate(&config).await?;
            tracing::info!("the database is up to date");
            Ok(())
        }
        Command::Ca(command) => ca(command),
        Command::Token(args) => token(args).await,
        Command::Verify(args) => verify(args).await,
        Command::CheckConfig(args) => {
            tracing::info!("{}", args.load()?.redacted());
            Ok(())
        }
    }
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    tracing::info!("{}", config.redacted());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut coordinator = Coordinator::start(config).await?;
    tracing::info!(address = %coordinator.address(), url = %coordinator.url(), "serving");
    tokio::select! {
        ended = coordinator.ended() => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    coordinator.stop().await?;
    tracing::info!("stopped");
    Ok(())
}
