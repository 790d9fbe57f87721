//! The blob store: checkpoints and the parts of updates, on any `object_store` backend.
//!
//! ```text
//! updates/{job}/{round:06}/{task}/{digest hex}/{part:05}      immutable, checked before they come
//! updates/{job}/{round:06}/{task}/{digest hex}/{part:05}.begun  what came before an upload broke off
//! checkpoints/{job}/{round:06}-{attempt:02}.safetensors       appear whole or not at all
//! checkpoints/{job}/000000-{request digest hex}.safetensors   the first one
//! initial/{digest hex}.safetensors                            one that an operator brought
//! statistics/{job}/{task}/{digest hex}                        a site's sums before round 1
//! constants/{job}                                             what they gave
//! ```
//!
//! What [`Blobs::put_part`] and [`CheckpointWriter::finish`] have acknowledged survives a power cut,
//! as far as the disk honours fsync. Nothing here checks content: parts were checked when they
//! were accepted. Every buffer is bounded: a stream holds [`STREAM_WINDOW`] chunks, a writer two
//! pieces of 8 MiB and what it was just handed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tributary_core::codec;
use tributary_core::name::{JobId, TaskId};

use crate::config::{Config, bucket};

mod error;
#[cfg(any(test, feature = "failpoints"))]
pub(crate) mod faulty;
mod folder;
mod key;
mod s3;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use error::BlobError;
pub(crate) use folder::Folder;
pub use key::{UpdateKey, checkpoint_key, constants_key, sums_key};
pub(crate) use key::{first_checkpoint_key, initial_key};
pub use writer::CheckpointWriter;

/// Bytes of a chunk of [`Blobs::stream`]: what one message of the wire carries.
pub const STREAM_CHUNK_BYTES: u64 = 1 << 20;
/// Chunks of a stream that are read ahead of their consumer, the one in its hands not counted: one
/// hides the latency of a remote store while the other is sent.
pub const STREAM_WINDOW: usize = 2;

/// A blob store; clones share it.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The same store as a plain folder, where it is one.
    folder: Option<Arc<Folder>>,
    /// Bytes that stay free on the folder's disk: for checkpoints of running jobs, and a database
    /// beside it.
    reserve: u64,
}

