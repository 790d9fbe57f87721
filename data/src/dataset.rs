//! Labelled examples, in memory or in a scratch file.

use std::sync::Arc;

use super::DataError;
use super::batch::{Batch, Inputs, NO_TOKEN, Targets};
use super::normalise::Normalise;
use super::store::{Room, Store};

mod order;
mod values;

pub(crate) use values::{Labels, RaggedBuilder, check_finite};
use values::{Palette, Ragged, Values};

/// Examples of one shape. Cloning and [`Dataset::subset`] share the values.
#[derive(Debug, Clone)]
pub struct Dataset {
    values: Values,
    targets: Labels,
    lengths: Option<Arc<Vec<u32>>>,
    writers: Option<Arc<Vec<u32>>>,
    /// How many examples the shared values hold.
    total: usize,
    /// The rows of the shared values that are this set's examples, in order.
    rows: Arc<Vec<u32>>,
    shape: Vec<usize>,
}

impl Dataset {
    /// Examples of bytes, such as pixels; a batch holds byte ⁄ 255, so pixels are in [0, 1].
    ///
    /// `inputs` holds the examples one behind the other, each of `shape`; `labels` one class an
    /// example, below `classes`.
    ///
    /// # Errors
    /// When the sizes do not agree, and on a label that is no class.
    pub fn from_u8(
        inputs: Vec<u8>,
        labels: Vec<u32>,
        shape: &[usize],
        classes: u32,
    ) -> Result<Self, DataError> {
        check_sizes(labels.len(), shape, inputs.len())?;
        Self::of_pixels(inputs.into(), labels, shape, classes, None)
    }

    /// Examples of bytes, wherever they are; a batch holds byte ⁄ 255, normalised by constants for each
    /// channel where there are some.
    pub(crate) fn of_pixels(
        bytes: Store<u8>,
        labels: Vec<u32>,
        shape: &[usize],
        classes: u32,
        normalise: Option<&Normalise>,
    ) -> Result<Self, DataError> {
        check_sizes(labels.len(), shape, bytes.len())?;
        let palette = Arc::new(Palette::of(normalise, shape)?);
        let total = labels.len();
        Self::new(Values::U8(bytes, palette), Labels::classes(labels, classes)?, total, shape)
    }

    /// Examples of numbers, taken as they are; otherwise as [`Dataset::from_u8`].
    ///
    /// # Errors
    /// When the sizes do not agree, on a label that is no class, and on a value that is not finite.
    pub fn from_f32(
        inputs: Vec<f32>,
        labels: Vec<u32>,
        shape: &[usize],
        classes: u32,
    ) -> Result<Self, DataError> {
        check_sizes(labels.len(), shape, inputs.len())?;
        check_finite(0, &inputs)?;
        Self::of_numbers(inputs.into(), Labels::classes(labels, classes)?, shape)
    }

    /// Examples of numbers that are known to be finite, wherever they are.
    pub(crate) fn of_numbers(
        values: Store<f32>,
        targets: Labels,
        shape: &[usize],
    ) -> Result<Self, DataError> {
        let total = targets.count().unwrap_or(0);
        check_sizes(total, shape, values.len())?;
        Self::new(Values::F32(values), targets, total, shape)
    }

    /// Examples of numbers, each with `width` numbers to predict.
    ///
    /// # Errors
    /// When the sizes do not agree, and on a number that is not finite.
    pub fn with_values(
        inputs: Vec<f32>,
        targets: Vec<f32>,
        shape: &[usize],
        width: usize,
    ) -> Result<Self, DataError> {
        let total = targets.len() / width.max(1);
        check_sizes(total, &[width], targets.len())?;
        check_sizes(total, shape, inputs.len())?;
        check_finite(0, &inputs)?;
        Self::of_numbers(inputs.into(), Labels::values(targets, width)?, shape)
    }

    /// Texts of at most `steps` tokens below `vocabulary`, each with a class. Shorter ones are padded
    /// in a batch.
    ///
    /// # Errors
    /// On a text that is empty or too long, on another number of labels, on a token or label out of
    /// range.
    pub fn from_texts<T: AsRef<[u32]>>(
        texts: &[T],
        labels: Vec<u32>,
        steps: usize,
        vocabulary: u32,
        classes: u32,
    ) -> Result<Self, DataError> {
        if texts.len() != labels.len() {
            let (examples, found) = (labels.len(), texts.len());
            return Err(DataError::Sizes { examples, shape: vec![], found });
        }
        let ragged = ragged(texts, 1..=steps, vocabulary)?;
        Self::of_texts(ragged, Labels::classes(labels, classes)?, steps)
    }

