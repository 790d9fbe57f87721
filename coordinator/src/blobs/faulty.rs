//! A store that fails on purpose: what every backend must be able to stand. In tests and builds with
//! `failpoints` alone.
//!
//! By a seed and at a rate, an operation fails before it did anything, or after it did everything (a
//! lost reply), is done twice (a retry whose first try had worked), takes longer, or breaks off in
//! the middle of a body. The sequence of faults is the seed's; which operation meets which depends on
//! the order in which threads come.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use tributary_core::prg::Prg;

/// The variable that makes a process's blobs faulty: `SEED:RATE`, the rate from 0 to 1.
#[cfg(feature = "failpoints")]
const VARIABLE: &str = "TRIBUTARY_BLOB_FAULTS";
/// The longest delay: longer than what an operation takes, shorter than what anybody waits.
const DELAY_MS_MAX: u64 = 20;

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// It fails and has done nothing.
    Before,
    /// It fails and has done everything.
    After,
    /// It is done twice.
    Twice,
    /// It takes longer.
    Delay(Duration),
    /// Its body breaks off with an error.
    Cut,
    /// Its body ends early and nobody says so.
    Short,
}

/// A seeded plan of faults, shared by all that follows it.
#[derive(Debug)]
pub(crate) struct Faults {
    prg: Mutex<Prg>,
    /// The bits of an `f64`.
    rate: AtomicU64,
    struck: AtomicU64,
}

impl Faults {
    pub(crate) fn new(seed: u64, rate: f64) -> Arc<Self> {
        let prg = Mutex::new(Prg::for_round(seed, "blob-faults", 0, 0));
        let rate = AtomicU64::new(rate.to_bits());
        Arc::new(Self { prg, rate, struck: AtomicU64::new(0) })
    }

    /// The plan that the environment asks for.
    #[cfg(feature = "failpoints")]
    pub(crate) fn armed() -> Option<Arc<Self>> {
        let text = std::env::var(VARIABLE).ok()?;
        let parsed = text.split_once(':').and_then(|(seed, rate)| {
            let rate = rate.parse().ok().filter(|rate| (0.0..=1.0).contains(rate))?;
            Some((seed.parse().ok()?, rate))
        });
        assert!(parsed.is_some(), "{VARIABLE}: expected SEED:RATE, found {text:?}");
        let (seed, rate) = parsed?;
        tracing::warn!(seed, rate, "blobs fail on purpose");
        Some(Self::new(seed, rate))
    }

    /// Another rate from now on.
    #[cfg(feature = "simulation")]
    pub(crate) fn set_rate(&self, rate: f64) {
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    /// How many faults there were.
    #[cfg(test)]
    pub(crate) fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }

    /// The next fault, one of these.
    fn draw(&self, of: &[Fault]) -> Fault {
        let mut prg = self.prg.lock().unwrap_or_else(PoisonError::into_inner);
        if prg.unit_f64() >= f64::from_bits(self.rate.load(Ordering::Relaxed)) {
            return Fault::None;
        }
        let fault = of[prg.below(of.len() as u64) as usize];
        let struck = self.struck.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(?fault, struck, "a fault on purpose");
        match fault {
            Fault::Delay(_) => Fault::Delay(Duration::from_millis(1 + prg.below(DELAY_MS_MAX))),
            fault => fault,
        }
    }

    /// Something on a thread that may block, with what goes wrong with it.
    pub(super) fn around<T>(
        &self,
        work: impl FnOnce() -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let broken = || std::io::Error::other(ON_PURPOSE);
        match self.draw(&[Fault::Before, Fault::After, DELAY]) {
            Fault::Before => Err(broken()),
            Fault::After => work().and_then(|_| Err(broken())),
            Fault::Delay(time) => {
                std::thread::sleep(time);
                work()
            }
            _ => work(),
        }
    }
}

const DELAY: Fault = Fault::Delay(Duration::ZERO);
const ON_PURPOSE: &str = "it failed on purpose";

fn broken<T>() -> Result<T> {
    Err(Error::Generic { store: "faulty", source: ON_PURPOSE.into() })
}

