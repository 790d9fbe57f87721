//! Creating a job: the spec is judged whole, the first checkpoint made durable, then the job is.

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
use crate::blobs::{BlobError, checkpoint_key};
use crate::driver::Hub;
use crate::failpoint::failpoint;
use crate::grpc::status::{of_blob, of_store};
use crate::store::{CheckpointRow, CreatedJob, NewJob};

/// Longest request id.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Checks the spec and makes the job; the answer is empty where only the check was asked for.
pub(super) async fn create(
    hub: &Arc<Hub>,
    request: v1::CreateJobRequest,
    submitted_by: &str,
) -> Result<Option<v1::Job>, Status> {
    let spec = JobSpec::parse(&request.spec).map_err(|faults| {
        status(Code::InvalidArgument, "spec_invalid", format!("the spec has {faults}"))
    })?;
    if request.validate_only {
        return Ok(None);
    }
    let id = job_id(&spec, &request.request_id)?;
    hub.blobs.check_room().map_err(|error| of_blob(&error))?;
    let first = first_checkpoint(hub, &spec, &id).await.map_err(|error| of_blob(&error))?;
    failpoint!("create.checkpoint");
    let new = NewJob {
        state: JobState::submitted(id.clone(), spec.digest, first.digest),
        name: spec.name.clone(),
        request_id: request.request_id,
        data_need: DataNeed::of(&spec),
        spec: request.spec,
        checkpoint: first,
        submitted_by: submitted_by.to_owned(),
    };
    let id = match hub.store.create_job(&new).await.map_err(|error| of_store(&error))? {
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
    };
    let row = find(hub, id.as_str()).await?;
    Ok(Some(present(hub, &row).await?))
}

/// The id follows from the request id, so that a repeated request writes the same blob again.
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

async fn first_checkpoint(
    hub: &Hub,
    spec: &JobSpec,
    job: &JobId,
) -> Result<CheckpointRow, BlobError> {
    let (model, seed) = (spec.model.clone(), spec.seed);
    let drawn = tokio::task::spawn_blocking(move || model.initial(seed)).await;
    let parameters: ParameterSet = drawn.map_err(|error| BlobError::Io {
        key: checkpoint_key(job, 0, 0),
        operation: "draw the first checkpoint",
        source: std::io::Error::other(error).into(),
    })?;
    let key = checkpoint_key(job, 0, 0);
    let mut writer = hub.blobs.checkpoint_writer(&key).await?;
    writer.write(checkpoint::header(parameters.schema()).into()).await?;
    for values in parameters.values().chunks(CHUNK_BYTES / 4) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(bytes.into()).await?;
    }
    let (digest, bytes) = writer.finish().await?;
    Ok(CheckpointRow { digest, key, bytes, round: 0 })
}
