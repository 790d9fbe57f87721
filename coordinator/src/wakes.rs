//! Wake-ups in memory: waiting polls and job drivers. A wake-up is a hint; whoever waits subscribes
//! first, then reads the store.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tributary_core::name::{ClientName, JobId};

/// Bells by key. A bell lives as long as somebody holds it.
struct Bells<K>(Mutex<HashMap<K, Arc<Notify>>>);

impl<K: Eq + Hash + Clone> Bells<K> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Notify>>> {
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

    fn ring(&self, key: &K) {
        if let Some(bell) = self.lock().get(key) {
            bell.notify_waiters();
            // A permit for one that has subscribed but does not wait yet.
            bell.notify_one();
        }
    }

    fn ring_all(&self) {
        for bell in self.lock().values() {
            bell.notify_waiters();
            bell.notify_one();
        }
    }
}

/// Below this many bells none are swept.
const SWEEP_AT: usize = 1024;

/// All bells of one coordinator.
pub(crate) struct Wakes {
    clients: Bells<ClientName>,
    jobs: Bells<JobId>,
    watchers: Bells<JobId>,
    supervisor: Notify,
}

impl Wakes {
    pub(crate) fn new() -> Self {
        Self {
            clients: Bells::new(),
            jobs: Bells::new(),
            watchers: Bells::new(),
            supervisor: Notify::new(),
        }
    }

    /// What a client's waiting poll listens to.
    pub(crate) fn client(&self, client: &ClientName) -> Arc<Notify> {
        self.clients.bell(client)
    }

    pub(crate) fn wake_client(&self, client: &ClientName) {
        self.clients.ring(client);
    }

    /// What a job's driver listens to.
    pub(crate) fn job(&self, job: &JobId) -> Arc<Notify> {
        self.jobs.bell(job)
    }

    pub(crate) fn wake_job(&self, job: &JobId) {
        self.jobs.ring(job);
    }

    /// A client came or changed: every job may have waited for it.
    pub(crate) fn wake_all_jobs(&self) {
        self.jobs.ring_all();
    }

    /// What those who watch a job listen to.
    pub(crate) fn watcher(&self, job: &JobId) -> Arc<Notify> {
        self.watchers.bell(job)
    }

    pub(crate) fn wake_watchers(&self, job: &JobId) {
        self.watchers.ring(job);
    }

    /// A job was created: somebody should drive it.
    pub(crate) fn wake_supervisor(&self) {
        self.supervisor.notify_one();
    }

    pub(crate) async fn supervisor(&self) {
        self.supervisor.notified().await;
    }
}