    /// Texts of 2 to `steps` + 1 tokens, to predict each token but the first from those before it.
    ///
    /// # Errors
    /// On a text of another length, and on a token out of range.
    pub fn for_next_token<T: AsRef<[u32]>>(
        texts: &[T],
        steps: usize,
        vocabulary: u32,
    ) -> Result<Self, DataError> {
        let ragged = ragged(texts, 2..=steps + 1, vocabulary)?;
        Self::of_texts(ragged, Labels::NextToken, steps)
    }

    /// Texts, wherever they are.
    pub(crate) fn of_texts(
        texts: Ragged,
        targets: Labels,
        steps: usize,
    ) -> Result<Self, DataError> {
        let total = texts.len();
        if let Some(found) = targets.count().filter(|&count| count != total) {
            return Err(DataError::Sizes { examples: total, shape: vec![], found });
        }
        Self::new(Values::Tokens(Arc::new(texts)), targets, total, &[steps])
    }

    fn new(
        values: Values,
        targets: Labels,
        total: usize,
        shape: &[usize],
    ) -> Result<Self, DataError> {
        let rows = u32::try_from(total).map_err(|_| DataError::Sizes {
            examples: total,
            shape: shape.to_vec(),
            found: total,
        })?;
        Ok(Self {
            values,
            targets,
            lengths: None,
            writers: None,
            total,
            rows: Arc::new((0..rows).collect()),
            shape: shape.to_vec(),
        })
    }

    /// The same examples, each with the number of the person or site that it came from.
    ///
    /// # Errors
    /// When there is not one number an example of the whole set.
    pub fn with_writers(mut self, writers: Vec<u32>) -> Result<Self, DataError> {
        if writers.len() != self.total {
            return Err(DataError::Writers { expected: self.total, found: writers.len() });
        }
        self.writers = Some(Arc::new(writers));
        Ok(self)
    }

    /// The same series `[steps, …]`, each with how many of its steps are no padding.
    ///
    /// # Errors
    /// When there is not one length an example, or one is 0 or more than the steps.
    pub fn with_lengths(mut self, lengths: Vec<u32>) -> Result<Self, DataError> {
        let steps = self.shape.first().copied().unwrap_or(0);
        if lengths.len() != self.total {
            let (examples, found) = (self.total, lengths.len());
            return Err(DataError::Sizes { examples, shape: vec![], found });
        }
        if let Some(index) = lengths.iter().position(|&n| n == 0 || n as usize > steps) {
            let found = lengths[index] as usize;
            return Err(DataError::Length { index, least: 1, most: steps, found });
        }
        self.lengths = Some(Arc::new(lengths));
        Ok(self)
    }

    /// How many examples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The shape of one example; `[steps]` for texts.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many classes the labels have; 0 where there are none.
    #[must_use]
    pub fn classes(&self) -> u32 {
        match self.targets {
            Labels::Classes { classes, .. } => classes,
            Labels::Values { .. } | Labels::NextToken => 0,
        }
    }

    /// How many numbers are to be predicted of an example; 0 where it has classes or tokens.
    #[must_use]
    pub fn width(&self) -> usize {
        match self.targets {
            Labels::Values { width, .. } => width,
            Labels::Classes { .. } | Labels::NextToken => 0,
        }
    }

