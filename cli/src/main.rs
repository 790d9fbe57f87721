//! `tributary`: the operator's tool. Everything but `demo` and `bench` is a call over gRPC.
#![allow(clippy::print_stdout)]

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

mod args;
mod bench;
mod connect;
mod data;
mod demo;
mod figure;
mod jobs;
mod scores;
mod table;

use args::{Cli, Command};

// Training in the demo takes and drops big buffers with every batch; glibc would give each back to
// the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match Box::pin(run(cli)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that went away (`tributary rounds … | head`) is no failure of ours.
            tracing::debug!(?error, "failed");
            eprintln_chain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr)]
fn eprintln_chain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let out = cli.output;
    let at = cli.coordinator;
    let identity = cli.identity.unwrap_or_else(connect::identity_default);
    connect::use_identity(identity.clone());
    connect::use_proxy(cli.proxy);
    match cli.command {
        Command::Demo(args) => demo::run(args, out).await,
        Command::Submit(args) => jobs::submit::run(&at, args, out).await,
        Command::Status { job } => jobs::status::run(&at, job.as_deref(), out).await,
        Command::Watch { job } => jobs::watch::run(&at, &job, out).await,
        Command::Rounds { job } => jobs::rounds::list(&at, &job, out).await,
        Command::Round { job, number } => jobs::rounds::show(&at, &job, number, out).await,
        Command::Clients => jobs::clients::run(&at, out).await,
        Command::Enroll(args) => jobs::members::enroll(&at, args, &identity).await,
        Command::Token(args) => jobs::members::token(&at, args, out).await,
        Command::Client(args::ClientCommand::Revoke { name, reason }) => {
            jobs::members::revoke(&at, "client", name, reason, out).await
        }
        Command::Identities { revoke, reason } => {
            jobs::members::identities(&at, revoke, reason, out).await
        }
        Command::Audit { what } => jobs::audit::run(&at, what.unwrap_or_default(), out).await,
        Command::Events { job } => jobs::events::run(&at, &job, out).await,
        Command::Model(args::Model::Pull(args)) => jobs::model::pull(&at, args, out).await,
        Command::Cancel { job, reason } => jobs::control::cancel(&at, job, reason, out).await,
        Command::Pause { job } => jobs::control::pause(&at, job, out).await,
        Command::Resume { job } => jobs::control::resume(&at, job, out).await,
        Command::Data(args::Data::Prepare(what)) => data::prepare(what, out),
        Command::Bench(args) => bench::run(args).await,
    }
}
