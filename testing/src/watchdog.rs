//! A tiny shell beside each thing that tests start: it sees the test process end, and cleans up.
//!
//! The shell reads a pipe whose only writer is the test process. However that process ends (also by
//! SIGKILL, where no destructor runs, and with statics, which are never dropped), the kernel closes
//! the pipe, the shell sees the end of its input, and its script goes on to the cleaning.
//!
//! (`PR_SET_PDEATHSIG` is no replacement: it fires when the *thread* that spawned the child ends,
//! which in a test harness is the end of one test, and it removes no folder.)

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;

use crate::account::Account;

/// The shell, for as long as it watches.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
    /// `None` only while it is being dropped.
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Runs a POSIX shell script with `arguments` as `$1`, `$2`, …; its input is the pipe.
    pub(crate) fn spawn(
        script: &str,
        arguments: &[&std::ffi::OsStr],
        account: Option<Account>,
    ) -> anyhow::Result<Self> {
        // Signals that are meant for the test process must not end its watchdog first.
        let script = format!("trap '' HUP INT TERM\n{script}");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).arg("tributary-watchdog").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/").process_group(0);
        if let Some(account) = account {
            account.assume(&mut command);
        }
        let mut shell = command.spawn().context("start /bin/sh as a watchdog")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Writes one line into the pipe.
    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let pipe = self.pipe.as_mut().context("the watchdog is gone")?;
        writeln!(pipe, "{line}").context("tell the watchdog")
    }
}

impl Drop for Watchdog {
    /// Closes the pipe and waits until the script has cleaned up.
    fn drop(&mut self) {
        self.pipe = None;
        // Nothing can be done about a shell that cannot be waited for.
        let _ = self.shell.wait();
    }
}
