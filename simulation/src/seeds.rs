//! Many seeds: every run keeps the rules, and each rule that is broken on purpose is found broken.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tributary_coordinator::simulation::Rule;
use tributary_core::digest::Digest;

use crate::op::{Op, draw};
use crate::run::{Run, run};
use crate::shrink::shrink;

/// Seeds of every run of the tests.
const SEEDS: u64 = 200;
/// Runs that go on at once: each is one thread.
const THREADS: usize = 2;

/// What the waiting job comes to when nothing happens.
fn undisturbed() -> Digest {
    static RESULT: OnceLock<Digest> = OnceLock::new();
    *RESULT.get_or_init(|| {
        let outcome = run(0, &[], None).outcome;
        outcome.expect("nothing happens").expect("it completes")
    })
}

/// The rule that a run broke.
pub(crate) fn fault(run: &Run) -> Option<String> {
    match &run.outcome {
        Err(fault) => Some(fault.clone()),
        Ok(Some(result)) if *result != undisturbed() => {
            Some(format!("the waiting job came to {result}, undisturbed to {}", undisturbed()))
        }
        Ok(_) => None,
    }
}

/// The first seed of these that fails, and how.
fn first_failure(seeds: std::ops::Range<u64>, rule: Option<Rule>) -> Option<(u64, String)> {
    undisturbed();
    let next = AtomicU64::new(seeds.start);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || !failed.lock().expect("whole").is_empty() {
                        return;
                    }
                    if let Some(fault) = fault(&run(seed, &draw(seed), rule)) {
                        failed.lock().expect("whole").push((seed, fault));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("whole");
    failed.sort();
    failed.into_iter().next()
}

fn listed(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("    Op::{op:?},\n")).collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn every_seed_keeps_the_rules() {
    let from = number("TRIBUTARY_SIMULATE_FROM", 0);
    let seeds = number("TRIBUTARY_SIMULATE_SEEDS", SEEDS);
    let started = Instant::now();
    let Some((seed, fault)) = first_failure(from..from + seeds, None) else {
        println!("{seeds} seeds from {from} in {:?}", started.elapsed());
        return;
    };
    let ops = shrink(&draw(seed), |ops| crate::seeds::fault(&run(seed, ops, None)).is_some());
    let last = run(seed, &ops, None);
    let short = crate::seeds::fault(&last).unwrap_or_default();
    let trace = std::env::temp_dir().join(format!("tributary-simulation-{seed}.txt"));
    std::fs::write(&trace, last.trace.join("\n")).expect("the trace is written");
    panic!(
        "seed {seed}: {fault}\nas short as it was found: {short}\nits trace: {}\n\
         let seed = {seed};\nlet ops = [\n{}];",
        trace.display(),
        listed(&ops),
    );
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [3, 14] {
        let [one, two] = [(); 2].map(|()| run(seed, &draw(seed), None).trace);
        let differs = one.iter().zip(&two).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed}, line {at}:\n{}\n{}", one[at], two[at]);
        }
        assert_eq!(one.len(), two.len(), "seed {seed}");
        assert!(one.len() > 100, "something happens");
    }
}

#[test]
fn a_rule_that_is_broken_on_purpose_is_found() {
    for rule in [Rule::Fence, Rule::Close, Rule::Receipt, Rule::Outcome] {
        let found = first_failure(0..SEEDS, Some(rule));
        let (seed, fault) = found.unwrap_or_else(|| panic!("{rule:?} is never missed"));
        println!("{rule:?}: seed {seed}: {fault}");
    }
}
