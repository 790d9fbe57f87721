//! What the store takes and gives: rows as the rest of the coordinator sees them.

use tributary_core::binding::{Binding, DataNeed};
use tributary_core::digest::Digest;
use tributary_core::identity::Role;
use tributary_core::metrics::Statistics;
use tributary_core::name::{ClientName, JobId, TaskId};
use tributary_core::round::{HistoryEvent, JobState, JobStatus, Phase, RoundState, Task};

/// A job to be created, with its first checkpoint (round 0).
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The submitted state; its id is new.
    pub state: JobState,
    /// The spec's name for it.
    pub name: String,
    /// The caller's key: the same key never makes a second job.
    pub request_id: String,
    /// The spec document, verbatim.
    pub spec: String,
    /// What it needs of a client's data.
    pub data_need: DataNeed,
    /// The first checkpoint.
    pub checkpoint: CheckpointRow,
    /// Who submits it.
    pub by: By,
}

/// What `create_job` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreatedJob {
    /// The job is new and durable.
    New,
    /// The request id made this job before, from the same spec.
    Existing(JobId),
    /// The request id made this job before, from another spec.
    Conflict(JobId),
    /// The id is that of another request's job.
    Taken(JobId),
}

/// A job as listed: its columns without the current round and its tasks.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// Its identity.
    pub id: JobId,
    /// The spec's name for it.
    pub name: String,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    /// What its driver waits for, where a fold cannot be done yet.
    pub waits_for: Option<String>,
    /// Who submitted it, `ROLE/NAME`; empty where nobody was asked.
    pub submitted_by: String,
    /// The spec's digest.
    pub spec_digest: Digest,
    /// The last good checkpoint.
    pub checkpoint: Digest,
    /// The last committed round's result.
    pub result: Digest,
    /// Job time.
    pub clock_ms: u64,
    /// The current attempt's number, attempt and phase.
    pub current: Option<(u32, u32, Phase)>,
    /// Whether the final evaluation is open.
    pub evaluating: bool,
    /// What the sites' sums gave; none before, and where nothing is asked of them.
    pub constants: Option<Digest>,
    /// The final evaluation's statistics, added up; none before the first came.
    pub evaluation: Option<Statistics>,
    /// Wall clock, microseconds since 1970.
    pub created_at_us: i64,
    /// Wall clock of the last change.
    pub updated_at_us: i64,
}

/// One attempt of a round in the history.
#[derive(Debug, Clone)]
pub struct RoundRow {
    /// The machine's own state of it.
    pub state: RoundState,
    /// Wall clock, microseconds since 1970.
    pub created_at_us: i64,
    /// Wall clock of the last change.
    pub updated_at_us: i64,
}

/// One stored checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Its content.
    pub digest: Digest,
    /// Where the blob lies.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// The round that made it; 0 for the first.
    pub round: u32,
}

/// An accepted update (or the statistics of an evaluation, or a site's sums).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateRow {
    /// The task that it answers.
    pub task: TaskId,
    /// The client.
    pub client: ClientName,
    /// The round.
    pub round: u32,
    /// The update's manifest digest, or that of what else was accepted.
    pub digest: Digest,
    /// Its n.
    pub examples: u64,
    /// Its encoded length; 0 for an evaluation.
    pub bytes: u64,
    /// The client's statistics; empty beside sums, which are a blob.
    pub statistics: Statistics,
}

/// A task with what its transitions need to know of job and round.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// The task.
    pub task: Task,
    /// Its job.
    pub job: JobId,
    /// Who submitted the job.
    pub submitted_by: String,
    /// The job's status.
    pub status: JobStatus,
    /// Job time as last stored.
    pub clock_ms: u64,
    /// The current attempt of the job: number, phase, cap exponent.
    pub round: u32,
    /// Its phase.
    pub phase: Phase,
    /// Its cap exponent.
    pub cap_exponent: u8,
    /// Whether the final evaluation is open.
    pub evaluating: bool,
    /// What the sites' sums gave; none before.
    pub constants: Option<Digest>,
    /// The checkpoint that the task works on: the round's `checkpoint_in`, or the last one for an
    /// evaluation.
    pub checkpoint: Digest,
}

/// What a client says of itself when it polls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// Its name.
    pub name: ClientName,
    /// Its process: see `tributary_core::instance`.
    pub instance: String,
    /// Its software version, for people.
    pub version: String,
    /// The newest protocol that both sides speak.
    pub protocol: u32,
    /// The data sets that it binds.
    pub bindings: Vec<Binding>,
}

