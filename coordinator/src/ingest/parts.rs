//! The parts of one upload, on their way to disk: checked and made durable as they come, two at a time.
//!
//! Memory per upload is bounded by [`PARTS_IN_FLIGHT`] parts and the one that is being received. Where a
//! link breaks, nothing that came is sent again: whole parts are written to their end, whoever still
//! listens, and the beginning of the broken one is kept beside them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tributary_core::codec::{self, Expectation};
use tributary_core::digest::Digest;
use tributary_proto::convert::{Upload, WireFault};

use super::upload::UploadStream;
use super::{IngestError, Known};
use crate::blobs::{BlobError, UpdateKey};
use crate::driver::Hub;
use crate::failpoint::failpoint;

/// Parts of one upload that are hashed and written while the next one is received.
const PARTS_IN_FLIGHT: usize = 2;

/// The parts of an update of `bytes` bytes that are not among those that are held, ascending.
pub(super) fn missing(bytes: u64, held: &[u32]) -> impl Iterator<Item = u32> {
    (0..codec::part_count(bytes)).filter(move |part| held.binary_search(part).is_err())
}

/// The parts of one upload on their way to disk.
pub(super) struct Parts<'a> {
    hub: &'a Arc<Hub>,
    upload: &'a Upload,
    key: UpdateKey,
    expect: Expectation,
    missing: Vec<u32>,
    /// Whoever writes has it too.
    place: Arc<OwnedSemaphorePermit>,
    writing: JoinSet<Result<(), IngestError>>,
}

/// The upload's call may be dropped as soon as its link breaks: what came is written all the same.
impl Drop for Parts<'_> {
    fn drop(&mut self) {
        self.writing.detach_all();
    }
}

impl<'a> Parts<'a> {
    /// What is still to come of an update, some parts of which are held.
    pub(super) fn new(
        hub: &'a Arc<Hub>,
        known: &Known,
        upload: &'a Upload,
        (key, held): (UpdateKey, Vec<u32>),
        place: OwnedSemaphorePermit,
    ) -> Self {
        let schema = known.spec.parsed.model.schema();
        let expect = Expectation {
            schema: schema.digest(),
            parameters: schema.len(),
            max_abs: known.spec.parsed.strategy.max_abs_update(),
        };
        let missing = missing(upload.bytes, &held).collect();
        let (place, writing) = (Arc::new(place), JoinSet::new());
        Self { hub, upload, key, expect, missing, place, writing }
    }

    /// Receives what is missing. What came before the upload broke off is durable when its error goes
    /// out: the next try need not send it.
    pub(super) async fn receive(&mut self, mut chunks: UploadStream) -> Result<(), IngestError> {
        let received = self.receive_missing(&mut chunks).await;
        let mut written = Ok(());
        while !self.writing.is_empty() {
            written = written.and(self.finish_one().await);
        }
        received.and(written)
    }

    async fn receive_missing(&mut self, chunks: &mut UploadStream) -> Result<(), IngestError> {
        for part in std::mem::take(&mut self.missing) {
            let len = codec::part_range(part, self.upload.bytes).map_or(0, |r| r.end - r.start);
            let mut came = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
            let begun = self.begin(part, &mut came).await?;
            let filled = tokio::select! {
                biased;
                filled = fill(part, len, &mut came, chunks) => filled,
                () = self.hub.uploads.too_slow(Instant::now(), len - begun) => {
                    let text = format!("part {part} took too long: send what is missing of it");
                    Err(IngestError::Damaged(text))
                }
            };
            if let Err(IngestError::Damaged(_)) = &filled {
                // Before anything is waited for: the call may be dropped now.
                self.keep(part, begun, came.split().freeze());
            }
            filled?;
            while self.writing.len() >= PARTS_IN_FLIGHT {
                self.finish_one().await?;
            }
            self.store(part, begun, came.freeze());
        }
        Ok(())
    }

