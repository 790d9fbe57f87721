//! Fetching a checkpoint into a file: resumed at the byte where an earlier try stopped.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use tributary_core::digest::Digest;
use tributary_outside::blocking;
use tributary_proto::v1;

use super::{CallError, Client, Me, SILENCE, limited};

/// Appends the blob's missing bytes to `path`; `step` is called for each chunk. The caller checks
/// the digest when it reads the file: a partial file may be of an earlier process.
pub(crate) async fn fetch(
    client: &mut Client,
    me: &Me,
    digest: Digest,
    bytes: u64,
    path: &Path,
    step: impl Fn(),
) -> Result<(), CallError> {
    let path = path.to_owned();
    let (mut file, mut offset) = on_disk(move || open(path, bytes)).await?;
    let request = v1::FetchBlobRequest { caller: me.caller(), digest: digest.to_string(), offset };
    let mut chunks = limited(SILENCE, client.fetch_blob(request)).await?;
    while offset < bytes {
        let next = tokio::time::timeout(SILENCE, chunks.message()).await;
        let next = next.map_err(|_| silent(offset, bytes))??;
        let Some(chunk) = next else { return Err(short(offset, bytes)) };
        let end = offset + chunk.data.len() as u64;
        if chunk.offset != offset || chunk.total_bytes != bytes || end > bytes {
            let found = format!("bytes {}..{end} of {}", chunk.offset, chunk.total_bytes);
            let text = format!("expected bytes from {offset} of {bytes}, found {found}");
            return Err(CallError::Away(text, None));
        }
        file = on_disk(move || file.write_all(&chunk.data).map(|()| file)).await?;
        offset = end;
        step();
    }
    Ok(())
}

/// The file, and how much of the blob is in it.
fn open(path: PathBuf, bytes: u64) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut offset = file.metadata()?.len();
    if offset > bytes {
        file.set_len(0)?;
        offset = 0;
    }
    Ok((file, offset))
}

/// Work with a file, on a thread for that.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, CallError> {
    let done = blocking(work).await;
    done.map_err(|lost| CallError::Local(lost.to_string()))?.map_err(CallError::from)
}

fn silent(offset: u64, bytes: u64) -> CallError {
    CallError::Away(format!("the checkpoint stream was silent at {offset} of {bytes} bytes"), None)
}

fn short(offset: u64, bytes: u64) -> CallError {
    CallError::Away(format!("the checkpoint stream ended at {offset} of {bytes} bytes"), None)
}
