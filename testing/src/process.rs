//! A child process that never outlives its test: its output is kept, and dropping it kills it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::signal::{Target, send};
use crate::watchdog::Watchdog;

/// Newest lines of output that are kept: enough for a long chaos run, bounded for a runaway one.
const LINES_MAX: usize = 100_000;
/// Between two looks at whether the child has ended.
const POLL: Duration = Duration::from_millis(5);
/// Lines of output that an error shows.
const LINES_SHOWN: usize = 40;

/// Kills the whole group where the test process has ended and has not said `reaped` before.
const WATCH: &str = r#"while read -r word; do
  if [ "$word" = reaped ]; then exit 0; fi
done
kill -s KILL -- "-$1""#;

/// A running child; killed with its whole process group, and reaped, when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    output: Arc<Output>,
    watchdog: Option<Watchdog>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Lines that were too many and are gone.
    dropped: usize,
    /// Pipes that are still read.
    open: usize,
}

impl Process {
    /// Starts the command in a process group of its own, reading its output and its errors.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        let output = Arc::new(Output::default());
        let mut process = Self { name, child, status: None, output, watchdog: None };
        let group = process.pid().to_string();
        process.watchdog = Some(Watchdog::spawn(WATCH, &[group.as_ref()], None)?);
        if let Some(stdout) = process.child.stdout.take() {
            process.output.read(stdout);
        }
        if let Some(stderr) = process.child.stderr.take() {
            process.output.read(stderr);
        }
        Ok(process)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line, of output or errors and from the start on, that contains `pattern`.
    ///
    /// # Errors
    /// Where the time is up or the output has ended before; the error shows the newest lines.
    pub fn wait_for_line(&self, pattern: &str, timeout: Duration) -> anyhow::Result<String> {
        self.wait_for_line_after(0, pattern, timeout)
    }

    /// As [`wait_for_line`](Self::wait_for_line), skipping as many lines as
    /// [`line_count`](Self::line_count) said at an earlier moment.
    ///
    /// # Errors
    /// As `wait_for_line`.
    pub fn wait_for_line_after(
        &self,
        skipped: usize,
        pattern: &str,
        timeout: Duration,
    ) -> anyhow::Result<String> {
        let deadline = Instant::now() + timeout;
        let mut next = skipped;
        let mut lines = self.output.lock();
        loop {
            let from = next.saturating_sub(lines.dropped).min(lines.kept.len());
            if let Some(line) = lines.kept.range(from..).find(|line| line.contains(pattern)) {
                return Ok(line.clone());
            }
            next = next.max(lines.dropped + lines.kept.len());
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.open == 0 || left.is_zero() {
                let why = if lines.open == 0 { "its output ended" } else { "the time is up" };
                let shown = lines.newest();
                anyhow::bail!("{} said no line with {pattern:?}: {why}\n{shown}", self.name);
            }
            let waited = self.output.changed.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lines of output and errors until now.
    #[must_use]
    pub fn line_count(&self) -> usize {
        let lines = self.output.lock();
        lines.dropped + lines.kept.len()
    }

    /// All lines that are kept (the newest 100 000).
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().kept.iter().cloned().collect()
    }

    /// Whether the process has not ended yet.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.try_wait()?.is_none())
    }

    /// Kills the process and all that it started, as a power cut would, and reaps it.
    ///
    /// # Errors
    /// Where it cannot be killed.
    pub fn sigkill(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        send(Target::Group(self.pid()), libc::SIGKILL)
            .with_context(|| format!("kill {}", self.name))?;
        let status = self.child.wait().with_context(|| format!("reap {}", self.name))?;
        self.reaped(status);
        Ok(status)
    }

    /// Asks the process to end; [`wait`](Self::wait) for it afterwards.
    ///
    /// # Errors
    /// Where it cannot be signalled; none where it has ended already.
    pub fn sigterm(&mut self) -> anyhow::Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        send(Target::Process(self.pid()), libc::SIGTERM)
            .with_context(|| format!("send SIGTERM to {}", self.name))
    }

    /// Lets the process and all that it started stand still, with everything that they hold.
    ///
    /// # Errors
    /// Where it has ended, or cannot be signalled.
    pub fn sigstop(&mut self) -> anyhow::Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// Lets a process that stands still go on.
    ///
    /// # Errors
    /// As [`sigstop`](Self::sigstop).
    pub fn sigcont(&mut self) -> anyhow::Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&mut self, signal: i32) -> anyhow::Result<()> {
        anyhow::ensure!(self.try_wait()?.is_none(), "{} has ended", self.name);
        send(Target::Group(self.pid()), signal).with_context(|| format!("signal {}", self.name))
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// Where the time is up before; the error shows the newest lines of output.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let shown = self.output.lock().newest();
                anyhow::bail!("{} still runs after {timeout:?}\n{shown}", self.name);
            }
            std::thread::sleep(POLL);
        }
    }

    fn try_wait(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.status.is_none()
            && let Some(status) =
                self.child.try_wait().with_context(|| format!("wait for {}", self.name))?
        {
            self.reaped(status);
        }
        Ok(self.status)
    }

    /// The id may be somebody else's from now on, so the watchdog is called off.
    fn reaped(&mut self, status: ExitStatus) {
        self.status = Some(status);
        if let Some(mut watchdog) = self.watchdog.take() {
            // A watchdog that has ended needs no word.
            let _ = watchdog.tell("reaped");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A destructor has nobody to tell; the watchdog tries once more.
        let _ = self.sigkill();
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a pipe to its end in a thread. The thread is not joined: a grandchild may hold the
    /// pipe open for longer than anybody wants to wait.
    fn read(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        self.lock().open += 1;
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut bytes = Vec::new();
            while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                output.lock().push(line);
                output.changed.notify_all();
            }
            output.lock().open -= 1;
            output.changed.notify_all();
        });
    }
}

impl Lines {
    fn push(&mut self, line: String) {
        if self.kept.len() == LINES_MAX {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(line);
    }

    fn newest(&self) -> String {
        let from = self.kept.len().saturating_sub(LINES_SHOWN);
        self.kept.range(from..).map(|line| format!("  | {line}\n")).collect()
    }
}
