//! `cargo xtask simulate`: a long run of the simulation, over more seeds than the tests have.

use anyhow::Context as _;

/// Seeds unless told otherwise: some ten times those of the tests.
const SEEDS: u64 = 2_000;

/// Runs the seeds that the options name.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let (mut seeds, mut from) = (SEEDS, 0);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let number = match option.as_str() {
            "--seeds" => &mut seeds,
            "--from" => &mut from,
            _ => anyhow::bail!("no option {option:?}: expected --seeds N or --from S"),
        };
        let text = options.next().with_context(|| format!("{option} needs a number"))?;
        *number = text
            .parse()
            .with_context(|| format!("{option}: expected a number from 0, found {text:?}"))?;
    }
    let test = ["test", "--locked", "-p", "tributary-simulation", "--test", "simulation"];
    let mut command = xtask::cargo();
    command.args(test).args(["--", "every_seed_keeps_the_rules", "--nocapture"]);
    command.env("TRIBUTARY_SIMULATE_SEEDS", seeds.to_string());
    command.env("TRIBUTARY_SIMULATE_FROM", from.to_string());
    let status = command.status().context("cargo does not start")?;
    anyhow::ensure!(status.success(), "a seed broke a rule; its operations stand above");
    Ok(())
}