    /// Reads the beginning that the client goes on behind.
    async fn begin(&self, part: u32, came: &mut BytesMut) -> Result<u64, IngestError> {
        let Some((_, bytes)) = self.upload.beginning.filter(|(of, _)| *of == part) else {
            return Ok(0);
        };
        let key = self.key.beginning(part);
        match self.hub.blobs.read_range(&key, 0..bytes).await {
            Ok(beginning) => came.extend_from_slice(&beginning),
            Err(BlobError::NotFound { .. } | BlobError::Short { .. }) => {
                let text = format!("{bytes} bytes of part {part} are not here: ask how many are");
                return Err(IngestError::Damaged(text));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(bytes)
    }

    /// Keeps the beginning of a part that did not come whole, where it is longer than it was.
    fn keep(&mut self, part: u32, begun: u64, came: Bytes) {
        if came.len() as u64 <= begun {
            return;
        }
        let (hub, key, place) = (self.hub.clone(), self.key.clone(), self.place.clone());
        self.writing.spawn(async move {
            let _place = place;
            // A try that did not know of it, and came less far, takes nothing from it.
            if hub.blobs.beginning_len(&key, part).await? < came.len() as u64 {
                hub.blobs.check_room()?;
                hub.blobs.put(&key.beginning(part), came).await?;
            }
            Ok(())
        });
    }

    fn store(&mut self, part: u32, begun: u64, bytes: Bytes) {
        let (hub, key, expect) = (self.hub.clone(), self.key.clone(), self.expect);
        let digest = self.upload.parts.get(part as usize).copied();
        let place = self.place.clone();
        self.writing.spawn(async move {
            let _place = place;
            let checked = bytes.clone();
            let check = tributary_outside::blocking(move || {
                if digest != Some(Digest::of(&checked)) {
                    let text = format!("part {part} was damaged on its way: send it again");
                    return Err(IngestError::Damaged(text));
                }
                codec::check_part(part, &checked, &expect).map_err(IngestError::from)
            });
            let check = check.await.map_err(|error| IngestError::Damaged(error.to_string()));
            if let Err(error) = check.and_then(|checked| checked) {
                // Who began with damaged bytes would never come to an end.
                if begun > 0 {
                    hub.blobs.delete(&key.beginning(part)).await?;
                }
                return Err(error);
            }
            failpoint!("upload.part.received");
            // For each part: an upload can be longer than the room that it began with.
            hub.blobs.check_room()?;
            hub.blobs.put_part(&key, part, bytes).await?;
            failpoint!("upload.part.stored");
            if begun > 0 {
                hub.blobs.delete(&key.beginning(part)).await?;
            }
            Ok(())
        });
    }

    async fn finish_one(&mut self) -> Result<(), IngestError> {
        match self.writing.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(IngestError::Damaged(error.to_string())),
            None => Ok(()),
        }
    }
}

/// The bytes of a part that are not there yet. Parts that are held already may be sent again; they are
/// passed over.
async fn fill(
    part: u32,
    len: u64,
    came: &mut BytesMut,
    chunks: &mut UploadStream,
) -> Result<(), IngestError> {
    let len = usize::try_from(len).unwrap_or(0);
    let mut any = false;
    while came.len() < len {
        let Some(chunk) = chunks.next().await else {
            let found = format!("the end at {} bytes of part {part}", came.len());
            return Err(IngestError::Damaged(format!("expected {len} bytes, found {found}")));
        };
        let chunk = chunk?;
        if chunk.part < part && !any {
            continue;
        }
        if chunk.part != part || chunk.data.is_empty() || came.len() + chunk.data.len() > len {
            let expected = format!("1 to {} bytes of part {part}", len - came.len());
            let found = format!("{} bytes of part {}", chunk.data.len(), chunk.part);
            return Err(WireFault::new("chunk", expected, found).into());
        }
        any = true;
        came.extend_from_slice(&chunk.data);
    }
    Ok(())
}
