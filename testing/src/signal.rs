//! The two system calls that the standard library lacks: `kill` and `geteuid`. The only module of
//! this crate with `unsafe`: both calls take plain integers and touch no memory of ours.
#![allow(unsafe_code)]

use std::io;

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
    let id = i32::try_from(id).ok().filter(|id| *id > 1);
    let id = id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no process id"))?;
    let id = if matches!(target, Target::Group(_)) { -id } else { id };
    // SAFETY: `kill` takes two integers and reads no memory of this process.
    if unsafe { libc::kill(id, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: `geteuid` takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
