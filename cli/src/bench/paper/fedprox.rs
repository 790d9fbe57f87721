//! FedProx on Synthetic(1, 1) where nine of ten devices are stragglers (Li et al. 2020, figure 1): whether
//! keeping partial work and the proximal term beat FedAvg, which drops the stragglers.
//!
//! Of the ten devices of a round one does all 20 epochs, and each of the others as many as its draw from
//! 1 to 20 says: a trainer around the participant's own, which lowers `local_epochs` before it trains.
//! All else is the product's path: the spec's `proximal_mu`, FedAvg's weighted mean, the agents, gRPC.
//! FedAvg drops the nine, so its round is the one device's: its job asks for a cohort of one, which the
//! seeded draw makes the very device that is in time in the other arms.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tributary_client::trainer::{Control, LocalTrainer, Order, Trained, Trainer, TrainerError};
use tributary_core::binding::Binding;
use tributary_core::metrics::Statistics;
use tributary_core::name::ClientName;
use tributary_core::prg::Prg;
use tributary_core::round::cohort::{Member, Roster, draw};

use super::synthetic::{CLASSES, DEVICES, FEATURES, NAME as DATA, synthetic};
use super::trial::{LAST, Late, Run, Trial};
use super::{BATCH, eprint_line};
use crate::args::PaperArgs;
use crate::demo::data::Shares;
use crate::figure::{Figure, Series};

pub(super) const NAME: &str = "fedprox-synthetic";
const PAPER: &str = "Li et al. 2020, Federated Optimization in Heterogeneous Networks";
const PLACE: &str = "figure 1, Synthetic(1, 1), 90% stragglers; +22 points of accuracy on average over its data sets";
const ROUNDS: u32 = 200;
const LOCAL_EPOCHS: u32 = 20;
/// As the paper has it for the synthetic data.
const LEARNING_RATE: f64 = 0.01;
/// Devices drawn in a round.
const COHORT: u32 = 10;
/// The gate is on the mean of so many seeds.
const SEEDS_MIN: usize = 5;
/// How much higher FedProx's accuracy must be than FedAvg's.
const GAIN_MIN: f64 = 0.10;
/// How much of FedAvg's loss FedProx's may be.
const LOSS_RATIO_MAX: f64 = 0.7;

/// One line of the paper's figure.
struct Arm {
    name: &'static str,
    proximal_mu: f64,
    cohort: u32,
}

const FEDAVG: usize = 0;
const FEDPROX: usize = 2;
const ARMS: [Arm; 3] = [
    Arm { name: "FedAvg, stragglers dropped", proximal_mu: 0.0, cohort: 1 },
    Arm { name: "FedProx, mu = 0: partial work kept", proximal_mu: 0.0, cohort: COHORT },
    Arm { name: "FedProx, mu = 1", proximal_mu: 1.0, cohort: COHORT },
];

impl Arm {
    /// Nothing is decided by time, so a seed is one result; and a job that runs away is measured, too.
    fn spec_text(&self, seed: u64, rounds: u32) -> String {
        let Self { proximal_mu, cohort, .. } = self;
        format!(
            "[job]\nname = \"{NAME}\"\nrounds = {rounds}\nseed = {seed}\n\
             [data]\nname = \"{DATA}\"\nkind = \"table\"\nclasses = {CLASSES}\n\
             [model]\npreset = \"logistic_regression\"\ninput = {{ shape = [{FEATURES}] }}\n\
             [train]\nlocal_epochs = {LOCAL_EPOCHS}\nbatch_size = {BATCH}\nproximal_mu = {proximal_mu:?}\n\
             optimizer = {{ kind = \"sgd\", learning_rate = {LEARNING_RATE:?} }}\n\
             [strategy]\nnorm_factor = 0\nloss_factor = 0\n\
             [cohort]\nexact_replay = true\nfraction_train = 0\nmin_available_clients = {DEVICES}\n\
             min_train_clients = {cohort}\nmin_updates = {cohort}\nlease_s = 300\n\
             [evaluation]\nfinal = false\n"
        )
    }
}

