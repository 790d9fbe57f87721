//! `bench aggregate`: how fast stored updates become the next checkpoint, against a plain add.
//!
//! The updates are distinct stored blobs: written through the coordinator's own store, with fsync,
//! checked as they are at acceptance, and warm in the page cache. Measured, in turns, over the same
//! blobs, with the same threads and the same reads:
//!
//! - *fold*: the coordinator's `fold_round`, to a checkpoint that is hashed, written and fsynced;
//! - *sum*: the fold's integer sums alone, dropped;
//! - *plain add*: `sum += x` in f32, the sums dropped;
//! - *read*: the same passes without arithmetic.
//!
//! The fold's peak memory is the kernel's high-water mark, set back before each fold. Where memory
//! allows, the arithmetic alone is measured last, on copies of the updates in memory.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tributary_coordinator::aggregation::scan::{Cut, Pass, Scan, Weighted};
use tributary_coordinator::aggregation::{Contribution, FoldPlan, fold_round};
use tributary_coordinator::blobs::{Blobs, checkpoint_key};
use tributary_core::aggregate::{CONTRIBUTIONS_MAX, Engine, Scale};
use tributary_core::codec;
use tributary_core::params::{PARAMETERS_MAX, Schema};

use super::memory::{peak_rss_mb, rss_mb};
use crate::args::AggregateArgs;

mod memory;
mod passes;
mod prepare;

use passes::{PlainAdd, ReadOnly, Sum};

/// How often each thing is measured; medians are reported.
const REPETITIONS: u32 = 5;
/// X of every job that does not say otherwise.
const MAX_ABS_EXPONENT: u8 = 6;
/// The cap of the bench's roster.
const EXAMPLES_MAX: u64 = 1 << 20;

/// Runs the bench and prints its JSON object.
///
/// # Errors
/// On numbers that no round has, and when a blob cannot be written or folded.
pub(crate) async fn run(args: AggregateArgs) -> anyhow::Result<()> {
    let (rule, updates) = (args.rule.as_str(), args.updates);
    ensure!(rule == "fedavg", "--rule: expected fedavg, found {rule}");
    let updates_ok = (1..=CONTRIBUTIONS_MAX).contains(&(updates as usize));
    ensure!(updates_ok, "--updates: expected 1 to {CONTRIBUTIONS_MAX}, found {updates}");
    let params = usize::try_from(args.params).unwrap_or(usize::MAX);
    let params_ok = (1..=PARAMETERS_MAX).contains(&params);
    ensure!(params_ok, "--params: expected 1 to {PARAMETERS_MAX}, found {params}");
    let mut builder = tempfile::Builder::new();
    builder.prefix("tributary-bench-");
    let folder = match &args.dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    };
    let folder = folder.context("cannot make a folder for the blobs; choose one by --dir")?;
    let started = Instant::now();
    let bench = Bench::prepare(Blobs::local(folder.path())?, updates, params).await?;
    let prepared = started.elapsed().as_secs_f64();
    let times = bench.measure(REPETITIONS).await?;
    let memory = memory::measure(&bench, REPETITIONS).await?;
    let mut report = times.report(&args, memory);
    report["prepare_s"] = json!(rounded(prepared));
    folder.close().context("cannot delete the blobs of the bench")?;
    println!("{report}");
    Ok(())
}

/// What was prepared.
struct Bench {
    blobs: Blobs,
    schema: Arc<Schema>,
    scale: Scale,
    contributions: Vec<Contribution>,
    previous: String,
}

/// Seconds of each repetition.
#[derive(Default)]
struct Times {
    fold: Vec<f64>,
    sum: Vec<f64>,
    plain_add: Vec<f64>,
    read: Vec<f64>,
    checkpoint: Vec<f64>,
    rss_before_mb: Option<f64>,
    peak_rss_mb: Option<f64>,
    bytes: u64,
}

impl Bench {
    async fn prepare(blobs: Blobs, updates: u32, params: usize) -> anyhow::Result<Self> {
        let schema = Arc::new(Schema::new([("weights", vec![params])])?);
        let scale = Scale::for_roster(EXAMPLES_MAX, MAX_ABS_EXPONENT)?;
        let contributions = prepare::updates(&blobs, &schema, updates).await?;
        let previous = prepare::checkpoint(&blobs, &schema).await?;
        Ok(Self { blobs, schema, scale, contributions, previous })
    }

