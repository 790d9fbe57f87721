//! Writes a checkpoint piece by piece and hashes it on the way.

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tributary_core::digest::{Digest, Hasher};

use super::{BlobError, Blobs, path_of};

/// Bytes that go to the store at a time: object stores take nothing below 5 MiB but the last piece,
/// and some want all of one size.
const PIECE_BYTES: usize = 8 << 20;

/// A checkpoint in the making. Dropping it leaves nothing behind under its key.
#[derive(Debug)]
pub struct CheckpointWriter {
    blobs: Blobs,
    key: String,
    upload: Box<dyn MultipartUpload>,
    hasher: HasherSlot,
    /// What was handed in and is not yet a full piece; not copied.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    len: u64,
}

/// The digest in the making; it is away while a thread adds to it.
#[derive(Default)]
struct HasherSlot(Hasher);

impl std::fmt::Debug for HasherSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HasherSlot")
    }
}

impl CheckpointWriter {
    pub(super) async fn begin(blobs: Blobs, key: &str) -> Result<Self, BlobError> {
        let upload = blobs.store.put_multipart(&path_of(key)?).await;
        let upload = upload.map_err(|error| BlobError::of(key, "begin", error))?;
        let (key, hasher) = (key.to_owned(), HasherSlot::default());
        Ok(Self { blobs, key, upload, hasher, waiting: Vec::new(), waiting_bytes: 0, len: 0 })
    }

    /// Adds bytes. It waits for the store whenever a piece of 8 MiB is full, so no more than that
    /// and `bytes` are held.
    ///
    /// # Errors
    /// When the store fails; the writer is then of no more use.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        while self.waiting_bytes + bytes.len() >= PIECE_BYTES {
            self.hold(bytes.split_to(PIECE_BYTES - self.waiting_bytes));
            self.flush().await?;
        }
        if !bytes.is_empty() {
            self.hold(bytes);
        }
        Ok(())
    }

    /// Makes the checkpoint durable and visible; its digest and its length.
    ///
    /// # Errors
    /// When the store fails; the key is then as it was before.
    pub async fn finish(mut self) -> Result<(Digest, u64), BlobError> {
        if self.waiting_bytes > 0 || self.len == 0 {
            self.flush().await?;
        }
        let done = self.upload.complete().await;
        done.map_err(|error| BlobError::of(&self.key, "finish", error))?;
        self.blobs.settle(&self.key).await?;
        Ok((self.hasher.0.finish(), self.len))
    }

    fn hold(&mut self, bytes: Bytes) {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
    }

    /// Hashes what waits on a blocking thread while the store takes it.
    async fn flush(&mut self) -> Result<(), BlobError> {
        self.len += self.waiting_bytes as u64;
        self.waiting_bytes = 0;
        let pieces = std::mem::take(&mut self.waiting);
        let put = self.upload.put_part(PutPayload::from_iter(pieces.iter().cloned()));
        let mut hasher = std::mem::take(&mut self.hasher.0);
        let hash = tokio::task::spawn_blocking(move || {
            pieces.iter().for_each(|piece| hasher.update(piece));
            hasher
        });
        let (put, hash) = futures::join!(put, hash);
        put.map_err(|error| BlobError::of(&self.key, "write", error))?;
        self.hasher.0 = hash.map_err(|error| BlobError::io(&self.key, "hash", error))?;
        Ok(())
    }
}
