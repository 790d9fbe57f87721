//! Headlines of papers, with the paper's model, clients and local work: rounds to a test accuracy
//! (McMahan et al. 2017), and accuracy among stragglers (`fedprox`).
//! The clients are real participants over gRPC on loopback, in this process.
//!
//! Learning rates are stated here, before any run, or chosen on rows of the training set that are held
//! out for it; never on the test set. Seeds come by flag, and all of them are reported.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use crate::args::PaperArgs;
use crate::demo::data::mnist_shares;
use crate::figure::{Figure, Series};

mod choice;
mod fedprox;
mod synthetic;
mod trial;

use trial::{Run, Trial};

/// McMahan et al. 2017: 100 clients, a tenth of them in each round.
const CLIENTS: usize = 100;
const PAPER: &str = "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from \
                     Decentralized Data";

/// One headline.
struct Case {
    name: &'static str,
    preset: &'static str,
    partition: &'static str,
    local_epochs: u32,
    learning_rate: f64,
    /// The test accuracy to reach.
    target: f64,
    /// Rounds that the paper needs, and where they stand.
    paper: (u32, &'static str),
    /// Rounds that the median of the seeds may need.
    gate: u32,
    rounds_max: u32,
}

impl Case {
    fn spec_text(&self, seed: u64, learning_rate: f64, rounds: u32) -> String {
        let Self { name, preset, local_epochs, .. } = self;
        format!(
            "[job]\nname = \"{name}\"\nrounds = {rounds}\nseed = {seed}\n\
             [data]\nname = \"digits\"\nkind = \"image\"\nclasses = 10\n\
             [model]\npreset = \"{preset}\"\n\
             [train]\nlocal_epochs = {local_epochs}\nbatch_size = {BATCH}\n\
             optimizer = {{ kind = \"sgd\", learning_rate = {learning_rate:?} }}\n\
             [cohort]\nfraction_train = 0.1\nmin_available_clients = {CLIENTS}\n\
             min_train_clients = 10\nmin_updates = 10\ndeadline_s = 3600\nlease_s = 300\n\
             [evaluation]\nfinal = false\n"
        )
    }
}

/// B = 10 everywhere.
const BATCH: u32 = 10;

const CASES: [Case; 6] = [
    Case {
        name: "2nn-iid",
        preset: "mnist_2nn",
        partition: "iid",
        local_epochs: 1,
        learning_rate: 0.1,
        target: 0.97,
        paper: (87, "table 1, 2NN, C = 0.1, E = 1, B = 10, IID"),
        gate: 87,
        rounds_max: 120,
    },
    Case {
        name: "2nn-shards",
        preset: "mnist_2nn",
        partition: "shards",
        local_epochs: 1,
        learning_rate: 0.1,
        target: 0.97,
        paper: (664, "table 1, 2NN, C = 0.1, E = 1, B = 10, two shards a client"),
        gate: 664,
        rounds_max: 700,
    },
    Case {
        name: "2nn-iid-e20",
        preset: "mnist_2nn",
        partition: "iid",
        local_epochs: 20,
        learning_rate: 0.1,
        target: 0.97,
        paper: (32, "table 4, 2NN, C = 0.1, E = 20, B = 10, IID"),
        gate: 32,
        rounds_max: 50,
    },
    Case {
        name: "cnn-iid",
        preset: "mnist_cnn",
        partition: "iid",
        local_epochs: 5,
        learning_rate: 0.1,
        target: 0.99,
        paper: (20, "table 2, CNN, C = 0.1, E = 5, B = 10, IID"),
        gate: 24,
        rounds_max: 40,
    },
    Case {
        name: "cnn-iid-e1",
        preset: "mnist_cnn",
        partition: "iid",
        local_epochs: 1,
        learning_rate: 0.1,
        target: 0.99,
        paper: (34, "table 2, CNN, C = 0.1, E = 1, B = 10, IID"),
        gate: 40,
        rounds_max: 60,
    },
    Case {
        name: "cnn-shards",
        preset: "mnist_cnn",
        partition: "shards",
        local_epochs: 5,
        learning_rate: 0.05,
        target: 0.99,
        paper: (229, "table 2, CNN, C = 0.1, E = 5, B = 10, two shards a client"),
        gate: 229,
        rounds_max: 400,
    },
];

pub(crate) async fn run(args: PaperArgs) -> anyhow::Result<()> {
    if args.name == fedprox::NAME {
        return fedprox::run(&args).await;
    }
    let Some(case) = CASES.iter().find(|case| case.name == args.name) else {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).chain([fedprox::NAME]).collect();
        bail!("expected one of the headlines {}, found {:?}", names.join(", "), args.name);
    };
    if let Some(rounds) = args.rounds.filter(|rounds| !(1..=case.rounds_max).contains(rounds)) {
        bail!("--rounds: expected 1 to {}, the headline's limit, found {rounds}", case.rounds_max);
    }
    let data = args.data.as_deref();
    let data = data.with_context(|| format!("{} needs --data, MNIST's folder", case.name))?;
    let choice = match args.choose_rate {
        Some(rounds) => Some(choice::choose(case, rounds, data).await?),
        None => None,
    };
    let learning_rate = choice.as_ref().map_or(case.learning_rate, |choice| choice.learning_rate);
    let rounds = args.rounds.unwrap_or(case.rounds_max);
    let limit = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let mut runs = Vec::new();
    for &seed in &args.seeds {
        eprint_line(&format!("{}: seed {seed}", case.name));
        let shares = mnist_shares(data, case.partition, CLIENTS, seed)?;
        let target = Some(case.target);
        let spec = case.spec_text(seed, learning_rate, rounds);
        let trial = Trial { spec, seed, target, limit };
        runs.push(trial.run(shares).await.with_context(|| format!("seed {seed}"))?);
    }
    if let Some(path) = &args.figure {
        figure(case, &runs).write(path)?;
    }
    let median = median(runs.iter().map(|run| run.rounds_to_target).collect());
    let passed = median.is_some_and(|rounds| rounds <= case.gate);
    let cut = runs.iter().any(|run| run.rounds_to_target.is_none() && run.rounds < case.rounds_max);
    let line = json!({
        "bench": "paper",
        "name": case.name,
        "paper": PAPER,
        "place": case.paper.1,
        "model": case.preset,
        "clients": CLIENTS,
        "fraction_train": 0.1,
        "local_epochs": case.local_epochs,
        "batch_size": BATCH,
        "learning_rate": learning_rate,
        "choice": choice,
        "partition": case.partition,
        "target_accuracy": case.target,
        "paper_rounds": case.paper.0,
        "gate_rounds": case.gate,
        "median_rounds": median,
        "passed": (!cut).then_some(passed),
        "runs": runs,
    });
    println!("{line}");
    if !passed && !cut {
        bail!("the median of the seeds is above the gate of {} rounds", case.gate);
    }
    Ok(())
}

