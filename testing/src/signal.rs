//! Signals to processes and to their groups, and whether this one runs as root.

use std::io;

use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};

/// Who gets a signal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// One process.
    Process(u32),
    /// All processes of the group that this process leads.
    Group(u32),
}

/// Sends a signal to a child that has not been reaped yet (so that its id is still its own).
///
/// # Errors
/// As `kill(2)`; an id that is no process id is refused, because 0 and -1 mean "everybody".
pub(crate) fn send(target: Target, signal: i32) -> io::Result<()> {
    let (Target::Process(id) | Target::Group(id)) = target;
    let refused = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let id = i32::try_from(id).ok().filter(|id| *id > 1).and_then(Pid::from_raw);
    let id = id.ok_or_else(|| refused("no process id"))?;
    let signal = Signal::from_named_raw(signal).ok_or_else(|| refused("no signal"))?;
    match target {
        Target::Process(_) => kill_process(id, signal)?,
        Target::Group(_) => kill_process_group(id, signal)?,
    }
    Ok(())
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}
