//! Creating a job: the spec is judged whole, the first checkpoint made durable, then the job is.
//!
//! The checkpoint comes before the row that names it, so its key must be nobody else's: it holds a
//! digest of request id and spec (one that the spec names has a key of its own, and never changes). A request id that is used again with another spec, and a job id
//! that two request ids share, write elsewhere and are refused.

use std::sync::Arc;

use tonic::{Code, Status};
use tributary_core::binding::DataNeed;
use tributary_core::checkpoint;
use tributary_core::digest::Digest;
use tributary_core::name::JobId;
use tributary_core::params::ParameterSet;
use tributary_core::round::JobState;
use tributary_core::spec::JobSpec;
use tributary_proto::CHUNK_BYTES;
use tributary_proto::fault::status;
use tributary_proto::v1;

use super::{find, present};
use crate::blobs::{BlobError, first_checkpoint_key, initial_key};
use crate::driver::Hub;
use crate::failpoint::failpoint;
use crate::grpc::status::{of_blob, of_store};
use crate::store::{By, CheckpointRow, CreatedJob, NewJob};

/// Longest request id.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Checks the spec and makes the job; the answer is empty where only the check was asked for.
pub(super) async fn create(
    hub: &Arc<Hub>,
    request: v1::CreateJobRequest,
    by: By,
) -> Result<Option<v1::Job>, Status> {
    let spec = JobSpec::parse(&request.spec).map_err(|faults| {
        status(Code::InvalidArgument, "spec_invalid", format!("the spec has {faults}"))
    })?;
    let given = match spec.init {
        Some(digest) => Some(given(hub, &spec, digest).await?),
        None => None,
    };
    if request.validate_only {
        return Ok(None);
    }
    let id = job_id(&spec, &request.request_id)?;
    // Looked up first: a repeated request writes nothing.
    let earlier = hub.store.earlier_job(&request.request_id, &request.spec).await;
    let created = match earlier.map_err(|error| of_store(&error))? {
        Some(earlier) => earlier,
        None => make(hub, &spec, id.clone(), request, given, by).await?,
    };
    let id = match created {
        CreatedJob::New => {
            tracing::info!(job = %id, spec = %spec.digest, "job created");
            hub.wakes.wake_supervisor();
            id
        }
        CreatedJob::Existing(id) => id,
        CreatedJob::Conflict(id) => {
            let text = format!("this request_id made job {id} from another spec: use a new one");
            return Err(status(Code::AlreadyExists, "request_id_reused", text));
        }
        CreatedJob::Taken(id) => {
            let text = format!("job {id} is another request's: use another request_id");
            return Err(status(Code::AlreadyExists, "job_id_taken", text));
        }
    };
    let row = find(hub, id.as_str()).await?;
    Ok(Some(present(hub, &row).await?))
}

async fn make(
    hub: &Arc<Hub>,
    spec: &JobSpec,
    id: JobId,
    request: v1::CreateJobRequest,
    given: Option<CheckpointRow>,
    by: By,
) -> Result<CreatedJob, Status> {
    hub.blobs.check_room().map_err(|error| of_blob(&error))?;
    let first = match given {
        Some(given) => given,
        None => {
            let request_digest = Digest::of_fields(
                "tributary/first-checkpoint/v1",
                [request.request_id.as_bytes(), request.spec.as_bytes()],
            );
            let key = first_checkpoint_key(&id, request_digest);
            drawn(hub, spec, key).await.map_err(|error| of_blob(&error))?
        }
    };
    failpoint!("create.checkpoint");
    let new = NewJob {
        state: JobState::submitted(id, spec.digest, first.digest),
        name: spec.name.clone(),
        request_id: request.request_id,
        data_need: DataNeed::of(spec),
        spec: request.spec,
        checkpoint: first,
        by,
    };
    hub.store.create_job(&new).await.map_err(|error| of_store(&error))
}

/// The id follows from the request id, so that a request that is repeated after a kill finds its own.
fn job_id(spec: &JobSpec, request_id: &str) -> Result<JobId, Status> {
    let printable = !request_id.chars().any(char::is_control);
    if request_id.is_empty() || request_id.len() > REQUEST_ID_CHARS_MAX || !printable {
        let text = "request_id: expected 1 to 128 printable characters, such as a UUID";
        return Err(status(Code::InvalidArgument, "malformed", text));
    }
    let digest = Digest::of_fields("tributary/job/v1", [request_id.as_bytes()]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    spec.job_id(u32::from_be_bytes([a, b, c, d])).map_err(|error| {
        status(Code::InvalidArgument, "spec_invalid", format!("job.name: {error}"))
    })
}

/// The checkpoint that a spec names: one that was brought, or that another job made. It stays where it is.
async fn given(hub: &Hub, spec: &JobSpec, digest: Digest) -> Result<CheckpointRow, Status> {
    let brought = initial_key(digest);
    let (key, bytes) = match hub.blobs.len(&brought).await {
        Ok(bytes) => (brought, bytes),
        Err(BlobError::NotFound { .. }) => {
            let made = hub.store.checkpoint_by_digest(&digest).await;
            let made = made.map_err(|error| of_store(&error))?.ok_or_else(|| {
                let text = format!(
                    "init.checkpoint: expected a checkpoint that is here, found none of {digest}: \
                     bring it (tributary submit --init FILE)"
                );
                status(Code::FailedPrecondition, "unknown_checkpoint", text)
            })?;
            (made.key, made.bytes)
        }
        Err(error) => return Err(of_blob(&error)),
    };
    let schema = spec.model.schema();
    let of_another = |what: String| {
        let text = format!("init.checkpoint: {what}, which is not [model]'s");
        status(Code::InvalidArgument, "spec_invalid", text)
    };
    let expected = checkpoint::file_len(schema);
    if bytes != expected {
        return Err(of_another(format!("expected {expected} bytes, found {bytes}")));
    }
    let header = checkpoint::header(schema).len() as u64;
    let header = hub.blobs.read_range(&key, 0..header).await.map_err(|error| of_blob(&error))?;
    checkpoint::check_header(&header, schema).map_err(|error| of_another(error.to_string()))?;
    Ok(CheckpointRow { digest, key, bytes, round: 0 })
}

/// The first checkpoint of the job's seed.
async fn drawn(hub: &Hub, spec: &JobSpec, key: String) -> Result<CheckpointRow, BlobError> {
    let (model, seed) = (spec.model.clone(), spec.seed);
    let drawn = tributary_outside::blocking(move || model.initial(seed)).await;
    let parameters: ParameterSet = drawn.map_err(|error| BlobError::Io {
        key: key.clone(),
        operation: "draw the first checkpoint",
        source: std::io::Error::other(error).into(),
    })?;
    let mut writer = hub.blobs.checkpoint_writer(&key).await?;
    writer.write(checkpoint::header(parameters.schema()).into()).await?;
    for values in parameters.values().chunks(CHUNK_BYTES / 4) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(bytes.into()).await?;
    }
    let (digest, bytes) = writer.finish().await?;
    Ok(CheckpointRow { digest, key, bytes, round: 0 })
}
