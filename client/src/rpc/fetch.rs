//! Fetching a checkpoint into a file: resumed at the byte where an earlier try stopped.

use std::path::Path;

use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tributary_core::digest::Digest;
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
    let file = OpenOptions::new().create(true).append(true).open(path).await?;
    let mut offset = file.metadata().await?.len();
    if offset > bytes {
        file.set_len(0).await?;
        offset = 0;
    }
    let mut file = tokio::io::BufWriter::with_capacity(tributary_proto::CHUNK_BYTES, file);
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
        file.write_all(&chunk.data).await?;
        offset = end;
        step();
    }
    file.flush().await?;
    Ok(())
}

fn silent(offset: u64, bytes: u64) -> CallError {
    CallError::Away(format!("the checkpoint stream was silent at {offset} of {bytes} bytes"), None)
}

fn short(offset: u64, bytes: u64) -> CallError {
    CallError::Away(format!("the checkpoint stream ended at {offset} of {bytes} bytes"), None)
}