/// The middle one; none where it was not reached. The lower of two middles would flatter.
fn median(mut rounds: Vec<Option<u32>>) -> Option<u32> {
    rounds.sort_by_key(|rounds| rounds.unwrap_or(u32::MAX));
    rounds.get(rounds.len() / 2).copied().flatten()
}

#[allow(clippy::print_stderr)]
fn eprint_line(line: &str) {
    eprintln!("{line}");
}

fn figure(case: &Case, runs: &[Run]) -> Figure {
    let series = |run: &Run| Series {
        name: format!("seed {}", run.seed),
        points: run.curve.iter().map(|p| (f64::from(p.round), p.accuracy)).collect(),
    };
    Figure {
        title: format!(
            "{}: {CLIENTS} clients, {}, E = {}, B = {BATCH}",
            case.preset, case.partition, case.local_epochs
        ),
        measure: "test accuracy".to_owned(),
        series: runs.iter().map(series).collect(),
        target: Some((
            case.target,
            format!("{}: the paper needs {} rounds", case.target, case.paper.0),
        )),
    }
}

#[cfg(test)]
mod tests {
    use tributary_core::spec::JobSpec;

    use super::{CASES, median};

    #[test]
    fn every_headline_is_a_sound_job() {
        for case in &CASES {
            let spec = case.spec_text(1, case.learning_rate, case.rounds_max);
            let spec = JobSpec::parse(&spec);
            let spec = spec.unwrap_or_else(|faults| panic!("{}: {faults}", case.name));
            assert!(case.gate <= case.rounds_max && spec.train.local_epochs == case.local_epochs);
        }
    }

    #[test]
    fn a_seed_that_never_came_there_counts_as_the_slowest() {
        assert_eq!(median(vec![Some(30), None, Some(20)]), Some(30));
        assert_eq!(median(vec![None, None, Some(20)]), None);
        assert_eq!(median(vec![Some(20), Some(30)]), Some(30));
    }
}
