//! The agent's loop: poll → fetch → train → upload → receipt, for months.
//!
//! It has no state that matters but the spool: after a kill the coordinator names the same task
//! again, and either the finished update is there and is sent, or the work is done again to the
//! same bytes.

mod agreement;
mod checked;
mod leaving;
mod pulse;
mod sums;
mod telling;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tributary_core::binding::Binding;
use tributary_core::identity::Role;
use tributary_core::name::ClientName;
use tributary_core::spec::JobSpec;
use tributary_proto::convert::binding_to_wire;
use tributary_proto::{PROTOCOL_VERSION, v1};

use crate::identity::{Credential, IdentityFault};
use crate::ledger::{Ledger, LedgerError};
use crate::observer::{AgentEvent, Observer};
use crate::policy::Policy;
use crate::rpc::{
    AddressError, Backoff, CallError, Client, Egress, Link, Me, Place, Remote, is_secure,
    keep_fresh, limited, participant,
};
use crate::spool::{Spool, SpoolError};
use crate::trainer::Trainer;
use agreement::Agreement;
use work::{Outcome, Work};

/// How long a poll may wait at the coordinator.
const POLL_WAIT: Duration = Duration::from_secs(25);
/// Longest sleep outside the site's hours: the clock may be set meanwhile.
const CLOSED_NAP: Duration = Duration::from_secs(60);
/// How much longer its answer may take on the way.
const POLL_SLACK: Duration = Duration::from_secs(15);

/// Who an agent is and where it works.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The coordinator's address, such as `https://fl.example.org:7443`.
    pub coordinator: String,
    /// The operator-given name.
    pub name: ClientName,
    /// The folder that survives kills; one agent each.
    pub state_dir: PathBuf,
    /// The way out of the site.
    pub egress: Egress,
}

/// Why an agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state folder cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The coordinator's address is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no identity to show.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
    /// The identity is another's.
    #[error(
        "{found} is enrolled here, and the client's file says {expected}: use the enrolled name"
    )]
    Name {
        /// The file's.
        expected: ClientName,
        /// The certificate's.
        found: String,
    },
    /// What left the machine cannot be written down.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Another process took over.
    #[error("another process with the name {0} took over: names are unique in a federation")]
    Superseded(ClientName),
    /// The coordinator does not want this client.
    #[error("the coordinator refuses this client: {0}")]
    Refused(String),
}

/// The agent on a data-holding machine.
pub struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) trainer: Arc<dyn Trainer>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) policy: Policy,
    /// What carries its calls, where that is no connection of its own.
    carried: Option<Link>,
}

/// Where a state folder has its identity.
#[must_use]
pub fn identity_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

impl Agent {
    /// An agent that trains with `trainer`, and tells `observer`.
    #[must_use]
    pub fn new(
        config: AgentConfig,
        trainer: Arc<dyn Trainer>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { config, trainer, observer, policy: Policy::default(), carried: None }
    }

    /// The same agent under a site's policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The same agent, whose calls go over this link.
    #[must_use]
    pub fn over(mut self, link: Link) -> Self {
        self.carried = Some(link);
        self
    }

    /// The connection to the coordinator, and what keeps its certificate fresh.
    fn link(&self, stop: &CancellationToken) -> Result<Link, AgentError> {
        if let Some(link) = &self.carried {
            return Ok(link.clone());
        }
        let AgentConfig { coordinator, name, state_dir, egress } = &self.config;
        if !is_secure(coordinator) {
            return Ok(Link::new(Remote::plain(coordinator)?.connect_lazy()));
        }
        let dir = identity_dir(state_dir);
        let credential = Credential::load(&dir)?;
        let identity = credential.identity();
        if identity.role != Role::Client || identity.name != *name {
            let found = identity.to_string();
            return Err(AgentError::Name { expected: name.clone(), found });
        }
        let place = Place::new(coordinator, egress.clone());
        let link = Link::new(Remote::secure(place.clone(), &credential)?.connect_lazy());
        let due = credential.renew_at();
        tokio::spawn(keep_fresh(place, link.clone(), dir, due, stop.clone()));
        Ok(link)
    }