    async fn measure(&self, repetitions: u32) -> anyhow::Result<Times> {
        let values = self.schema.len() as u64 * self.contributions.len() as u64;
        let mut times = Times { bytes: values * codec::VALUE_BYTES as u64, ..Times::default() };
        // Brings the blobs into the page cache, where a round's updates are when it closes.
        self.pass(ReadOnly::default).await?;
        times.rss_before_mb = rss_mb("self");
        let mut digests = Vec::new();
        for attempt in 1..=repetitions {
            let output = checkpoint_key(&prepare::job()?, 1, attempt);
            let copy = checkpoint_key(&prepare::job()?, 2, attempt);
            let resettable = memory::reset_peak();
            let started = Instant::now();
            let outcome = fold_round(&self.blobs, self.plan(output.clone())).await?;
            times.fold.push(started.elapsed().as_secs_f64());
            let peak = peak_rss_mb("self").filter(|_| resettable);
            times.peak_rss_mb = peak.map(|mb| mb.max(times.peak_rss_mb.unwrap_or(0.0)));
            digests.push(outcome.digest);
            times.sum.push(self.pass(Sum::default).await?);
            times.plain_add.push(self.pass(PlainAdd::default).await?);
            times.read.push(self.pass(ReadOnly::default).await?);
            times.checkpoint.push(prepare::time_copy(&self.blobs, &output, &copy).await?);
        }
        anyhow::ensure!(digests.windows(2).all(|d| d[0] == d[1]), "folds of one plan differ");
        Ok(times)
    }

    fn plan(&self, output: String) -> FoldPlan {
        FoldPlan {
            schema: self.schema.clone(),
            previous: self.previous.clone(),
            output,
            scale: self.scale,
            contributions: self.contributions.clone(),
        }
    }

    /// Seconds of one pass over all updates.
    async fn pass<P: Pass>(&self, make: impl Fn() -> P) -> anyhow::Result<f64> {
        let weighted = |c: &Contribution| Weighted {
            key: c.key.clone(),
            factor: self.scale.weight(c.examples),
        };
        let updates = self.contributions.iter().map(weighted).collect();
        let started = Instant::now();
        let mut units =
            Scan::new(&self.blobs, updates, self.schema.len(), Cut::default()).run(make);
        while let Some(unit) = units.next().await {
            unit?;
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

impl Times {
    fn report(&self, args: &AggregateArgs, memory: Option<memory::InMemory>) -> Value {
        let gb_per_s = |seconds: &[f64]| self.bytes as f64 / 1e9 / median(seconds);
        let (fold, plain_add) = (gb_per_s(&self.fold), gb_per_s(&self.plain_add));
        let in_memory = memory.map(|memory| {
            let (fold, plain_add) = (gb_per_s(&memory.fold), gb_per_s(&memory.plain_add));
            json!({
                "gb_per_s": rounded(fold),
                "plain_add_gb_per_s": rounded(plain_add),
                "ratio": rounded(fold / plain_add),
            })
        });
        json!({
            "bench": "aggregate",
            "rule": args.rule,
            "updates": args.updates,
            "params": args.params,
            "gb_per_s": rounded(fold),
            "plain_add_gb_per_s": rounded(plain_add),
            "read_gb_per_s": rounded(gb_per_s(&self.read)),
            "ratio": rounded(fold / plain_add),
            "peak_rss_mb": self.peak_rss_mb.map(rounded),
            "rss_before_mb": self.rss_before_mb.map(rounded),
            "fold_s": rounded(median(&self.fold)),
            "fold_s_min": rounded(self.fold.iter().copied().fold(f64::INFINITY, f64::min)),
            "sum_gb_per_s": rounded(gb_per_s(&self.sum)),
            "sum_ratio": rounded(gb_per_s(&self.sum) / plain_add),
            "checkpoint_write_s": rounded(median(&self.checkpoint)),
            "in_memory": in_memory,
            "threads": Cut::default().threads,
            "engine": Engine::best().name(),
            "repetitions": REPETITIONS,
            "fsync": true,
            "says": "fold_s: sums, new checkpoint hashed, written and fsynced; sum, plain add and read: \
                     the same blobs, threads and reads, nothing written; checkpoint_write_s: \
                     reading, hashing, writing and fsyncing the checkpoint alone",
        })
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Four digits behind the point are more than any of these figures is worth.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
