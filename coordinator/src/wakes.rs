//! Wake-ups: waiting polls, job drivers, watchers. A wake-up is a hint; whoever waits subscribes
//! first, then reads the store. What may concern somebody on another replica goes there as well.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tributary_core::name::{ClientName, JobId};

/// Something that may have changed for somebody who waits, here or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hint {
    /// A client may have a task.
    Client(ClientName),
    /// A job may move.
    Job(JobId),
    /// Every job may move: a client came or changed.
    AllJobs,
    /// A job may be without a driver.
    Supervisor,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hint::Client(client) => write!(f, "client {client}"),
            Hint::Job(job) => write!(f, "job {job}"),
            Hint::AllJobs => f.write_str("jobs"),
            Hint::Supervisor => f.write_str("supervisor"),
        }
    }
}

/// A line that is no hint: of another version, or of somebody else on the same database.
#[derive(Debug)]
pub(crate) struct NoHint;

impl FromStr for Hint {
    type Err = NoHint;

    fn from_str(line: &str) -> Result<Self, NoHint> {
        match line.split_once(' ') {
            Some(("client", name)) => name.parse().map(Hint::Client).map_err(|_| NoHint),
            Some(("job", name)) => name.parse().map(Hint::Job).map_err(|_| NoHint),
            None if line == "jobs" => Ok(Hint::AllJobs),
            None if line == "supervisor" => Ok(Hint::Supervisor),
            _ => Err(NoHint),
        }
    }
}

/// Bells by key. A bell lives as long as somebody holds it.
struct Bells<K>(Mutex<BTreeMap<K, Arc<Notify>>>);

impl<K: Ord + Clone> Bells<K> {
    fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, key: &K) -> Arc<Notify> {
        let mut bells = self.lock();
        // Bells that nobody holds go when their number has doubled since they were last needed.
        if bells.len() >= SWEEP_AT && bells.len().is_power_of_two() {
            bells.retain(|_, bell| Arc::strong_count(bell) > 1);
        }
        bells.entry(key.clone()).or_default().clone()
    }

    /// Whether somebody here holds the bell that was rung.
    fn ring(&self, key: &K) -> bool {
        let bells = self.lock();
        let Some(bell) = bells.get(key) else { return false };
        bell.notify_waiters();
        // A permit for one that has subscribed but does not wait yet.
        bell.notify_one();
        Arc::strong_count(bell) > 1
    }

    fn ring_all(&self) {
        for bell in self.lock().values() {
            bell.notify_waiters();
            bell.notify_one();
        }
    }

    fn any_held(&self) -> bool {
        self.lock().values().any(|bell| Arc::strong_count(bell) > 1)
    }
}

/// Below this many bells none are swept.
const SWEEP_AT: usize = 1024;
/// Hints that wait to be sent; beyond it they are dropped, and found by the next look at the store.
const HINTS_MAX: usize = 4096;

/// All bells of one coordinator.
pub(crate) struct Wakes {
    clients: Bells<ClientName>,
    jobs: Bells<JobId>,
    watchers: Bells<JobId>,
    supervisor: Notify,
    collector: Notify,
    outbox: mpsc::Sender<Hint>,
}

impl Wakes {
    /// The bells, and what is to be told to other replicas.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Hint>) {
        let (outbox, hints) = mpsc::channel(HINTS_MAX);
        let wakes = Self {
            clients: Bells::new(),
            jobs: Bells::new(),
            watchers: Bells::new(),
            supervisor: Notify::new(),
            collector: Notify::new(),
            outbox,
        };
        (wakes, hints)
    }

    /// Rings what a hint names, here alone; whether somebody here listens to just that.
    pub(crate) fn ring(&self, hint: &Hint) -> bool {
        match hint {
            Hint::Client(client) => self.clients.ring(client),
            Hint::Job(job) => self.jobs.ring(job),
            Hint::AllJobs => {
                self.jobs.ring_all();
                false
            }
            Hint::Supervisor => {
                self.supervisor.notify_one();
                false
            }
        }
    }

    /// Rings here, and elsewhere unless it was for somebody here.
    fn tell(&self, hint: Hint) {
        if !self.ring(&hint) {
            // A full or closed outbox loses a hint, which may be lost.
            let _ = self.outbox.try_send(hint);
        }
    }

    /// What a client's waiting poll listens to.
    pub(crate) fn client(&self, client: &ClientName) -> Arc<Notify> {
        self.clients.bell(client)
    }

    pub(crate) fn wake_client(&self, client: &ClientName) {
        self.tell(Hint::Client(client.clone()));
    }

    /// Whether any poll waits here.
    pub(crate) fn any_client(&self) -> bool {
        self.clients.any_held()
    }

    /// What a job's driver listens to.
    pub(crate) fn job(&self, job: &JobId) -> Arc<Notify> {
        self.jobs.bell(job)
    }

    pub(crate) fn wake_job(&self, job: &JobId) {
        self.tell(Hint::Job(job.clone()));
    }

    /// A client came or changed: every job may have waited for it.
    pub(crate) fn wake_all_jobs(&self) {
        self.tell(Hint::AllJobs);
    }

    /// What those who watch a job listen to. Watchers on other replicas read the store by themselves.
    pub(crate) fn watcher(&self, job: &JobId) -> Arc<Notify> {
        self.watchers.bell(job)
    }

    pub(crate) fn wake_watchers(&self, job: &JobId) {
        self.watchers.ring(job);
    }

    /// A job was created or let go: somebody should drive it.
    pub(crate) fn wake_supervisor(&self) {
        self.tell(Hint::Supervisor);
    }

    /// A round is final: its updates can go.
    pub(crate) fn wake_collector(&self) {
        self.collector.notify_one();
    }

    pub(crate) async fn collector(&self) {
        self.collector.notified().await;
    }

    pub(crate) async fn supervisor(&self) {
        self.supervisor.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Hint, Wakes};

    #[test]
    fn a_hint_reads_back_as_it_was_sent_and_nonsense_is_none() {
        let hints = [
            Hint::Client("site-1".parse().expect("a name")),
            Hint::Job("digits-00000001".parse().expect("an id")),
            Hint::AllJobs,
            Hint::Supervisor,
        ];
        for hint in hints {
            assert_eq!(hint.to_string().parse::<Hint>().ok(), Some(hint));
        }
        for line in ["", "client", "client ../x", "job A B", "jobs all", "drop table jobs"] {
            assert!(line.parse::<Hint>().is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_for_somebody_here_is_not_told_elsewhere() {
        let (wakes, mut told) = Wakes::new();
        let client = "site-1".parse().expect("a name");
        let bell = wakes.client(&client);
        wakes.wake_client(&client);
        assert!(told.try_recv().is_err(), "a poll waits here");
        drop(bell);
        wakes.wake_client(&client);
        assert_eq!(told.try_recv().ok(), Some(Hint::Client(client)));
    }
}
