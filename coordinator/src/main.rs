//! `tributary-coordinator`: serve, migrate, check-config.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tributary_coordinator::app::{Coordinator, migrate};
use tributary_coordinator::config::{Config, Flags};

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
    /// Read the configuration, print it (passwords hidden), and stop.
    CheckConfig(Args),
}

#[derive(clap::Args)]
struct Args {
    /// A TOML file with listen, data_dir, database_url, allow_insecure, keep_updates.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the gRPC port, such as 127.0.0.1:7443; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Folder for blobs and the default database.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Args {
    fn load(self) -> anyhow::Result<Config> {
        let flags = Flags { config: self.config, listen: self.listen, data_dir: self.data_dir };
        Config::load(&flags, std::env::vars())
    }
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
    tracing::info!(address = %coordinator.address(), "serving");
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
