//! The values of a data set: in memory up to a budget, beyond it in a scratch file that is read block
//! by block.
//!
//! Every format is written there once, value behind value, little-endian, whether it lay compressed,
//! encoded or in text; an epoch then reads whole blocks. The file has no name (it is unlinked when it
//! is made), so that nothing is left of it after a kill. It is only ever read by offset, never mapped:
//! a disk that fails is an error and not a signal.
//!
//! In memory beside it, whatever the size of the data: labels, targets, lengths, clients and the order
//! of the rows, 4 to 24 bytes a row together (and 4 for each number that is predicted).

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::DataError;

/// Bytes of a scratch file that are read at once: a seek costs no more than the reading does.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Blocks whose rows are shuffled among each other. Constant, like the size of a block: the order of
/// rows must not depend on how much memory a site has.
pub(crate) const WINDOW_BLOCKS: usize = 32;
/// Blocks in memory: a window, and the ends of rows that begin in its last blocks.
const BLOCKS_KEPT: usize = WINDOW_BLOCKS + 2;

/// Where values may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Bytes of a part (rows to train on, rows to evaluate on) that are held in memory; a part of more
    /// goes to a scratch file as a whole.
    pub memory_bytes: usize,
    /// Most bytes of a scratch file.
    pub scratch_bytes: u64,
    /// The folder of scratch files; the system's for temporary files where this is none.
    pub scratch_dir: Option<PathBuf>,
}

impl Default for Room {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, scratch_bytes: 1 << 36, scratch_dir: None }
    }
}

impl Room {
    pub(crate) fn folder(&self) -> PathBuf {
        self.scratch_dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// A file without a name.
    pub(crate) fn scratch(&self) -> Result<Scratch, DataError> {
        let folder = self.folder();
        let made = std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
        let file = made.map_err(|source| DataError::Scratch { folder: folder.clone(), source })?;
        Ok(Scratch { file, folder, bytes: 0, bytes_max: self.scratch_bytes })
    }
}

/// A scratch file that is being written.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: File,
    folder: PathBuf,
    bytes: u64,
    bytes_max: u64,
}

impl Scratch {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let after = self.bytes.saturating_add(bytes.len() as u64);
        if after > self.bytes_max {
            return Err(DataError::Full { most_mb: self.bytes_max >> 20 });
        }
        let written = self.file.write_all(bytes);
        written.map_err(|source| DataError::Scratch { folder: self.folder.clone(), source })?;
        self.bytes = after;
        Ok(())
    }

    /// The file, to be read from its beginning by whoever seeks.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

/// A number that a scratch file holds.
pub(crate) trait Number: Copy + 'static {
    const BYTES: usize;
    fn put(self, into: &mut Vec<u8>);
    /// From exactly [`Number::BYTES`] bytes.
    fn of(bytes: &[u8]) -> Self;
}

impl Number for u8 {
    const BYTES: usize = 1;
    fn put(self, into: &mut Vec<u8>) {
        into.push(self);
    }
    fn of(bytes: &[u8]) -> Self {
        bytes.first().copied().unwrap_or_default()
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    bytes.try_into().unwrap_or_default()
}

impl Number for f32 {
    const BYTES: usize = 4;
    fn put(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.to_le_bytes());
    }
    fn of(bytes: &[u8]) -> Self {
        Self::from_le_bytes(four(bytes))
    }
}

impl Number for u32 {
    const BYTES: usize = 4;
    fn put(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.to_le_bytes());
    }
    fn of(bytes: &[u8]) -> Self {
        Self::from_le_bytes(four(bytes))
    }
}

/// Takes values as they come.
#[derive(Debug)]
pub(crate) struct Builder<T> {
    room: Room,
    memory: Vec<T>,
    len: usize,
    scratch: Option<(Scratch, Vec<u8>)>,
}

impl<T: Number> Builder<T> {
    pub(crate) fn new(room: &Room) -> Self {
        Self { room: room.clone(), memory: Vec::new(), len: 0, scratch: None }
    }

