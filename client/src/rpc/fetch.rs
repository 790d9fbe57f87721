//! Fetching a checkpoint into a file: resumed at the byte where an earlier try stopped.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use tonic::Streaming;
use tributary_core::digest::Digest;
use tributary_outside::blocking;
use tributary_proto::{CHUNK_BYTES, v1};

use super::{CallError, Client, Me, SILENCE, limited};

/// Appends the blob's missing bytes to `path`; `step` is called for each piece. The caller checks
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
    let mut pieces = limited(SILENCE, client.fetch_blob(request)).await?;
    while offset < bytes {
        let left = usize::try_from(bytes - offset).unwrap_or(CHUNK_BYTES);
        let mut came = BytesMut::with_capacity(left.min(CHUNK_BYTES));
        let result = receive(&mut pieces, &mut came, offset, bytes, &step).await;
        // What came before the stream broke off need not come again.
        offset += came.len() as u64;
        file = on_disk(move || file.write_all(&came).map(|()| file)).await?;
        result?;
    }
    Ok(())
}

/// Receives pieces until they are worth a write, or the blob is whole.
async fn receive(
    pieces: &mut Streaming<v1::FetchBlobResponse>,
    came: &mut BytesMut,
    offset: u64,
    bytes: u64,
    step: &impl Fn(),
) -> Result<(), CallError> {
    while came.len() < CHUNK_BYTES && offset + (came.len() as u64) < bytes {
        let offset = offset + came.len() as u64;
        let next = tokio::time::timeout(SILENCE, pieces.message()).await;
        let next = next.map_err(|_| silent(offset, bytes))??;
        let Some(piece) = next else { return Err(short(offset, bytes)) };
        let end = offset + piece.data.len() as u64;
        if piece.offset != offset || piece.total_bytes != bytes || end > bytes {
            let found = format!("bytes {}..{end} of {}", piece.offset, piece.total_bytes);
            let text = format!("expected bytes from {offset} of {bytes}, found {found}");
            return Err(CallError::Away(text, None));
        }
        came.extend_from_slice(&piece.data);
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
