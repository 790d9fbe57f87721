//! Places between two durable steps where a test can stop the process. Builds without the feature
//! `failpoints` have none of it.

/// Every failpoint, with how a job's way passes it. The tests walk through the whole table; a place
/// whose name is not here fails at its first passage.
#[cfg(feature = "failpoints")]
pub const FAILPOINTS: &[&str] = &[
    // A job is made: its first checkpoint is durable, its row is not; then its row is.
    "create.checkpoint",
    "create.committed",
    // A driver takes a job, and steps it: rows are written and not committed, then committed.
    "driver.lease.taken",
    "job.selecting.staged",
    "job.selecting.committed",
    "job.training.staged",
    "job.training.committed",
    "job.aggregating.staged",
    "job.aggregating.committed",
    "job.committed.staged",
    "job.committed.committed",
    "job.ended.staged",
    "job.ended.committed",
    // A driver takes over a job that another one began: its leases are renewed, then rows.
    "takeover.begun",
    "takeover.committed",
    // The accepted set is fixed; the next checkpoint is written, in its place, and not yet a row.
    "driver.fold.due",
    "blob.checkpoint.written",
    "driver.fold.done",
    // A client gets its task, and sends its update: a part, the rows, no receipt yet.
    "poll.taken",
    "upload.part.received",
    "upload.part.stored",
    "upload.accept.staged",
    "upload.accept.committed",
    // Before round 1: sites are asked; a site's sums are a blob, then a row; they are pooled,
    // and what they give is a row.
    "sums.job.staged",
    "sums.job.committed",
    "sums.stored",
    "sums.accept.staged",
    "sums.accept.committed",
    "sums.pool.due",
    "sums.constants.written",
    "sums.pool.done",
    "sums.pooled.staged",
    "sums.pooled.committed",
    // Behind the last round: sites score the checkpoint, and what they found are rows.
    "evaluation.job.staged",
    "evaluation.job.committed",
    "evaluation.accept.staged",
    "evaluation.accept.committed",
    // Updates of a final round go.
    "collect.deleted",
];

/// Stops the process here where `TRIBUTARY_FAILPOINT` names this place: `NAME` or `NAME:N` for the
/// N-th passage. With `TRIBUTARY_FAILPOINT_DIR` it does not end: it leaves `DIR/reached` and waits for
/// `DIR/go`, so that something else can be killed meanwhile.
macro_rules! failpoint {
    ($name:expr) => {
        #[cfg(feature = "failpoints")]
        {
            $crate::failpoint::pass($name);
        }
    };
}
pub(crate) use failpoint;

#[cfg(feature = "failpoints")]
pub(crate) fn pass(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static ARMED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    if name.is_empty() {
        return;
    }
    assert!(FAILPOINTS.contains(&name), "{name} is not in the table of failpoints");
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("TRIBUTARY_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    let Some((wanted, count)) = armed else { return };
    if wanted != name || PASSED.fetch_add(1, Ordering::SeqCst) + 1 != *count {
        return;
    }
    match std::env::var_os("TRIBUTARY_FAILPOINT_DIR") {
        Some(dir) => wait(std::path::Path::new(&dir)),
        None => end(),
    }
}

/// As a kill would: no destructor runs, nothing is flushed.
#[cfg(feature = "failpoints")]
#[allow(clippy::disallowed_methods)]
fn end() {
    std::process::abort();
}

#[cfg(feature = "failpoints")]
fn wait(dir: &std::path::Path) {
    const LOOK: std::time::Duration = std::time::Duration::from_millis(5);
    const LOOKS_MAX: u32 = 12_000;
    let _ = std::fs::write(dir.join("reached"), "");
    for _ in 0..LOOKS_MAX {
        if dir.join("go").exists() {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
