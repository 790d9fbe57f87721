//! What the examples of a data set hold: bytes, numbers or tokens, and what is predicted of them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::DataError;
use crate::normalise::Normalise;
use crate::store::{Builder, Room, Store};

/// Values as they were stored: bytes stay bytes until a batch is made.
#[derive(Debug, Clone)]
pub(super) enum Values {
    U8(Store<u8>, Arc<Palette>),
    F32(Store<f32>),
    Tokens(Arc<Ragged>),
}

/// The number of each byte: byte ⁄ 255, or that normalised by the constants of its channel.
#[derive(Debug)]
pub(super) struct Palette {
    numbers: Vec<f32>,
    /// Values of an example that share 256 numbers.
    plane: usize,
}

impl Palette {
    pub(super) fn of(by: Option<&Normalise>, shape: &[usize]) -> Result<Self, DataError> {
        let plain = (0..=u8::MAX).map(|byte| f32::from(byte) / 255.0);
        let Some(by) = by else {
            let plane = shape.iter().product();
            return Ok(Self { numbers: plain.collect(), plane });
        };
        by.apply_first(&mut [], shape)?;
        let channels = shape.first().copied().unwrap_or(1);
        let mut numbers: Vec<f32> = (0..channels).flat_map(|_| plain.clone()).collect();
        by.apply_first(&mut numbers, &[channels, usize::from(u8::MAX) + 1])?;
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(index) => Err(DataError::NotFinite { index }),
            None => Ok(Self { numbers, plane: shape.iter().skip(1).product() }),
        }
    }

    /// Adds the numbers of one example.
    pub(super) fn push(&self, bytes: &[u8], into: &mut Vec<f32>) {
        let tables = self.numbers.chunks_exact(usize::from(u8::MAX) + 1);
        for (plane, numbers) in bytes.chunks(self.plane.max(1)).zip(tables) {
            into.extend(plane.iter().map(|&byte| numbers[usize::from(byte)]));
        }
    }
}

/// Texts of different lengths, one behind the other.
#[derive(Debug)]
pub(crate) struct Ragged {
    tokens: Store<u32>,
    /// Where each text begins, and the end of the last.
    starts: Vec<usize>,
    pub(super) vocabulary: u32,
}

impl Ragged {
    pub(crate) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    pub(super) fn text(&self, row: usize) -> Result<std::borrow::Cow<'_, [u32]>, DataError> {
        self.tokens.slice(self.starts[row]..self.starts[row + 1])
    }

    pub(super) fn block_of(&self, row: usize) -> Option<usize> {
        self.tokens.block_of(self.starts[row])
    }
}

/// Takes texts as they come.
#[derive(Debug)]
pub(crate) struct RaggedBuilder {
    tokens: Builder<u32>,
    starts: Vec<usize>,
    lengths: RangeInclusive<usize>,
    vocabulary: u32,
}

impl RaggedBuilder {
    /// Of texts of these lengths, their tokens below `vocabulary`.
    pub(crate) fn new(room: &Room, lengths: RangeInclusive<usize>, vocabulary: u32) -> Self {
        Self { tokens: Builder::new(room), starts: vec![0], lengths, vocabulary }
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn push(&mut self, text: &[u32]) -> Result<(), DataError> {
        let index = self.len();
        if !self.lengths.contains(&text.len()) {
            let (least, most) = (*self.lengths.start(), *self.lengths.end());
            return Err(DataError::Length { index, least, most, found: text.len() });
        }
        let vocabulary = self.vocabulary;
        if let Some(&token) = text.iter().find(|&&token| token >= vocabulary) {
            return Err(DataError::Token { index, token, vocabulary });
        }
        self.tokens.push(text)?;
        self.starts.push(self.tokens.len());
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Ragged, DataError> {
        let (starts, vocabulary) = (self.starts, self.vocabulary);
        Ok(Ragged { tokens: self.tokens.finish()?, starts, vocabulary })
    }
}

/// What is predicted.
#[derive(Debug, Clone)]
pub(crate) enum Labels {
    Classes { labels: Arc<Vec<u32>>, classes: u32 },
    Values { values: Arc<Vec<f32>>, width: usize },
    NextToken,
}

impl Labels {
    /// Classes, each below `classes`.
    pub(crate) fn classes(labels: Vec<u32>, classes: u32) -> Result<Self, DataError> {
        if let Some(index) = labels.iter().position(|&label| label >= classes) {
            return Err(DataError::Label { index, label: labels[index], classes });
        }
        Ok(Self::Classes { labels: Arc::new(labels), classes })
    }

    /// `width` numbers an example.
    pub(crate) fn values(values: Vec<f32>, width: usize) -> Result<Self, DataError> {
        check_finite(0, &values)?;
        Ok(Self::Values { values: Arc::new(values), width })
    }

    /// How many examples they are of; none where only the texts tell.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::Classes { labels, .. } => Some(labels.len()),
            Self::Values { values, width } => Some(values.len() / (*width).max(1)),
            Self::NextToken => None,
        }
    }
}

/// Whether all numbers are finite, the first of which is number `from`.
pub(crate) fn check_finite(from: usize, values: &[f32]) -> Result<(), DataError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(DataError::NotFinite { index: from + at }),
        None => Ok(()),
    }
}