/// What a client's hello is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing new.
    Known,
    /// It is new, or was away, or changed.
    Changed,
    /// Another agent has this identity, and was heard a moment ago.
    InUse,
}

/// A client as listed.
#[derive(Debug, Clone)]
pub struct ClientRow {
    /// What it said last.
    pub hello: ClientHello,
    /// Wall clock of its first poll.
    pub first_seen_us: i64,
    /// Wall clock of its last poll or heartbeat.
    pub last_seen_us: i64,
    /// Whether that is within the presence window, by the database's clock.
    pub present: bool,
}

/// One line of a job's history as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// 1 for the first of the job.
    pub sequence: u64,
    /// A stable word.
    pub kind: String,
    /// The round, 0 where none.
    pub round: u32,
    /// The attempt, 0 where none.
    pub attempt: u32,
    /// The client, where one is meant.
    pub client: Option<ClientName>,
    /// The facts.
    pub detail: String,
    /// Wall clock, microseconds since 1970.
    pub at_us: i64,
    /// H(previous line's digest, this line).
    pub digest: Digest,
}

/// Something of a peer's that was refused.
#[derive(Debug, Clone)]
pub struct RejectionRow {
    /// The job, where it is known.
    pub job: Option<JobId>,
    /// The round, 0 where it is not known.
    pub round: u32,
    /// Who sent it.
    pub client: ClientName,
    /// The stable code.
    pub code: String,
    /// The sentence.
    pub detail: String,
    /// Wall clock; set by the store when it writes.
    pub at_us: i64,
}

/// What one transaction changes in a job, besides its state.
#[derive(Debug, Clone, Default)]
pub struct JobChanges {
    /// Lines for the history, in order.
    pub history: Vec<HistoryEvent>,
    /// Checkpoints that became durable.
    pub checkpoints: Vec<CheckpointRow>,
    /// The audit's line of an operator's act: it is written where the act is.
    pub audit: Option<AuditEvent>,
}

/// Who does something, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// `ROLE/NAME`, `unknown`, or `local`.
    pub who: String,
    /// From where.
    pub address: String,
}

/// A line for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Who.
    pub by: By,
    /// A stable word.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// Whether it was refused.
    pub refused: bool,
    /// The facts.
    pub detail: String,
}

/// A one-time token as stored; the default grants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRow {
    /// Role and name that it is for.
    pub grants: Option<(Role, ClientName)>,
    /// Its end by wall clock.
    pub expires_at_us: i64,
    /// Whether that is ahead, by the database's clock.
    pub in_time: bool,
    /// The request that used it.
    pub request: Option<Digest>,
    /// The certificate that it gave.
    pub fingerprint: Option<Digest>,
}

impl TokenRow {
    /// Whether a request may (still) use it: the first one, and that one again.
    #[must_use]
    pub fn usable_by(&self, request: Digest) -> bool {
        self.in_time && self.request.is_none_or(|used| used == request)
    }
}

/// A certificate that was just signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// SHA-256 of its DER.
    pub fingerprint: Digest,
    /// The role in it.
    pub role: Role,
    /// The name in it.
    pub name: ClientName,
    /// Its DER, in hex.
    pub der: String,
    /// Its end, microseconds since 1970.
    pub not_after_us: i64,
}

/// A certificate as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRow {
    /// The role in it.
    pub role: Role,
    /// The name in it.
    pub name: ClientName,
    /// Its DER, in hex.
    pub der: String,
    /// Whether it, or its identity, was revoked.
    pub revoked: bool,
}

/// What became of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// It gave the new certificate.
    New,
    /// The same request came before; this is the certificate that it got.
    Again(String),
    /// It was used, is past, or never was.
    Refused,
}

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRow {
    /// The role.
    pub role: Role,
    /// The name.
    pub name: ClientName,
    /// Wall clock of the last enrolment.
    pub enrolled_at_us: i64,
    /// The end of the newest good certificate; 0 where none is.
    pub not_after_us: i64,
    /// Since when it is revoked.
    pub revoked_at_us: Option<i64>,
    /// By whom.
    pub revoked_by: String,
    /// Why.
    pub reason: String,
}

/// A site's no to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalRow {
    /// The site.
    pub client: ClientName,
    /// In its words.
    pub reason: String,
    /// Wall clock.
    pub at_us: i64,
}
