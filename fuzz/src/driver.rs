//! Tries a target with its corpus and with mutations of it, and names the input that made it panic,
//! hang, or take too much memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tributary_core::digest::Digest;

use crate::corpus::{BAD, GOOD, Seed};
use crate::mutation::mutated;
use crate::{Target, Verdict};

/// How long one input may take: a hundred times what the slowest does on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Address space that one input of at most 16 KiB may take: pictures and windows of texts are bounded
/// far below; half of it is what the allocator keeps for a thread.
const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Stack of a target: as much as a thread of the coordinator has, so that recursion shows.
const STACK_BYTES: usize = 2 << 20;

/// How much is tried.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What mutations are drawn by.
    pub seed: u64,
    /// How many of them, behind the corpus itself.
    pub runs: u32,
    /// No new one is begun after this.
    pub until: Option<Instant>,
    /// Where findings are written, and the input that is being tried: a process that the system ends
    /// leaves it there.
    pub findings: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Files of the corpus.
    pub seeds: u32,
    /// Mutations that were accepted.
    pub accepted: u32,
    /// Mutations that were refused.
    pub refused: u32,
}

/// An input that a target cannot stand.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {what}; the input is {} (a copy as {BAD}NAME in the corpus keeps it)", input.display())]
pub struct Finding {
    /// The target's name.
    pub target: String,
    /// What it did.
    pub what: String,
    /// The file with the input.
    pub input: PathBuf,
}

/// What the thread that tries shares with the one that waits.
#[derive(Default)]
struct Shared {
    tried: AtomicU32,
    input: Mutex<Vec<u8>>,
}

/// Tries a target.
///
/// # Errors
/// The first [`Finding`], or what the system refused.
pub fn run(target: &Target, seeds: &[Seed], plan: &Plan) -> anyhow::Result<Score> {
    std::fs::create_dir_all(&plan.findings).context("make the folder of findings")?;
    let scratch = tempfile::tempdir().context("make a folder")?;
    let shared = Arc::new(Shared::default());
    let (sender, receiver) = sync_channel(1);
    let work = {
        let (target, seeds, plan) = (*target, seeds.to_vec(), plan.clone());
        let (folder, shared) = (scratch.path().to_owned(), shared.clone());
        move || {
            let outcome = all(&target, &seeds, &plan, &folder, &shared);
            // Who waited may be gone after a hang.
            let _ = sender.send(outcome);
        }
    };
    let thread = std::thread::Builder::new().name(target.name.to_owned()).stack_size(STACK_BYTES);
    let _detached = thread.spawn(work).context("start a thread")?;
    loop {
        let before = shared.tried.load(Ordering::SeqCst);
        match receiver.recv_timeout(PATIENCE) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Timeout) if shared.tried.load(Ordering::SeqCst) == before => {
                let input = shared.input.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let what = format!("no answer within {PATIENCE:?}");
                return Err(found(target, what, &input, plan));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("{}: no outcome", target.name),
        }
    }
}

fn all(
    target: &Target,
    seeds: &[Seed],
    plan: &Plan,
    folder: &Path,
    shared: &Shared,
) -> anyhow::Result<Score> {
    let mut score = Score::default();
    let current = plan.findings.join(format!("{}-current", target.name));
    let one = |bytes: &[u8]| -> anyhow::Result<Verdict> {
        std::fs::write(&current, bytes).context("write the input down")?;
        bytes.clone_into(&mut shared.input.lock().unwrap_or_else(PoisonError::into_inner));
        let verdict =
            guarded(target, bytes, folder).map_err(|what| found(target, what, bytes, plan));
        shared.tried.fetch_add(1, Ordering::SeqCst);
        verdict
    };
    for seed in seeds {
        let verdict = one(&seed.bytes).with_context(|| format!("the corpus's {}", seed.name))?;
        if seed.name.starts_with(GOOD) && verdict == Verdict::Refused {
            let what = format!("the corpus's {} is refused", seed.name);
            return Err(found(target, what, &seed.bytes, plan));
        }
        score.seeds += 1;
    }
    for number in 0..plan.runs {
        if plan.until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        match one(&mutated(seeds, target.words, plan.seed, number))
            .with_context(|| format!("seed {}, number {number}", plan.seed))?
        {
            Verdict::Accepted => score.accepted += 1,
            Verdict::Refused => score.refused += 1,
        }
    }
    std::fs::remove_file(&current).context("remove the input")?;
    Ok(score)
}