/// A store with faults.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    async fn wait(&self, of: &[Fault]) -> Fault {
        let fault = self.faults.draw(of);
        if let Fault::Delay(time) = fault {
            // A simulated thread that blocks cannot wait for the runtime that it runs in.
            #[cfg(feature = "simulation")]
            if tributary_outside::simulated::is_within() {
                return fault;
            }
            tokio::time::sleep(time).await;
        }
        fault
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.wait(&[Fault::Before, Fault::After, Fault::Twice, DELAY]).await;
        if fault == Fault::Before {
            return broken();
        }
        let put = self.inner.put_opts(location, payload.clone(), options.clone()).await?;
        match fault {
            Fault::After => broken(),
            Fault::Twice => self.inner.put_opts(location, payload, options).await,
            _ => Ok(put),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if self.wait(&[Fault::Before, DELAY]).await == Fault::Before {
            return broken();
        }
        let inner = self.inner.put_multipart_opts(location, options).await?;
        let location = location.to_string();
        Ok(Box::new(FaultyUpload { inner, faults: self.faults.clone(), location }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = match options.head {
            true => self.wait(&[Fault::Before, DELAY]).await,
            false => self.wait(&[Fault::Before, DELAY, Fault::Cut, Fault::Short]).await,
        };
        match fault {
            Fault::Before => broken(),
            Fault::Cut => cut(self.inner.get_opts(location, options).await?, true).await,
            Fault::Short => cut(self.inner.get_opts(location, options).await?, false).await,
            _ => self.inner.get_opts(location, options).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let failure = stream::once(async { broken() });
        match self.faults.draw(&[Fault::Before, Fault::After, Fault::Cut]) {
            Fault::Before => failure.boxed(),
            Fault::After => self.inner.delete_stream(locations).chain(failure).boxed(),
            Fault::Cut => {
                self.inner.delete_stream(locations.take(1).boxed()).chain(failure).boxed()
            }
            _ => self.inner.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let failure = stream::once(async { broken() });
        match self.faults.draw(&[Fault::Before, Fault::Cut]) {
            Fault::Before => failure.boxed(),
            Fault::Cut => self.inner.list(prefix).take(1).chain(failure).boxed(),
            _ => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.wait(&[Fault::Before, DELAY]).await {
            Fault::Before => broken(),
            _ => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The first half of a body; then an error, or nothing.
async fn cut(whole: GetResult, told: bool) -> Result<GetResult> {
    let (meta, range): (ObjectMeta, Range<u64>) = (whole.meta.clone(), whole.range.clone());
    let (attributes, extensions) = (whole.attributes.clone(), whole.extensions.clone());
    let bytes = whole.bytes().await?;
    let half: Result<Bytes> = Ok(bytes.slice(..bytes.len() / 2));
    let payload = match told {
        true => stream::iter([half, broken()]).boxed(),
        false => stream::iter([half]).boxed(),
    };
    let payload = GetResultPayload::Stream(payload);
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

/// An upload with faults.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Arc<Faults>,
    location: String,
}

#[async_trait::async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.faults.draw(&[Fault::Before, Fault::After, DELAY]) {
            Fault::Before => async { broken() }.boxed(),
            Fault::After => {
                let put = self.inner.put_part(data);
                async move { put.await.and_then(|()| broken()) }.boxed()
            }
            Fault::Delay(time) => {
                let put = self.inner.put_part(data);
                async move {
                    tokio::time::sleep(time).await;
                    put.await
                }
                .boxed()
            }
            _ => self.inner.put_part(data),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.faults.draw(&[Fault::Before, Fault::After, Fault::Twice, DELAY]);
        match fault {
            Fault::Before => return broken(),
            Fault::Delay(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        let done = self.inner.complete().await?;
        match fault {
            Fault::After => broken(),
            // The reply was lost and the client asked again: the upload is known no longer.
            Fault::Twice => {
                let (path, source) = (self.location.clone(), "NoSuchUpload".into());
                Err(Error::NotFound { path, source })
            }
            _ => Ok(done),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        match self.faults.draw(&[Fault::Before, Fault::After]) {
            Fault::Before => broken(),
            Fault::After => self.inner.abort().await.and_then(|()| broken()),
            _ => self.inner.abort().await,
        }
    }
}
