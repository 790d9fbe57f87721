//! The agent's side of the wire: one connection, calls with time limits, and what an error means.

mod enroll;
mod fetch;
mod proxy;
mod remote;
mod upload;

pub(crate) use enroll::keep_fresh;
pub use enroll::{EnrollError, enroll, renew};
pub(crate) use fetch::fetch;
pub use proxy::{Egress, Proxy, ProxyError};
pub use remote::{AddressError, Answer, Carry, Link, Place, Remote, is_secure};
pub(crate) use upload::{Outgoing, upload};

use std::time::Duration;

use tonic::{Code, Status};
use tributary_proto::fault::{reason, retry_after};
use tributary_proto::v1::participant_service_client::ParticipantServiceClient;
use tributary_proto::{MESSAGE_BYTES_MAX, v1};

/// How long an ordinary call may take.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// How long a stream may be silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);
pub(crate) type Client = ParticipantServiceClient<Link>;

/// The coordinator's reason while an operator holds a job.
pub(crate) const JOB_PAUSED: &str = "job_paused";

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Trying again may help: the coordinator is away, busy, or bytes were damaged.
    #[error("{0}")]
    Away(String, Option<Duration>),
    /// The coordinator says no, for a stable reason.
    #[error("{reason}: {message}")]
    Refused { reason: String, message: String },
    /// An operator holds the job: what is finished is asked for again when it goes on.
    #[error("{0}")]
    Held(String),
    /// This machine's disk or memory failed.
    #[error("{0}")]
    Local(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let again = retry_after(&status);
        match reason(&status) {
            Some(reason) if reason == JOB_PAUSED => CallError::Held(text(&status)),
            Some(reason) if again.is_none() => {
                CallError::Refused { reason, message: status.message().to_owned() }
            }
            // A coordinator answers with a reason: without one something between us broke.
            _ => CallError::Away(text(&status), again),
        }
    }
}

impl From<std::io::Error> for CallError {
    fn from(error: std::io::Error) -> Self {
        CallError::Local(error.to_string())
    }
}

fn text(status: &Status) -> String {
    let mut text = match status.code() {
        Code::Unknown | Code::Unavailable => status.message().to_owned(),
        code => format!("{code}: {}", status.message()),
    };
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The agent's calls over a link.
pub(crate) fn participant(link: Link) -> Client {
    ParticipantServiceClient::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A call with a time limit.
pub(crate) async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?.into_inner()),
        Err(_) => Err(CallError::Away(format!("no answer within {} s", limit.as_secs()), None)),
    }
}

/// Who calls.
#[derive(Clone)]
pub(crate) struct Me {
    pub(crate) client: String,
    pub(crate) instance: String,
}

impl Me {
    pub(crate) fn caller(&self) -> Option<v1::Caller> {
        let (client, instance_id) = (self.client.clone(), self.instance.clone());
        Some(v1::Caller { client, instance_id })
    }
}

/// Waits between tries: twice as long each time up to a limit, of which a random half, so that a
/// thousand clients do not come back in the same instant.
pub(crate) struct Backoff {
    next: Duration,
}

/// The first and the longest wait.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: BACKOFF.0 }
    }

    pub(crate) fn reset(&mut self) {
        self.next = BACKOFF.0;
    }

    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let longest = self.next.max(asked.unwrap_or_default()).min(BACKOFF.1);
        self.next = (self.next * 2).min(BACKOFF.1);
        longest.mul_f64(0.5 + 0.5 * tributary_outside::share())
    }
}
