//! Benches: each compares two things in one run and prints one JSON object on its last line.

mod aggregate;
mod chaos;
mod memory;
mod paper;
mod rounds;
mod train;

use crate::args::Bench;

pub(crate) async fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Rounds(args) => rounds::run(args).await,
        Bench::Aggregate(args) => aggregate::run(args).await,
        Bench::Train(args) => tokio::task::spawn_blocking(move || train::run(&args)).await?,
        Bench::Chaos(args) => tokio::task::spawn_blocking(move || chaos::run(&args)).await?,
        Bench::Paper(args) => Box::pin(paper::run(args)).await,
        Bench::Serve { dir, database } => rounds::serve(&dir, database).await,
        Bench::Echo { at, name, dir, features } => rounds::echo(&at, &name, dir, features).await,
    }
}
