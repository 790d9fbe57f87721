//! `cargo run -p tributary-fuzz -- [TARGET…]`: tries targets for longer than a test run may.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use tributary_fuzz::driver::{Plan, run};
use tributary_fuzz::{corpus, targets};

/// Tries every parser of a stranger's bytes with mutations of the corpus.
#[derive(Parser)]
struct Args {
    /// Targets; all of them where none is named.
    targets: Vec<String>,
    /// What mutations are drawn by: the same seed tries the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mutations of each target.
    #[arg(long, default_value_t = 100_000)]
    runs: u32,
    /// Seconds of each target, after which the next one begins.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where inputs are kept that a target cannot stand.
    #[arg(long, default_value = "target/fuzz")]
    findings: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let chosen = match args.targets.is_empty() {
        true => targets::all(),
        false => {
            args.targets.iter().map(|name| targets::named(name)).collect::<anyhow::Result<_>>()?
        }
    };
    for target in chosen {
        let seeds = match targets::fresh(target.name) {
            Some(seed) => vec![seed],
            None => corpus::read(&corpus::folder(), target.name)?,
        };
        let plan = Plan {
            seed: args.seed,
            runs: args.runs,
            until: args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            findings: args.findings.clone(),
        };
        let score = run(&target, &seeds, &plan)?;
        println!(
            "{}: {} files, {} mutations accepted, {} refused",
            target.name, score.seeds, score.accepted, score.refused
        );
    }
    Ok(())
}
