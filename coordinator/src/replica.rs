//! What makes a coordinator one replica of several: hints to and from the others, a session whose
//! lock shows that it lives, and one look a second at the store, because hints may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tributary_core::digest::Digest;

use crate::driver::Hub;
use crate::store::{HINT_BYTES_MAX, Session, StoreError};
use crate::wakes::Hint;

/// How often the store is asked for clients that no hint announced.
const LOOK: Duration = Duration::from_secs(1);
/// Between two tries of a session that broke, or whose lock an earlier process still has.
const AGAIN: Duration = Duration::from_millis(250);

/// This replica among the others.
pub(crate) struct Replica {
    /// The stable name: after a restart it takes its own leases back at once.
    pub(crate) name: String,
    /// How long a driver may be silent before another replica takes its job.
    pub(crate) lease: Duration,
    key: i64,
    locked: AtomicBool,
}

impl Replica {
    pub(crate) fn new(name: String, lease: Duration) -> Self {
        let digest = Digest::of_fields("tributary/replica/v1", [name.as_bytes()]);
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        // Positive, so that its halves are what the database's own view shows of it.
        let key = i64::from_be_bytes([a & 0x7f, b, c, d, e, f, g, h]);
        Self { name, lease, key, locked: AtomicBool::new(false) }
    }

    /// The key of the lock that stands beside this replica's leases, while it is held.
    pub(crate) fn lock(&self) -> Option<i64> {
        self.locked.load(Ordering::Relaxed).then_some(self.key)
    }

    /// Holds the session's lock, for a while before jobs are taken: a lease says whether there is one.
    pub(crate) async fn open(&self, hub: &Hub) -> Result<Option<Session>, StoreError> {
        let Some(mut session) = hub.store.session().await? else { return Ok(None) };
        self.locked.store(session.lock(self.key).await?, Ordering::Relaxed);
        Ok(Some(session))
    }
}

/// Talks with the other replicas until `quit`; what is to be told then is told before it ends.
pub(crate) async fn converse(
    hub: Arc<Hub>,
    session: Option<Session>,
    outbox: mpsc::Receiver<Hint>,
    quit: CancellationToken,
) {
    let mut parts = JoinSet::new();
    if session.is_some() {
        let (hub, quit) = (hub.clone(), quit.clone());
        parts.spawn(async move {
            let ended = quit.clone();
            tokio::select! {
                biased;
                () = listen(hub, session) => {}
                () = ended.cancelled() => {}
            }
        });
    }
    let (looking, ended) = (hub.clone(), quit.clone());
    parts.spawn(async move {
        tokio::select! {
            biased;
            () = look(looking) => {}
            () = ended.cancelled() => {}
        }
    });
    parts.spawn(tell(hub, outbox, quit));
    while let Some(part) = parts.join_next().await {
        if let Err(error) = part {
            tracing::error!(%error, "a part of the replica's conversation ended badly");
        }
    }
}

/// Hears the others' hints, and keeps the session and its lock.
async fn listen(hub: Arc<Hub>, mut session: Option<Session>) {
    loop {
        let heard = match &mut session {
            Some(session) => hear(&hub, session).await,
            None => {
                let opened = hub.replica.open(&hub).await;
                opened.map(|opened| session = opened)
            }
        };
        if let Err(error) = heard {
            tracing::warn!(%error, "the session for hints broke; it is opened again");
            hub.replica.locked.store(false, Ordering::Relaxed);
            session = None;
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn hear(hub: &Hub, session: &mut Session) -> Result<(), StoreError> {
    let replica = &hub.replica;
    if replica.lock().is_none() {
        let locked = session.lock(replica.key).await?;
        replica.locked.store(locked, Ordering::Relaxed);
    }
    let heard = if replica.lock().is_some() {
        session.next().await?
    } else {
        match tokio::time::timeout(AGAIN, session.next()).await {
            Ok(heard) => heard?,
            Err(_) => return Ok(()),
        }
    };
    let Some(payload) = heard else {
        // It broke and was opened again: the lock is gone, and hints may be.
        replica.locked.store(false, Ordering::Relaxed);
        hub.wakes.ring(&Hint::Supervisor);
        hub.wakes.ring(&Hint::AllJobs);
        return Ok(());
    };
    let mut lines = payload.lines();
    if lines.next() != Some(replica.name.as_str()) {
        for hint in lines.filter_map(|line| line.parse().ok()) {
            hub.wakes.ring(&hint);
        }
    }
    Ok(())
}

/// Sends hints, as many in one message as wait.
async fn tell(hub: Arc<Hub>, mut outbox: mpsc::Receiver<Hint>, quit: CancellationToken) {
    loop {
        let next = tokio::select! {
            biased;
            next = outbox.recv() => next,
            () = quit.cancelled() => return,
        };
        let Some(first) = next else { return };
        let mut payload = format!("{}\n{first}", hub.replica.name);
        while payload.len() < HINT_BYTES_MAX / 2
            && let Ok(hint) = outbox.try_recv()
        {
            payload = format!("{payload}\n{hint}");
        }
        #[cfg(feature = "failpoints")]
        if std::env::var_os("TRIBUTARY_LOSE_HINTS").is_some() {
            continue;
        }
        if let Err(error) = hub.store.notify(&payload).await {
            tracing::debug!(%error, "hints were lost; the next look finds what they said");
        }
    }
}

/// Wakes the polls of clients that have a task, hint or no hint.
async fn look(hub: Arc<Hub>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !hub.wakes.any_client() {
            continue;
        }
        match hub.store.wanted_clients().await {
            Ok(clients) => {
                for client in clients {
                    hub.wakes.ring(&Hint::Client(client));
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for waiting clients"),
        }
    }
}