/// One input, or what is wrong with the answer to it.
fn guarded(target: &Target, bytes: &[u8], folder: &Path) -> Result<Verdict, String> {
    let before = address_space().unwrap_or_default();
    let verdict = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes, folder)));
    let verdict = verdict.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panicked: {}", text.unwrap_or("without a text"))
    })?;
    let after = address_space().unwrap_or_default();
    let taken = after.peak.saturating_sub(before.now);
    // The peak is the process's: an earlier one that was within the bound does not count again.
    if after.peak > before.peak && taken > MEMORY_BYTES_MAX {
        return Err(format!("took {} MiB", taken >> 20));
    }
    Ok(verdict)
}

fn found(target: &Target, what: String, bytes: &[u8], plan: &Plan) -> anyhow::Error {
    let digest = Digest::of(bytes).hex();
    let input = plan.findings.join(format!("{}-{}", target.name, &digest[..12]));
    if let Err(error) = std::fs::write(&input, bytes) {
        return anyhow::anyhow!("{}: {what}; cannot keep the input: {error}", target.name);
    }
    Finding { target: target.name.to_owned(), what, input }.into()
}

/// Bytes of address space of this process: now, and at most so far.
#[derive(Debug, Clone, Copy, Default)]
struct AddressSpace {
    now: u64,
    peak: u64,
}

/// `None` on systems that do not say.
fn address_space() -> Option<AddressSpace> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    };
    Some(AddressSpace { now: field("VmSize:")?, peak: field("VmPeak:")? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Mutex, PoisonError};

    use super::{Finding, MEMORY_BYTES_MAX, Plan, Score, run};
    use crate::corpus::Seed;
    use crate::{Target, Verdict};

    /// What is taken is counted for the whole process: one of these tests at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    fn tried(run_one: fn(&[u8], &Path) -> Verdict) -> anyhow::Result<Score> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let findings = tempfile::tempdir().expect("a folder");
        let plan = Plan { seed: 1, runs: 400, until: None, findings: findings.path().to_owned() };
        let seeds = [Seed { name: "good-a".to_owned(), bytes: b"size = 12;".to_vec() }];
        let outcome = run(&Target { name: "planted", run: run_one, words: &[] }, &seeds, &plan);
        if let Err(error) = &outcome {
            let finding = error.downcast_ref::<Finding>().expect("a finding");
            assert!(finding.input.exists(), "{finding}");
            assert!(finding.input.to_string_lossy().contains("planted-"), "{finding}");
        }
        outcome
    }

    #[test]
    fn what_stands_everything_is_counted() {
        let score = tried(|bytes, _| match bytes.ends_with(b";") {
            true => Verdict::Accepted,
            false => Verdict::Refused,
        });
        let score = score.expect("nothing found");
        assert_eq!((score.seeds, score.accepted + score.refused), (1, 400));
        assert!(score.accepted > 20 && score.refused > 20, "{score:?}");
    }

    #[test]
    fn a_panic_is_found() {
        let error = tried(|bytes, _| {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("= -1"), "a size below nothing");
            Verdict::Accepted
        });
        let error = format!("{:#}", error.expect_err("found"));
        assert!(error.contains("panicked: a size below nothing"), "{error}");
        assert!(error.contains("seed 1, number "), "{error}");
    }

    #[test]
    fn taking_too_much_memory_is_found() {
        let error = tried(|bytes, _| {
            let claimed = if bytes.len() > 40 { 3 * MEMORY_BYTES_MAX } else { 0 };
            let taken = Vec::<u8>::with_capacity(claimed as usize);
            std::hint::black_box(&taken);
            Verdict::Accepted
        });
        let error = format!("{:#}", error.expect_err("found"));
        assert!(error.contains("took ") && error.contains(" MiB"), "{error}");
    }

    #[test]
    fn a_good_file_that_is_refused_is_found() {
        let error = tried(|_, _| Verdict::Refused).expect_err("found").to_string();
        assert!(error.contains("good-a is refused"), "{error}");
    }
}
