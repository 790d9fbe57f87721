//! `cargo xtask`: the one command that checks everything.
// A program's own output goes to its standard output.
#![allow(clippy::print_stdout)]

mod ci;
mod simulate;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask ci [--skip STEP]... [--only STEP]...
       cargo xtask simulate [--seeds N] [--from S]

`ci` runs the checks of the house one after the other, and stops at the first that fails.
`simulate` runs federations under faults, one a seed, and prints the short list of one that fails.
Steps: ";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((word, options)) if word == "ci" => ci::choose(options).and_then(|s| ci::run(&s)),
        Some((word, options)) if word == "simulate" => simulate::run(options),
        Some((word, _)) if !matches!(word.as_str(), "help" | "-h" | "--help") => {
            Err(anyhow::anyhow!("no command {word:?}: expected ci or simulate"))
        }
        _ => {
            println!("{USAGE}{}", ci::names());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
