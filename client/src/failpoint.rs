//! Places between two durable steps where a test can stop the process. Builds without the feature
//! `failpoints` have none of it.

/// Every failpoint, in the order of a task's way. The tests walk through the whole table; a place
/// whose name is not here fails at its first passage.
#[cfg(feature = "failpoints")]
pub const FAILPOINTS: &[&str] = &[
    // A task has come; its checkpoint is there; it is trained and nothing is written.
    "task.received",
    "task.fetched",
    "task.trained",
    // It asks for sums: they are there, and the ledger has their line.
    "sums.computed",
    "sums.ledger.written",
    // It evaluates: the scores are there, and the ledger has their line.
    "evaluation.scored",
    "evaluation.ledger.written",
    // The update is a file; its manifest is written, and not yet in its place; then it is.
    "spool.update.written",
    "spool.manifest.staged",
    "spool.manifest.placed",
    // The ledger has its line; a first chunk is on its way; there is a receipt; all is forgotten.
    "ledger.written",
    "upload.chunk.sent",
    "upload.receipt.held",
    "spool.forgotten",
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