pub(super) async fn run(args: &PaperArgs) -> anyhow::Result<()> {
    if args.data.is_some() {
        bail!("--data: expected nothing, as {NAME} draws its own rows by seed; leave it out");
    }
    if args.choose_rate.is_some() {
        bail!("--choose-rate: expected nothing, as {NAME} has the paper's rate; leave it out");
    }
    if let Some(rounds) = args.rounds.filter(|&rounds| rounds > ROUNDS) {
        bail!("--rounds: expected 1 to {ROUNDS}, the paper's number, found {rounds}");
    }
    let rounds = args.rounds.unwrap_or(ROUNDS);
    let limit = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let mut arms: [Vec<Run>; ARMS.len()] = Default::default();
    for &seed in &args.seeds {
        for (arm, runs) in ARMS.iter().zip(&mut arms) {
            eprint_line(&format!("{}: seed {seed}", arm.name));
            let trial = Trial { spec: arm.spec_text(seed, rounds), seed, target: None, limit };
            let shares = synthetic(1.0, 1.0, seed)?;
            let stragglers = Arc::new(Stragglers::of(&shares, seed)?);
            let slowed = |own| -> Arc<dyn Trainer> {
                Arc::new(Slowed { own, stragglers: stragglers.clone() })
            };
            let run = trial.run_with(shares, slowed).await;
            runs.push(run.with_context(|| format!("{}, seed {seed}", arm.name))?);
        }
    }
    if let Some(path) = &args.figure {
        figure(&arms).write(path)?;
    }
    tell(&arms, args.seeds.len())
}

/// Prints what came, and holds it against the gate where all of it was run.
fn tell(arms: &[Vec<Run>; ARMS.len()], seeds: usize) -> anyhow::Result<()> {
    let late = [FEDAVG, FEDPROX].map(|arm| Late::of(&arms[arm]));
    let gain = late[1].accuracy - late[0].accuracy;
    let loss_ratio = late[1].loss / late[0].loss;
    let whole = arms.iter().flatten().all(|run| run.rounds == ROUNDS) && seeds >= SEEDS_MIN;
    let passed = passes(gain, loss_ratio);
    let arm = |(arm, runs): (&Arm, &Vec<Run>)| {
        json!({
            "name": arm.name,
            "proximal_mu": arm.proximal_mu,
            "updates_a_round": arm.cohort,
            "mean": Late::of(runs),
            "runs": runs,
        })
    };
    let line = json!({
        "bench": "paper",
        "name": NAME,
        "paper": PAPER,
        "place": PLACE,
        "clients": DEVICES,
        "local_epochs": LOCAL_EPOCHS,
        "batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "averaged_rounds": LAST,
        "gain": gain,
        "gate_gain": GAIN_MIN,
        "loss_ratio": loss_ratio,
        "gate_loss_ratio": LOSS_RATIO_MAX,
        "passed": whole.then_some(passed),
        "arms": ARMS.iter().zip(arms).map(arm).collect::<Vec<_>>(),
    });
    println!("{line}");
    if whole && !passed {
        bail!(
            "FedProx's accuracy is {gain:+.4} from FedAvg's, its loss {loss_ratio:.3} of it: the gate is \
             +{GAIN_MIN} and {LOSS_RATIO_MAX}"
        );
    }
    Ok(())
}

/// A loss that is no number passes nothing.
fn passes(gain: f64, loss_ratio: f64) -> bool {
    gain >= GAIN_MIN && loss_ratio <= LOSS_RATIO_MAX
}

/// Each arm's accuracy from round to round, as the mean of its seeds.
fn figure(arms: &[Vec<Run>; ARMS.len()]) -> Figure {
    let series = |(arm, runs): (&Arm, &Vec<Run>)| {
        let rounds = runs.iter().map(|run| run.curve.len()).min().unwrap_or(0);
        let mean = |at: usize| runs.iter().map(|run| run.curve[at].accuracy).sum::<f64>();
        let points = (0..rounds).map(|at| ((at + 1) as f64, mean(at) / runs.len() as f64));
        Series { name: arm.name.to_owned(), points: points.collect() }
    };
    Figure {
        title: format!("Synthetic(1, 1), 90% stragglers, E = {LOCAL_EPOCHS}, B = {BATCH}"),
        measure: "test accuracy, mean of the seeds".to_owned(),
        series: ARMS.iter().zip(arms).map(series).collect(),
        target: None,
    }
}

