//! Enrolment and audit on the wire; messages that hold secrets print as nothing.

use std::fmt;

use tributary_core::audit::AuditLine;

use super::{WireFault, digest_from_wire};
use crate::v1;

impl fmt::Debug for v1::EnrollRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrollRequest(hidden)")
    }
}

impl fmt::Debug for v1::CreateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CreateTokenResponse(hidden)")
    }
}

/// A line of the audit as the wire has it.
#[must_use]
pub fn audit_to_wire(line: AuditLine) -> v1::AuditLine {
    v1::AuditLine {
        sequence: line.sequence,
        at_us: line.at_us,
        actor: line.actor,
        address: line.address,
        action: line.action,
        target: line.target,
        outcome: line.outcome,
        detail: line.detail,
        digest: line.digest.to_string(),
    }
}

/// A line of the audit from a peer.
///
/// # Errors
/// When its digest is none.
pub fn audit_from_wire(line: v1::AuditLine) -> Result<AuditLine, WireFault> {
    Ok(AuditLine {
        digest: digest_from_wire("line.digest", &line.digest)?,
        sequence: line.sequence,
        at_us: line.at_us,
        actor: line.actor,
        address: line.address,
        action: line.action,
        target: line.target,
        outcome: line.outcome,
        detail: line.detail,
    })
}