    /// Tokens are below this; 0 where there are none.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        match &self.values {
            Values::Tokens(ragged) => ragged.vocabulary,
            Values::U8(..) | Values::F32(_) => 0,
        }
    }

    /// The labels, in the examples' order; none where examples have no class.
    #[must_use]
    pub fn labels(&self) -> Option<Vec<u32>> {
        match &self.targets {
            Labels::Classes { labels, .. } => {
                Some(self.rows.iter().map(|&row| labels[row as usize]).collect())
            }
            Labels::Values { .. } | Labels::NextToken => None,
        }
    }

    /// The writers, in the examples' order, where they are known.
    #[must_use]
    pub fn writers(&self) -> Option<Vec<u32>> {
        let writers = self.writers.as_ref()?;
        Some(self.rows.iter().map(|&row| writers[row as usize]).collect())
    }

    /// These examples alone, in this order; the values are shared.
    ///
    /// # Errors
    /// On an index that is no example.
    pub fn subset(&self, indices: &[usize]) -> Result<Self, DataError> {
        let rows: Result<Vec<u32>, DataError> =
            indices.iter().map(|&index| self.row(index).map(|row| row as u32)).collect();
        Ok(Self { rows: Arc::new(rows?), ..self.clone() })
    }

    /// Where these examples stand among all that were read.
    pub(crate) fn places(&self) -> &[u32] {
        &self.rows
    }

    /// The examples that stand there among all that were read; the values are shared.
    pub(crate) fn at(&self, places: &Arc<Vec<u32>>) -> Result<Self, DataError> {
        match places.iter().find(|&&place| place as usize >= self.total) {
            Some(&place) => Err(DataError::Index { index: place as usize, examples: self.total }),
            None => Ok(Self { rows: places.clone(), ..self.clone() }),
        }
    }

    /// These examples as a batch.
    ///
    /// # Errors
    /// On an index that is no example.
    pub fn gather(&self, indices: &[usize]) -> Result<Batch, DataError> {
        let rows: Vec<usize> =
            indices.iter().map(|&index| self.row(index)).collect::<Result<_, _>>()?;
        let size: usize = self.shape.iter().product();
        let mut lengths = Vec::new();
        let inputs = match &self.values {
            Values::U8(all, palette) => {
                let mut values = Vec::with_capacity(rows.len() * size);
                for &row in &rows {
                    palette.push(&all.slice(row * size..(row + 1) * size)?, &mut values);
                }
                Inputs::Floats(values)
            }
            Values::F32(all) => {
                let mut values = Vec::with_capacity(rows.len() * size);
                for &row in &rows {
                    values.extend_from_slice(&all.slice(row * size..(row + 1) * size)?);
                }
                Inputs::Floats(values)
            }
            Values::Tokens(texts) => {
                let mut tokens = Vec::with_capacity(rows.len() * size);
                for &row in &rows {
                    let text = texts.text(row)?;
                    let text = self.readable(&text);
                    tokens.extend_from_slice(text);
                    tokens.resize(tokens.len() + size - text.len(), 0);
                    lengths.push(text.len() as u32);
                }
                Inputs::Tokens(tokens)
            }
        };
        if let Some(known) = &self.lengths {
            lengths = rows.iter().map(|&row| known[row]).collect();
        }
        if lengths.iter().all(|&length| length as usize == self.shape[0]) {
            lengths.clear();
        }
        Ok(Batch { size: rows.len(), inputs, lengths, targets: self.batch_targets(&rows)? })
    }

    /// The part of a text that a model reads; the last token of one to predict is only a target.
    fn readable<'a>(&self, text: &'a [u32]) -> &'a [u32] {
        match self.targets {
            Labels::NextToken => &text[..text.len() - 1],
            Labels::Classes { .. } | Labels::Values { .. } => text,
        }
    }

    fn batch_targets(&self, rows: &[usize]) -> Result<Targets, DataError> {
        Ok(match (&self.targets, &self.values) {
            (Labels::Classes { labels, .. }, _) => {
                Targets::Classes(rows.iter().map(|&row| labels[row]).collect())
            }
            (Labels::Values { values, width }, _) => {
                let of = |row: usize| &values[row * width..(row + 1) * width];
                Targets::Values(rows.iter().flat_map(|&row| of(row)).copied().collect())
            }
            (Labels::NextToken, Values::Tokens(texts)) => {
                let steps = self.shape[0];
                let mut tokens = Vec::with_capacity(rows.len() * steps);
                for (index, &row) in rows.iter().enumerate() {
                    tokens.extend_from_slice(&texts.text(row)?[1..]);
                    tokens.resize((index + 1) * steps, NO_TOKEN);
                }
                Targets::Tokens(tokens)
            }
            (Labels::NextToken, _) => Targets::Tokens(Vec::new()),
        })
    }

    fn row(&self, index: usize) -> Result<usize, DataError> {
        let row = self.rows.get(index).map(|&row| row as usize);
        row.ok_or(DataError::Index { index, examples: self.rows.len() })
    }
}

fn check_sizes(examples: usize, shape: &[usize], found: usize) -> Result<(), DataError> {
    let expected = shape.iter().try_fold(examples, |len, &size| len.checked_mul(size));
    if expected == Some(found) {
        return Ok(());
    }
    Err(DataError::Sizes { examples, shape: shape.to_vec(), found })
}

fn ragged<T: AsRef<[u32]>>(
    texts: &[T],
    lengths: std::ops::RangeInclusive<usize>,
    vocabulary: u32,
) -> Result<Ragged, DataError> {
    let everything = Room { memory_bytes: usize::MAX, ..Room::default() };
    let mut ragged = RaggedBuilder::new(&everything, lengths, vocabulary);
    texts.iter().try_for_each(|text| ragged.push(text.as_ref()))?;
    ragged.finish()
}

#[cfg(test)]
mod tests;