/// Who of a round's devices runs out of time, and when.
struct Stragglers {
    roster: Roster,
    seed: u64,
}

impl Stragglers {
    fn of(shares: &Shares, seed: u64) -> anyhow::Result<Self> {
        let member = |site: &String| {
            let name: ClientName = site.parse()?;
            anyhow::Ok(Member { name, train_examples: 1, evaluate_examples: 0, present: true })
        };
        let members = shares.train.iter().map(|share| member(&share.site));
        Ok(Self { roster: Roster::new(members.collect::<Result<_, _>>()?), seed })
    }

    /// All epochs for the first of the draw, which is uniform among all devices; for every other one
    /// uniform from 1.
    fn epochs(&self, round: u32, client: &ClientName) -> u32 {
        // With `exact_replay` nothing but a lost checkpoint makes a second attempt.
        let first = draw(&self.roster, &BTreeSet::new(), 1, (self.seed, round, 1));
        if first.contains(client) {
            return LOCAL_EPOCHS;
        }
        let mut prg = Prg::for_client(self.seed, round, client, "straggler");
        prg.below(u64::from(LOCAL_EPOCHS)) as u32 + 1
    }
}

/// A participant's own trainer, with the epochs that the device has time for.
struct Slowed {
    own: LocalTrainer,
    stragglers: Arc<Stragglers>,
}

impl Trainer for Slowed {
    fn bindings(&self) -> Vec<Binding> {
        self.own.bindings()
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        let mut spec = order.spec.clone();
        spec.train.local_epochs = self.stragglers.epochs(order.round, order.client);
        self.own.train(&Order { spec: &spec, ..*order }, control)
    }

    fn evaluate(
        &self,
        order: &Order<'_>,
        control: &dyn Control,
    ) -> Result<Statistics, TrainerError> {
        self.own.evaluate(order, control)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tributary_core::round::cohort::draw;
    use tributary_core::spec::JobSpec;

    use super::{
        ARMS, COHORT, DEVICES, FEDAVG, FEDPROX, LOCAL_EPOCHS, ROUNDS, Stragglers, passes, synthetic,
    };

    #[test]
    fn every_arm_is_a_sound_job_of_the_same_work() {
        for (at, arm) in ARMS.iter().enumerate() {
            let spec = JobSpec::parse(&arm.spec_text(1, ROUNDS));
            let spec = spec.unwrap_or_else(|faults| panic!("{}: {faults}", arm.name));
            assert_eq!(spec.train.local_epochs, LOCAL_EPOCHS);
            assert_eq!(spec.cohort.size(DEVICES), arm.cohort as usize);
            assert_eq!(spec.train.proximal_mu, if at == FEDPROX { 1.0 } else { 0.0 });
        }
        assert_eq!((ARMS[FEDAVG].cohort, ARMS[FEDPROX].cohort), (1, COHORT));
    }

    #[test]
    fn one_device_of_a_round_has_time_and_it_is_the_one_that_fedavg_keeps() {
        let shares = synthetic(1.0, 1.0, 3).expect("rows");
        let stragglers = Stragglers::of(&shares, 3).expect("names");
        let mut late = Vec::new();
        for round in 1..=ROUNDS {
            let cohort = |count| draw(&stragglers.roster, &BTreeSet::new(), count, (3, round, 1));
            let (kept, asked) = (cohort(1), cohort(COHORT as usize));
            assert_eq!(kept[0], asked[0]);
            assert_eq!(stragglers.epochs(round, &kept[0]), LOCAL_EPOCHS);
            late.extend(asked[1..].iter().map(|client| stragglers.epochs(round, client)));
        }
        assert!(late.iter().all(|epochs| (1..=LOCAL_EPOCHS).contains(epochs)));
        let mean = late.iter().map(|&epochs| f64::from(epochs)).sum::<f64>() / late.len() as f64;
        assert!((mean - 10.5).abs() < 0.5, "1,800 draws from 1 to 20: {mean}");
    }

    #[test]
    fn a_loss_that_is_no_number_passes_nothing() {
        assert!(passes(0.10, 0.7) && !passes(0.09, 0.5) && !passes(0.3, 0.71));
        assert!(!passes(f64::NAN, 0.5) && !passes(0.3, f64::NAN));
    }
}
