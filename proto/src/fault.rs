//! Errors on the wire: a gRPC code, and google.rpc.ErrorInfo with a stable reason that programs
//! branch on. Where trying again helps, RetryInfo says when.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of our reasons in `ErrorInfo`.
pub const DOMAIN: &str = "tributary";

/// A status with a stable reason.
#[must_use]
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(code, message, details)
}

/// A status that says to try again after a while.
#[must_use]
pub fn retry_status(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    after: Duration,
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// The stable reason of a status of ours.
#[must_use]
pub fn reason(status: &Status) -> Option<String> {
    let info = status.get_error_details().error_info().cloned()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

/// How long the peer says to wait before another try.
#[must_use]
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay)
}
