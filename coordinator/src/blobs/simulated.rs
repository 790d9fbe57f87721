//! Blobs for simulations: one store in memory that simulated replicas share, each over a way of its own
//! that takes time, fails as [`super::faulty`] does, and ends with its process.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::Blobs;
use super::faulty::{Faults, Faulty};

/// A process's way to the blobs.
pub trait Way: Send + Sync + std::fmt::Debug {
    /// Lets an operation pass; `false` where the process is no more and cannot wait for ever.
    fn pass(&self) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

/// The blobs that all replicas share.
#[derive(Debug, Clone, Default)]
pub struct SimulatedBlobs(Arc<InMemory>);

/// What goes wrong with a replica's blobs, while it is told to.
#[derive(Debug, Clone)]
pub struct Trouble(Arc<Faults>);

impl Trouble {
    /// None yet; its sequence is the seed's.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Faults::new(seed, 0.0))
    }

    /// Fails this share of the operations from now on.
    pub fn set_rate(&self, rate: f64) {
        self.0.set_rate(rate);
    }
}

impl SimulatedBlobs {
    /// The blobs as a process reaches them.
    #[must_use]
    pub fn over(&self, way: Arc<dyn Way>, trouble: &Trouble) -> Blobs {
        let faulty = Faulty::new(self.0.clone(), trouble.0.clone());
        Blobs::on(Arc::new(Reached { inner: Arc::new(faulty), way }))
    }

    /// The blobs as they are.
    #[must_use]
    pub fn plain(&self) -> Blobs {
        Blobs::on(self.0.clone())
    }
}

/// The store at the end of a way.
#[derive(Debug)]
struct Reached {
    inner: Arc<dyn ObjectStore>,
    way: Arc<dyn Way>,
}

async fn pass(way: &Arc<dyn Way>) -> Result<()> {
    if way.pass().await {
        return Ok(());
    }
    Err(Error::Generic { store: "simulated", source: "its process is no more".into() })
}

impl Reached {
    /// A stream that begins once the way lets it pass.
    fn behind<T: Send + 'static>(
        &self,
        begin: impl FnOnce() -> BoxStream<'static, Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let way = self.way.clone();
        let begun = async move {
            match pass(&way).await {
                Ok(()) => begin(),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            }
        };
        stream::once(begun).flatten().boxed()
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reached({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Reached {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        pass(&self.way).await?;
        let put = self.inner.put_opts(location, payload, options).await;
        pass(&self.way).await?;
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        pass(&self.way).await?;
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(ReachedUpload { inner, way: self.way.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        pass(&self.way).await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        pass(&self.way).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let inner = self.inner.clone();
        self.behind(move || inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (self.inner.clone(), prefix.cloned());
        self.behind(move || inner.list(prefix.as_ref()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        pass(&self.way).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        pass(&self.way).await?;
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload in pieces at the end of a way.
#[derive(Debug)]
struct ReachedUpload {
    inner: Box<dyn MultipartUpload>,
    way: Arc<dyn Way>,
}

#[async_trait::async_trait]
impl MultipartUpload for ReachedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (put, way) = (self.inner.put_part(data), self.way.clone());
        async move {
            pass(&way).await?;
            put.await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        pass(&self.way).await?;
        let done = self.inner.complete().await;
        pass(&self.way).await?;
        done
    }

    async fn abort(&mut self) -> Result<()> {
        pass(&self.way).await?;
        self.inner.abort().await
    }
}