    /// Works until `stop`. A coordinator that is away is waited for without limit.
    ///
    /// # Errors
    /// When it can never go on: see [`AgentError`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        let spool = Arc::new(Spool::open(&self.config.state_dir)?);
        let ledger = Arc::new(Ledger::open(&self.config.state_dir)?);
        // Renewing ends with the agent, however it ends.
        let ended = stop.child_token();
        let _guard = ended.clone().drop_guard();
        let client = participant(self.link(&ended)?);
        let me =
            Me { client: self.config.name.to_string(), instance: spool.instance()?.to_string() };
        let work = Work { agent: &self, spool, ledger, client: client.clone(), me: me.clone() };
        work.settle(&stop).await?;
        let mut agreement = Agreement::of(&self);
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            self.opened(&stop).await;
            if stop.is_cancelled() {
                break;
            }
            let offer = self.offer();
            self.record_offer(&work.ledger, &offer)?;
            self.observer.event(AgentEvent::Waiting);
            let polled = tokio::select! {
                biased;
                polled = self.poll(client.clone(), &me, &offer, !agreement.told) => polled,
                () = stop.cancelled() => break,
            };
            if polled.is_ok() {
                agreement.tell();
            }
            match polled {
                Ok(Some(task)) => {
                    backoff.reset();
                    self.work_on(&work, task, &stop).await?;
                }
                Ok(None) => {
                    backoff.reset();
                    // A job that was held may have ended meanwhile: then its updates go.
                    work.settle(&stop).await?;
                }
                Err(CallError::Refused { reason, message }) => {
                    return Err(self.refused(&reason, message));
                }
                Err(error) => self.away(&mut backoff, &error, &stop).await,
            }
        }
        Ok(())
    }

    async fn work_on(
        &self,
        work: &Work<'_>,
        task: v1::Task,
        stop: &CancellationToken,
    ) -> Result<(), AgentError> {
        match work.perform(task, stop).await? {
            Outcome::Receipt(digest) => self.observer.event(AgentEvent::Receipt { digest }),
            Outcome::Dropped(reason) => self.observer.event(AgentEvent::Dropped { reason }),
            Outcome::Held => self.observer.event(AgentEvent::Held),
            Outcome::Stopped => {}
        }
        Ok(())
    }

    async fn poll(
        &self,
        mut client: Client,
        me: &Me,
        offer: &[Binding],
        reconsider: bool,
    ) -> Result<Option<v1::Task>, CallError> {
        let wait_ms = u32::try_from(POLL_WAIT.as_millis()).unwrap_or(u32::MAX);
        let request = v1::PollRequest {
            caller: me.caller(),
            protocol_version: PROTOCOL_VERSION,
            software: concat!("tributary-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            bindings: offer.iter().map(binding_to_wire).collect(),
            wait_ms,
            reconsider,
        };
        let answer = limited(POLL_WAIT + POLL_SLACK, client.poll(request)).await?;
        match answer.answer {
            Some(v1::poll_response::Answer::Task(task)) => Ok(Some(task)),
            Some(v1::poll_response::Answer::Wait(wait)) => {
                let pause = u64::from(wait.retry_after_ms).min(60_000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                Ok(None)
            }
            None => Err(CallError::Away("the coordinator's answer was empty".to_owned(), None)),
        }
    }

    /// Waits until the site's hours, or until stopped.
    async fn opened(&self, stop: &CancellationToken) {
        while !stop.is_cancelled()
            && let Some(wait) = self.policy.closed_for(tributary_outside::wall_clock())
        {
            self.observer.event(AgentEvent::Closed { for_s: wait.as_secs() });
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait.min(CLOSED_NAP)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// The data set that the site lets a job read (none in particular where it binds but one), or why
    /// it does not.
    fn agrees(&self, spec: &JobSpec, submitted_by: &str) -> Result<Option<String>, String> {
        match self.policy.refuses(spec, submitted_by) {
            Some(reason) => Err(reason),
            None => self.policy.data_for(spec, &self.trainer.bindings()),
        }
    }

    /// Whether the held-out rows of a data set are enough for their statistics to leave.
    fn may_evaluate(&self, data: Option<&str>) -> Result<(), String> {
        let bindings = self.trainer.bindings();
        let bound = bindings.iter().find(|binding| data.is_none_or(|name| binding.name == name));
        let kept = bound.and_then(|binding| self.policy.keeps(binding.evaluate_examples));
        kept.map_or(Ok(()), Err)
    }

    /// Waits before the next try, and says so.
    pub(crate) async fn away(
        &self,
        backoff: &mut Backoff,
        error: &CallError,
        stop: &CancellationToken,
    ) {
        let asked = match error {
            CallError::Away(_, asked) => *asked,
            _ => None,
        };
        let wait = backoff.wait(asked);
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.observer.event(AgentEvent::Away { error: error.to_string(), retry_in_ms });
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }

    pub(crate) fn refused(&self, reason: &str, message: String) -> AgentError {
        match reason {
            "superseded" => AgentError::Superseded(self.config.name.clone()),
            _ => AgentError::Refused(message),
        }
    }
}
