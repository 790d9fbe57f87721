//! The only table from our errors to gRPC codes and stable reasons.

use std::time::Duration;

use tonic::{Code, Status};
use tributary_core::round::Rejection;
use tributary_proto::fault::{retry_status, status};

use crate::authority::AuthorityError;
use crate::blobs::BlobError;
use crate::ingest::IngestError;
use crate::specs::SpecError;
use crate::store::StoreError;

/// When to try again after a failure of ours.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// When to try again after the disk was full: somebody has to make room.
const ROOM_AFTER: Duration = Duration::from_secs(10);

/// When to try again where all places of uploads are taken.
const BUSY_AFTER: Duration = Duration::from_secs(2);
/// When to try again where another agent has the identity: it may be the one that was here before.
const IN_USE_AFTER: Duration = Duration::from_secs(15);

pub(super) fn of_authority(error: &AuthorityError) -> Status {
    match error {
        AuthorityError::Request(_) => {
            status(Code::InvalidArgument, "request_refused", error.to_string())
        }
        _ => {
            tracing::error!(%error, "the authority failed");
            status(Code::Internal, "authority_failed", "the authority failed: see the log")
        }
    }
}

pub(super) fn of_rejection(rejection: &Rejection) -> Status {
    let code = match rejection {
        Rejection::JobPaused => {
            let text = rejection.to_string();
            return retry_status(Code::Unavailable, rejection.code(), text, RETRY_AFTER);
        }
        Rejection::NotYourTask => Code::PermissionDenied,
        Rejection::ExamplesOutOfRange { .. } => Code::InvalidArgument,
        Rejection::UnknownTask => Code::NotFound,
        Rejection::Superseded => Code::Aborted,
        Rejection::AlreadyAccepted { .. } => Code::AlreadyExists,
        Rejection::JobEnded { .. }
        | Rejection::RoundClosed { .. }
        | Rejection::TaskEnded { .. }
        | Rejection::WrongState { .. } => Code::FailedPrecondition,
    };
    status(code, rejection.code(), rejection.to_string())
}

pub(super) fn of_store(error: &StoreError) -> Status {
    // The log has what the database said; a peer has no use for its words.
    tracing::error!(%error, "the store failed");
    let text = "the coordinator's database is away or busy: try again";
    retry_status(Code::Unavailable, "store_unavailable", text, RETRY_AFTER)
}

pub(super) fn of_blob(error: &BlobError) -> Status {
    tracing::error!(%error, "the blob store failed");
    match error {
        BlobError::Full { .. } => {
            retry_status(Code::ResourceExhausted, "disk_full", error.to_string(), ROOM_AFTER)
        }
        BlobError::NotFound { .. } => status(Code::NotFound, "blob_not_found", error.to_string()),
        _ => retry_status(Code::Unavailable, "blobs_unavailable", error.to_string(), RETRY_AFTER),
    }
}

pub(super) fn of_spec(error: &SpecError) -> Status {
    match error {
        SpecError::Store(error) => of_store(error),
        SpecError::NoJob => no_job(),
        SpecError::Unreadable(_) => status(Code::Internal, "spec_unreadable", error.to_string()),
    }
}

pub(super) fn of_ingest(error: &IngestError) -> Status {
    match error {
        IngestError::Rejected(rejection) => of_rejection(rejection),
        IngestError::Update(fault) => {
            status(Code::InvalidArgument, fault.reason(), fault.to_string())
        }
        IngestError::Malformed(fault) => fault.clone().into(),
        IngestError::NoTask => status(Code::NotFound, "unknown_task", error.to_string()),
        IngestError::TooMany => retry_status(
            Code::ResourceExhausted,
            "too_many_uploads",
            error.to_string(),
            RETRY_AFTER,
        ),
        IngestError::Busy => {
            retry_status(Code::ResourceExhausted, "uploads_busy", error.to_string(), BUSY_AFTER)
        }
        IngestError::TooManyUpdates => {
            status(Code::FailedPrecondition, "too_many_updates", error.to_string())
        }
        IngestError::Quota { .. } => {
            retry_status(Code::ResourceExhausted, "quota_exceeded", error.to_string(), ROOM_AFTER)
        }
        IngestError::IdentityInUse => {
            retry_status(Code::AlreadyExists, "identity_in_use", error.to_string(), IN_USE_AFTER)
        }
        IngestError::Damaged(text) => {
            retry_status(Code::Aborted, "damaged_in_transfer", text.clone(), RETRY_AFTER)
        }
        IngestError::Store(error) => of_store(error),
        IngestError::Blob(error) => of_blob(error),
        IngestError::Spec(error) => of_spec(error),
    }
}

pub(super) fn no_job() -> Status {
    status(Code::NotFound, "unknown_job", "no such job: `tributary status` lists them")
}

pub(super) fn stopping() -> Status {
    let text = "the coordinator is stopping: try again";
    retry_status(Code::Unavailable, "stopping", text, RETRY_AFTER)
}
