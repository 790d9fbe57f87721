//! Reads the same stretch of every update: files block by block, other backends unit by unit.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tributary_core::codec::VALUE_BYTES;
use tributary_outside::wait;

use super::scan::{Pass, Piece, Unit, Weighted};
use crate::blobs::{BlobError, Blobs, Folder};

/// Stretches that are fetched ahead from a backend that is not a folder, for each thread: they hide
/// the latency of a round trip, in 2 MiB with units of 256 KiB.
const FETCHES_AHEAD: usize = 8;

/// Where updates are read from, with the buffers of one thread.
pub(super) struct Source {
    blobs: Blobs,
    runtime: Handle,
    /// Blocks of two updates, used again and again.
    blocks: [Vec<u8>; 2],
}

impl Source {
    pub(super) fn new(blobs: &Blobs, block_bytes: usize, runtime: Handle) -> Self {
        let blocks = [vec![0; block_bytes], vec![0; block_bytes]];
        Self { blobs: blobs.clone(), runtime, blocks }
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Shows a unit of all updates to a pass, each update once.
    pub(super) fn show(
        &mut self,
        updates: &[Weighted],
        unit: &Unit,
        pass: &mut impl Pass,
    ) -> Result<(), BlobError> {
        match self.blobs.folder().cloned() {
            Some(folder) => self.show_files(&folder, updates, unit, pass),
            None => self.show_fetched(updates, unit, pass),
        }
    }

    fn show_files(
        &mut self,
        folder: &Arc<Folder>,
        updates: &[Weighted],
        unit: &Unit,
        pass: &mut impl Pass,
    ) -> Result<(), BlobError> {
        for pair in updates.chunks(2) {
            let mut files = Vec::with_capacity(2);
            for update in pair {
                let key = update.key.part(unit.part);
                files.push((folder.file(&key)?, key, update.factor));
            }
            let mut at = unit.bytes.start;
            while at < unit.bytes.end {
                let end = unit.bytes.end.min(at + self.blocks[0].len() as u64);
                for ((file, key, _), block) in files.iter().zip(&mut self.blocks) {
                    folder.read_exact(file, key, at..end, &mut block[..(end - at) as usize])?;
                }
                let pieces: [Piece<'_>; 2] = std::array::from_fn(|i| {
                    let bytes = &self.blocks[i][..(end - at) as usize];
                    (bytes.as_chunks::<VALUE_BYTES>().0, files.get(i).map_or(0.0, |file| file.2))
                });
                let from = (at - unit.bytes.start) as usize / VALUE_BYTES;
                pass.add(from, &pieces[..files.len()]);
                at = end;
            }
        }
        Ok(())
    }

    fn show_fetched(
        &self,
        updates: &[Weighted],
        unit: &Unit,
        pass: &mut impl Pass,
    ) -> Result<(), BlobError> {
        let fetch = |update: &Weighted| {
            let (blobs, key) = (self.blobs.clone(), update.key.part(unit.part));
            let (range, factor) = (unit.bytes.clone(), update.factor);
            async move { Ok((blobs.read_range(&key, range).await?, factor)) }
        };
        let mut fetched = stream::iter(updates.iter().map(fetch)).buffered(FETCHES_AHEAD);
        let mut next = || -> Result<Option<(Bytes, f64)>, BlobError> {
            wait(&self.runtime, fetched.next()).transpose()
        };
        while let Some((a, a_factor)) = next()? {
            let a = (a.as_chunks::<VALUE_BYTES>().0, a_factor);
            match next()? {
                Some((b, b_factor)) => {
                    pass.add(0, &[a, (b.as_chunks::<VALUE_BYTES>().0, b_factor)])
                }
                None => pass.add(0, &[a]),
            }
        }
        Ok(())
    }
}

/// A range of a blob, from a thread that may block.
pub(super) fn read_range(
    blobs: &Blobs,
    runtime: &Handle,
    key: &str,
    range: Range<u64>,
    buffer: &mut Vec<u8>,
) -> Result<(), BlobError> {
    buffer.resize((range.end - range.start) as usize, 0);
    match blobs.folder() {
        Some(folder) => folder.read_exact(&folder.file(key)?, key, range, buffer),
        None => {
            buffer.copy_from_slice(&wait(runtime, blobs.read_range(key, range))?);
            Ok(())
        }
    }
}