    /// How many values came.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, values: &[T]) -> Result<(), DataError> {
        self.len += values.len();
        if self.scratch.is_none() {
            let most = self.room.memory_bytes / T::BYTES;
            if self.len <= most {
                self.grow(values.len(), most);
                self.memory.extend_from_slice(values);
                return Ok(());
            }
            let begun = (self.room.scratch()?, Vec::with_capacity(BLOCK_BYTES));
            self.scratch = Some(begun);
            for some in std::mem::take(&mut self.memory).chunks(BLOCK_BYTES / T::BYTES) {
                self.spill(some)?;
            }
        }
        values.chunks(BLOCK_BYTES / T::BYTES).try_for_each(|some| self.spill(some))
    }

    /// Doubles, but never beyond what is to be held: a vector alone would.
    fn grow(&mut self, more: usize, most: usize) {
        let need = self.memory.len() + more;
        if need > self.memory.capacity() {
            let wanted = need.max(self.memory.capacity().saturating_mul(2)).min(most.max(need));
            self.memory.reserve_exact(wanted - self.memory.len());
        }
    }

    fn spill(&mut self, values: &[T]) -> Result<(), DataError> {
        let Some((scratch, buffer)) = &mut self.scratch else { return Ok(()) };
        values.iter().for_each(|value| value.put(buffer));
        if buffer.len() >= BLOCK_BYTES {
            scratch.write(buffer)?;
            buffer.clear();
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Store<T>, DataError> {
        let Some((mut scratch, buffer)) = self.scratch else {
            return Ok(Store::Memory(Arc::new(self.memory)));
        };
        scratch.write(&buffer)?;
        let Scratch { file, folder, bytes, .. } = scratch;
        let blocks = Blocks { file, folder, bytes, kept: Mutex::default() };
        Ok(Store::Disk(Arc::new(blocks), PhantomData))
    }
}

/// Values that do not change any more.
#[derive(Debug, Clone)]
pub(crate) enum Store<T> {
    Memory(Arc<Vec<T>>),
    Disk(Arc<Blocks>, PhantomData<T>),
}

impl<T: Number> Store<T> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Memory(values) => values.len(),
            // It was counted in usize when it was written.
            Self::Disk(blocks, _) => blocks.bytes as usize / T::BYTES,
        }
    }

    /// The values of a range, which must lie within [`Store::len`].
    pub(crate) fn slice(&self, range: Range<usize>) -> Result<Cow<'_, [T]>, DataError> {
        match self {
            Self::Memory(values) => Ok(Cow::Borrowed(&values[range])),
            Self::Disk(blocks, _) => {
                let bytes = blocks.read(range.start * T::BYTES..range.end * T::BYTES)?;
                Ok(Cow::Owned(bytes.chunks_exact(T::BYTES).map(T::of).collect()))
            }
        }
    }

    /// The block of a value; none where all are in memory.
    pub(crate) fn block_of(&self, value: usize) -> Option<usize> {
        match self {
            Self::Memory(_) => None,
            Self::Disk(..) => Some(value * T::BYTES / BLOCK_BYTES),
        }
    }
}

impl<T> From<Vec<T>> for Store<T> {
    fn from(values: Vec<T>) -> Self {
        Self::Memory(Arc::new(values))
    }
}

/// A scratch file that is being read.
#[derive(Debug)]
pub(crate) struct Blocks {
    file: File,
    folder: PathBuf,
    bytes: u64,
    kept: Mutex<Kept>,
}

/// The blocks that were used last.
#[derive(Debug, Default)]
struct Kept {
    blocks: Vec<Block>,
    uses: u64,
}

#[derive(Debug)]
struct Block {
    at: usize,
    last_use: u64,
    bytes: Vec<u8>,
}

impl Blocks {
    fn read(&self, range: Range<usize>) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::with_capacity(range.len());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = range.start;
        while at < range.end {
            let (block, from) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let to = BLOCK_BYTES.min(from + range.end - at);
            let held = kept.block(block, |into| self.fetch(block, into))?;
            bytes.extend_from_slice(held.get(from..to).unwrap_or_default());
            at += to - from;
        }
        Ok(bytes)
    }

    fn fetch(&self, block: usize, into: &mut Vec<u8>) -> Result<(), DataError> {
        let start = block as u64 * BLOCK_BYTES as u64;
        let size = self.bytes.saturating_sub(start).min(BLOCK_BYTES as u64);
        into.resize(size as usize, 0);
        let read = self.file.read_exact_at(into, start);
        read.map_err(|source| DataError::Scratch { folder: self.folder.clone(), source })
    }
}

impl Kept {
    fn block(
        &mut self,
        at: usize,
        fetch: impl FnOnce(&mut Vec<u8>) -> Result<(), DataError>,
    ) -> Result<&[u8], DataError> {
        self.uses += 1;
        let found = self.blocks.iter().position(|block| block.at == at);
        let place = match found {
            Some(place) => place,
            None => {
                let oldest = self.blocks.iter().enumerate().min_by_key(|(_, b)| b.last_use);
                let oldest = oldest.map(|(place, _)| place);
                let mut bytes = match oldest.filter(|_| self.blocks.len() >= BLOCKS_KEPT) {
                    Some(place) => self.blocks.swap_remove(place).bytes,
                    None => Vec::new(),
                };
                fetch(&mut bytes)?;
                self.blocks.push(Block { at, last_use: 0, bytes });
                self.blocks.len() - 1
            }
        };
        let block = &mut self.blocks[place];
        block.last_use = self.uses;
        Ok(&block.bytes)
    }
}

#[cfg(test)]
mod tests;