impl Blobs {
    /// The store that the configuration names: a folder, or a bucket, whose keys the environment has.
    ///
    /// # Errors
    /// When it cannot be made, opened or used; what was tried and what came of it.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let blobs = match bucket(&config.blobs) {
            Some(_) => {
                let keys = s3::Keys::of(|name| std::env::var(name).ok())?;
                Self::on(s3::open(&config.blobs, &config.s3, keys).await?)
            }
            None => Self::local(FilePath::new(&config.blobs))?,
        };
        let blobs = blobs.with_reserve(u64::from(config.disk_reserve_mb) << 20);
        #[cfg(feature = "failpoints")]
        let blobs = match faulty::Faults::armed() {
            Some(faults) => blobs.with_faults(faults),
            None => blobs,
        };
        Ok(blobs)
    }

    /// The store in a local folder, made if it is not there. Writes are fsynced, their folders too.
    /// Leftovers of killed writers are swept in the background; nobody reads them.
    ///
    /// # Errors
    /// When the folder cannot be made or opened.
    pub fn local(root: &FilePath) -> Result<Self, BlobError> {
        let folder = Arc::new(Folder::open(root)?);
        folder.sweep_in_background();
        Ok(Self { store: Arc::new(folder.store().clone()), folder: Some(folder), reserve: 0 })
    }

    /// The store on another backend.
    #[must_use]
    pub fn on(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folder: None, reserve: 0 }
    }

    /// The same store, which fails on purpose.
    #[cfg(any(test, feature = "failpoints"))]
    pub(crate) fn with_faults(mut self, faults: Arc<faulty::Faults>) -> Self {
        self.folder = self.folder.map(|folder| Arc::new(folder.with_faults(faults.clone())));
        self.store = Arc::new(faulty::Faulty::new(self.store, faults));
        self
    }

    /// The store that takes nothing new while less than `reserve` bytes are free.
    #[must_use]
    pub fn with_reserve(mut self, reserve: u64) -> Self {
        self.reserve = reserve;
        self
    }

    /// Whether something new may come: an update, a job. What a running round needs is not asked.
    ///
    /// # Errors
    /// [`BlobError::Full`] while there is less room than is kept free.
    pub fn check_room(&self) -> Result<(), BlobError> {
        match &self.folder {
            Some(folder) => folder.check_room(self.reserve),
            None => Ok(()),
        }
    }

    /// A store in memory, for tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::on(Arc::new(object_store::memory::InMemory::new()))
    }

    /// The store as a plain folder, where it is one.
    pub(crate) fn folder(&self) -> Option<&Arc<Folder>> {
        self.folder.as_ref()
    }

    /// Stores a part of an update; once it returns, the part is durable. Repeating it is harmless.
    ///
    /// # Errors
    /// When the store fails; the part is then there whole or not at all.
    pub async fn put_part(
        &self,
        update: &UpdateKey,
        index: u32,
        bytes: Bytes,
    ) -> Result<(), BlobError> {
        self.put(&update.part(index), bytes).await
    }

    /// Stores a small blob whole; once it returns, it is durable. Repeating it is harmless.
    ///
    /// # Errors
    /// When the store fails; the blob is then there whole or not at all.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        let path = path_of(key)?;
        let put = self.store.put(&path, PutPayload::from(bytes)).await;
        put.map_err(|error| BlobError::of(key, "store", error))?;
        self.settle(key).await
    }

    /// A small blob, whole.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], or when the store fails.
    pub async fn read(&self, key: &str) -> Result<Bytes, BlobError> {
        let length = self.len(key).await?;
        self.read_range(key, 0..length).await
    }

    /// Which parts of an update of `len` bytes are stored, ascending. Parts of another size do not
    /// count.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_parts(&self, update: &UpdateKey, len: u64) -> Result<Vec<u32>, BlobError> {
        let key = update.folder();
        let mut found = self.store.list(Some(&path_of(&key)?));
        let mut held = Vec::new();
        while let Some(meta) = found.next().await {
            let meta = meta.map_err(|error| BlobError::of(&key, "list", error))?;
            let index = meta.location.filename().and_then(|name| name.parse().ok());
            let part = index.and_then(|index| Some((index, codec::part_range(index, len)?)));
            if let Some((index, range)) = part
                && range.end - range.start == meta.size
            {
                held.push(index);
            }
        }
        held.sort_unstable();
        held.dedup();
        Ok(held)
    }

    /// The updates of a task that parts are stored of, by their digests' hex; each with its bytes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn updates_of(
        &self,
        job: &JobId,
        round: u32,
        task: &TaskId,
    ) -> Result<BTreeMap<String, u64>, BlobError> {
        let key = key::updates_of_task(job, round, task);
        let folder = path_of(&key)?;
        let mut found = self.store.list(Some(&folder));
        let mut updates = BTreeMap::new();
        while let Some(meta) = found.next().await {
            let meta = meta.map_err(|error| BlobError::of(&key, "list", error))?;
            let digest = meta.location.prefix_match(&folder).and_then(|mut rest| rest.next());
            if let Some(digest) = digest {
                *updates.entry(digest.as_ref().to_owned()).or_default() += meta.size;
            }
        }
        Ok(updates)
    }

    /// How many of a part's first bytes are kept.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn beginning_len(
        &self,
        update: &UpdateKey,
        index: u32,
    ) -> Result<u64, BlobError> {
        match self.len(&update.beginning(index)).await {
            Err(BlobError::NotFound { .. }) => Ok(0),
            len => len,
        }
    }

    /// How long a blob is, in bytes.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], or when the store fails.
    pub async fn len(&self, key: &str) -> Result<u64, BlobError> {
        let meta = self.store.head(&path_of(key)?).await;
        meta.map(|meta| meta.size).map_err(|error| BlobError::of(key, "look up", error))
    }

    /// A range of a blob's bytes, all of it.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Short`] where the blob ends before the range does, or
    /// when the store fails.
    pub async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        read_range(&*self.store, key, range).await
    }

    /// The bytes of a blob from `offset` on, in chunks of [`STREAM_CHUNK_BYTES`]. It reads no more
    /// than [`STREAM_WINDOW`] chunks ahead, and ends after its first error.
    pub fn stream(&self, key: &str, offset: u64) -> BoxStream<'static, Result<Bytes, BlobError>> {
        let (blobs, key): (Self, Arc<str>) = (self.clone(), key.into());
        let chunks = async move {
            let len = blobs.len(&key).await?;
            if offset > len {
                return Err(BlobError::Short {
                    key: key.to_string(),
                    expected: offset,
                    found: len,
                });
            }
            let starts = (offset..len).step_by(STREAM_CHUNK_BYTES as usize);
            Ok(stream::iter(starts)
                .map(move |start| {
                    let (blobs, key) = (blobs.clone(), key.clone());
                    let end = len.min(start + STREAM_CHUNK_BYTES);
                    async move { blobs.read_range(&key, start..end).await }
                })
                .buffered(STREAM_WINDOW))
        };
        stream::once(chunks).try_flatten().boxed()
    }

    /// Begins a checkpoint; nothing is seen under its key before [`CheckpointWriter::finish`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn checkpoint_writer(&self, key: &str) -> Result<CheckpointWriter, BlobError> {
        CheckpointWriter::begin(self.clone(), key).await
    }

    /// Deletes one blob, where it is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match self.store.delete(&path_of(key)?).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(BlobError::of(key, "delete", error)),
        }
    }

    /// Deletes every update of a round, finished or not. Repeating it is harmless.
    ///
    /// # Errors
    /// When the store fails; some of the updates may then be gone.
    pub async fn delete_updates(&self, job: &JobId, round: u32) -> Result<(), BlobError> {
        let key = key::updates_of_round(job, round);
        if let Some(folder) = &self.folder {
            return folder.clone().delete_tree(key).await;
        }
        let found = self.store.list(Some(&path_of(&key)?)).map_ok(|meta| meta.location).boxed();
        let deleted = self.store.delete_stream(found).try_for_each(|_| async { Ok(()) }).await;
        match deleted {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(BlobError::of(&key, "delete", error)),
        }
    }

    /// Makes the folders above a blob durable, where there are folders.
    async fn settle(&self, key: &str) -> Result<(), BlobError> {
        match &self.folder {
            Some(folder) => folder.clone().settle(key).await,
            None => Ok(()),
        }
    }
}

