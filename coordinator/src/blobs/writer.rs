//! Writes a checkpoint piece by piece; hashes it and makes it durable on the way.

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;
use tributary_core::digest::{Digest, Hasher};

use super::folder::Staged;
use super::{BlobError, Blobs, path_of};
use crate::failpoint::failpoint;

/// Bytes that go to the store at a time: object stores take nothing below 5 MiB but the last piece,
/// and some want all of one size.
const PIECE_BYTES: usize = 8 << 20;

/// A checkpoint in the making. Dropping it leaves nothing behind under its key.
pub struct CheckpointWriter {
    blobs: Blobs,
    key: String,
    /// The piece that is being hashed and stored while the next one is filled.
    under_way: Option<JoinHandle<Result<Progress, BlobError>>>,
    /// `None` while a piece is under way, which has it then.
    progress: Option<Progress>,
    /// What was handed in and is not yet a full piece; not copied.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    len: u64,
}

/// What a piece is added to.
struct Progress {
    target: Target,
    hasher: Hasher,
}

enum Target {
    /// A file of a local folder. Each piece is fsynced as it is written, while the next one is
    /// computed, so that little is left to wait for at the end.
    File(Staged),
    /// Any other backend.
    Upload(Upload),
}

/// An upload in pieces, which the backend keeps, and charges for, until it is completed or aborted.
struct Upload {
    parts: Option<Box<dyn MultipartUpload>>,
    key: String,
}

impl Upload {
    fn parts(&mut self) -> Result<&mut Box<dyn MultipartUpload>, BlobError> {
        let over = || BlobError::io(&self.key, "go on with", "its upload is over");
        self.parts.as_mut().ok_or_else(over)
    }

    async fn complete(mut self) -> Result<(), BlobError> {
        let done = self.parts()?.complete().await;
        done.map_err(|error| BlobError::of_write(&self.key, "finish", error))?;
        self.parts = None;
        Ok(())
    }
}

impl Drop for Upload {
    /// Given up: its pieces must not stay at the backend. A killed process cannot do this; a rule of
    /// the bucket that ends old uploads does.
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else { return };
        let key = std::mem::take(&mut self.key);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = parts.abort().await {
                    tracing::debug!(%key, %error, "an upload that was given up could not be aborted");
                }
            });
        }
    }
}

impl std::fmt::Debug for CheckpointWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointWriter").field("key", &self.key).field("len", &self.len).finish()
    }
}

impl CheckpointWriter {
    pub(super) async fn begin(blobs: Blobs, key: &str) -> Result<Self, BlobError> {
        let target = if let Some(folder) = &blobs.folder {
            Target::File(folder.clone().stage(key.to_owned()).await?)
        } else {
            let upload = blobs.store.put_multipart(&path_of(key)?).await;
            let parts = Some(upload.map_err(|error| BlobError::of_write(key, "begin", error))?);
            Target::Upload(Upload { parts, key: key.to_owned() })
        };
        Ok(Self {
            blobs,
            key: key.to_owned(),
            under_way: None,
            progress: Some(Progress { target, hasher: Hasher::new() }),
            waiting: Vec::new(),
            waiting_bytes: 0,
            len: 0,
        })
    }

    /// Adds bytes. A full piece of 8 MiB is stored while the next one fills; where both are full it
    /// waits, so no more than two pieces and `bytes` are held.
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
        let (target, digest) = self.seal().await?;
        Ok((digest, self.publish(target).await?))
    }

    /// Like [`Self::finish`], where the bytes have this digest; its length.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] where they have another, or when the store fails; the key is then as it was
    /// before.
    pub async fn finish_as(mut self, expected: Digest) -> Result<u64, BlobError> {
        let (target, found) = self.seal().await?;
        if found != expected {
            return Err(BlobError::Damaged { key: self.key, expected, found });
        }
        self.publish(target).await
    }

    /// Waits for the last bytes; nothing is visible yet.
    async fn seal(&mut self) -> Result<(Target, Digest), BlobError> {
        if self.waiting_bytes > 0 || self.len == 0 {
            self.flush().await?;
        }
        let Progress { target, hasher } = self.arrive().await?;
        Ok((target, hasher.finish()))
    }

    /// Makes it visible; its length.
    async fn publish(self, target: Target) -> Result<u64, BlobError> {
        failpoint!("blob.checkpoint.written");
        match target {
            Target::File(staged) => staged.publish().await?,
            Target::Upload(upload) => upload.complete().await?,
        }
        self.blobs.settle(&self.key).await?;
        Ok(self.len)
    }

    fn hold(&mut self, bytes: Bytes) {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
    }

    /// Sends what waits on its way, once the piece before it has arrived.
    async fn flush(&mut self) -> Result<(), BlobError> {
        let progress = self.arrive().await?;
        self.len += self.waiting_bytes as u64;
        self.waiting_bytes = 0;
        let pieces = std::mem::take(&mut self.waiting);
        self.under_way = Some(tokio::spawn(progress.add(self.key.clone(), pieces)));
        Ok(())
    }

    async fn arrive(&mut self) -> Result<Progress, BlobError> {
        let joined = match self.under_way.take() {
            Some(piece) => piece.await,
            None => Ok(self.progress.take().ok_or_else(|| {
                BlobError::io(&self.key, "go on with", "an earlier piece of it failed")
            })),
        };
        joined.map_err(|error| BlobError::io(&self.key, "write", error))?
    }
}

impl Progress {
    async fn add(self, key: String, pieces: Vec<Bytes>) -> Result<Self, BlobError> {
        let Self { target, mut hasher } = self;
        // Hashing and files block: they go to a thread for that.
        let lost = |error: tributary_outside::Lost| BlobError::io(&key, "write", error);
        match target {
            Target::File(mut staged) => {
                let added = tributary_outside::blocking(move || {
                    pieces.iter().for_each(|piece| hasher.update(piece));
                    staged.append(&pieces)?;
                    Ok(Self { target: Target::File(staged), hasher })
                });
                added.await.map_err(lost)?
            }
            Target::Upload(mut upload) => {
                let put = upload.parts()?.put_part(PutPayload::from_iter(pieces.iter().cloned()));
                let hash = tributary_outside::blocking(move || {
                    pieces.iter().for_each(|piece| hasher.update(piece));
                    hasher
                });
                let (put, hash) = futures::join!(put, hash);
                put.map_err(|error| BlobError::of_write(&key, "write", error))?;
                Ok(Self { target: Target::Upload(upload), hasher: hash.map_err(lost)? })
            }
        }
    }
}