async fn read_range(
    store: &dyn ObjectStore,
    key: &str,
    range: Range<u64>,
) -> Result<Bytes, BlobError> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let path = path_of(key)?;
    let options = object_store::GetOptions::new().with_range(Some(range.clone()));
    let get = async {
        let found = store.get_opts(&path, options).await?;
        // Backends cut a range at the blob's end; one that starts behind it they refuse.
        Ok::<_, object_store::Error>((found.meta.size, found.bytes().await?))
    };
    match get.await {
        Ok((_, bytes)) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
        Ok((found, _)) if found < range.end => {
            Err(BlobError::Short { key: key.to_owned(), expected: range.end, found })
        }
        Ok((_, bytes)) => {
            let said = format!("its bytes broke off after {}", bytes.len());
            Err(BlobError::io(key, "read", said))
        }
        Err(error) => {
            let error = BlobError::of(key, "read", error);
            match store.head(&path).await {
                Ok(meta)
                    if meta.size < range.end && !matches!(error, BlobError::NotFound { .. }) =>
                {
                    let (key, expected, found) = (key.to_owned(), range.end, meta.size);
                    Err(BlobError::Short { key, expected, found })
                }
                _ => Err(error),
            }
        }
    }
}

fn path_of(key: &str) -> Result<Path, BlobError> {
    Path::parse(key).map_err(|error| BlobError::of(key, "name", error.into()))
}
