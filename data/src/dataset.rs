//! Labelled examples in memory.

use std::sync::Arc;

use super::DataError;
use super::batch::{Batch, Inputs, NO_TOKEN, Targets};

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

/// Values as they were stored: bytes stay bytes until a batch is made.
#[derive(Debug, Clone)]
enum Values {
    U8(Arc<Vec<u8>>),
    F32(Arc<Vec<f32>>),
    Tokens(Arc<Ragged>),
}

#[derive(Debug, Clone)]
enum Labels {
    Classes { labels: Arc<Vec<u32>>, classes: u32 },
    Values { values: Arc<Vec<f32>>, width: usize },
    NextToken,
}

/// Texts of different lengths, one behind the other.
#[derive(Debug)]
struct Ragged {
    tokens: Vec<u32>,
    /// Where each text begins, and the end of the last.
    starts: Vec<usize>,
    vocabulary: u32,
}

impl Ragged {
    fn text(&self, row: usize) -> &[u32] {
        match (self.starts.get(row), self.starts.get(row + 1)) {
            (Some(&start), Some(&end)) => self.tokens.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }
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
        let total = labels.len();
        let labels = class_labels(labels, classes)?;
        Self::new(Values::U8(Arc::new(inputs)), labels, total, shape)
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
        check_finite(&inputs)?;
        let total = labels.len();
        let labels = class_labels(labels, classes)?;
        Self::new(Values::F32(Arc::new(inputs)), labels, total, shape)
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
        check_finite(&inputs)?;
        check_finite(&targets)?;
        let labels = Labels::Values { values: Arc::new(targets), width };
        Self::new(Values::F32(Arc::new(inputs)), labels, total, shape)
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
        let labels = class_labels(labels, classes)?;
        Self::new(Values::Tokens(Arc::new(ragged)), labels, texts.len(), &[steps])
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
        Self::new(Values::Tokens(Arc::new(ragged)), Labels::NextToken, texts.len(), &[steps])
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
            Values::U8(_) | Values::F32(_) => 0,
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
            Values::U8(all) => {
                let mut values = Vec::with_capacity(rows.len() * size);
                for &row in &rows {
                    let bytes = &all[row * size..(row + 1) * size];
                    values.extend(bytes.iter().map(|&byte| f32::from(byte) / 255.0));
                }
                Inputs::Floats(values)
            }
            Values::F32(all) => {
                let mut values = Vec::with_capacity(rows.len() * size);
                rows.iter().for_each(|row| values.extend(&all[row * size..(row + 1) * size]));
                Inputs::Floats(values)
            }
            Values::Tokens(texts) => {
                let mut tokens = Vec::with_capacity(rows.len() * size);
                for &row in &rows {
                    let text = self.readable(texts.text(row));
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
        Ok(Batch { size: rows.len(), inputs, lengths, targets: self.batch_targets(&rows) })
    }

    /// The part of a text that a model reads; the last token of one to predict is only a target.
    fn readable<'a>(&self, text: &'a [u32]) -> &'a [u32] {
        match self.targets {
            Labels::NextToken => &text[..text.len() - 1],
            Labels::Classes { .. } | Labels::Values { .. } => text,
        }
    }

    fn batch_targets(&self, rows: &[usize]) -> Targets {
        match (&self.targets, &self.values) {
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
                    tokens.extend_from_slice(&texts.text(row)[1..]);
                    tokens.resize((index + 1) * steps, NO_TOKEN);
                }
                Targets::Tokens(tokens)
            }
            (Labels::NextToken, _) => Targets::Tokens(Vec::new()),
        }
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

fn check_finite(values: &[f32]) -> Result<(), DataError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(DataError::NotFinite { index }),
        None => Ok(()),
    }
}

fn class_labels(labels: Vec<u32>, classes: u32) -> Result<Labels, DataError> {
    if let Some(index) = labels.iter().position(|&label| label >= classes) {
        return Err(DataError::Label { index, label: labels[index], classes });
    }
    Ok(Labels::Classes { labels: Arc::new(labels), classes })
}

fn ragged<T: AsRef<[u32]>>(
    texts: &[T],
    lengths: std::ops::RangeInclusive<usize>,
    vocabulary: u32,
) -> Result<Ragged, DataError> {
    let mut ragged = Ragged { tokens: Vec::new(), starts: vec![0], vocabulary };
    for (index, text) in texts.iter().enumerate() {
        let text = text.as_ref();
        if !lengths.contains(&text.len()) {
            let (least, most) = (*lengths.start(), *lengths.end());
            return Err(DataError::Length { index, least, most, found: text.len() });
        }
        if let Some(&token) = text.iter().find(|&&token| token >= vocabulary) {
            return Err(DataError::Token { index, token, vocabulary });
        }
        ragged.tokens.extend_from_slice(text);
        ragged.starts.push(ragged.tokens.len());
    }
    Ok(ragged)
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, DataError, Inputs, NO_TOKEN, Targets};
    use super::Dataset;

    #[test]
    fn batches_come_in_the_order_asked_for() {
        let data = Dataset::from_u8(vec![0, 255, 51, 102], vec![1, 0], &[2], 2).expect("data");
        let batch = data.gather(&[1, 0]).expect("both");
        let expected = Batch {
            size: 2,
            inputs: Inputs::Floats(vec![0.2, 0.4, 0.0, 1.0]),
            lengths: vec![],
            targets: Targets::Classes(vec![0, 1]),
        };
        assert_eq!(batch, expected);
        let second = data.subset(&[1]).expect("second").subset(&[0]).expect("first of it");
        assert_eq!((second.len(), second.labels()), (1, Some(vec![0])));
        let outside = second.gather(&[1]);
        assert!(matches!(outside, Err(DataError::Index { index: 1, examples: 1 })));
    }

    #[test]
    fn texts_are_padded_and_shifted() {
        let texts = [vec![1, 2, 3], vec![4, 5]];
        let data = Dataset::for_next_token(&texts, 2, 6).expect("texts");
        let batch = data.gather(&[1, 0]).expect("both");
        assert_eq!(batch.inputs, Inputs::Tokens(vec![4, 0, 1, 2]));
        assert_eq!(batch.targets, Targets::Tokens(vec![5, NO_TOKEN, 2, 3]));
        assert_eq!(batch.lengths, [1, 2]);
        let data = Dataset::from_texts(&texts, vec![0, 1], 3, 6, 2).expect("texts");
        assert!(data.gather(&[0]).expect("full").lengths.is_empty());
        let long = Dataset::from_texts(&texts, vec![0, 1], 2, 6, 2);
        assert!(matches!(long, Err(DataError::Length { index: 0, most: 2, found: 3, .. })));
        let token = Dataset::from_texts(&texts, vec![0, 1], 3, 5, 2);
        assert!(matches!(token, Err(DataError::Token { index: 1, token: 5, vocabulary: 5 })));
    }

    #[test]
    fn numbers_to_predict_and_lengths_stay_with_their_rows() {
        let data = Dataset::with_values(vec![1.0, 2.0, 3.0, 4.0], vec![0.5, 0.25], &[2, 1], 1);
        let data = data.expect("values").with_lengths(vec![2, 1]).expect("lengths");
        let batch = data.gather(&[1]).expect("second");
        assert_eq!((batch.lengths, batch.targets), (vec![1], Targets::Values(vec![0.25])));
        assert!(matches!(data.with_lengths(vec![2, 3]), Err(DataError::Length { index: 1, .. })));
    }

    #[test]
    fn what_does_not_hold_together_is_refused() {
        let sizes = Dataset::from_u8(vec![0; 5], vec![0, 1], &[2], 2);
        assert!(matches!(sizes, Err(DataError::Sizes { found: 5, .. })));
        let huge = Dataset::from_u8(Vec::new(), vec![0, 1], &[usize::MAX, 2], 2);
        assert!(matches!(huge, Err(DataError::Sizes { .. })));
        let label = Dataset::from_f32(vec![0.0; 2], vec![0, 2], &[1], 2);
        assert!(matches!(label, Err(DataError::Label { index: 1, label: 2, classes: 2 })));
        let wild = Dataset::from_f32(vec![0.0, f32::NAN], vec![0, 1], &[1], 2);
        assert!(matches!(wild, Err(DataError::NotFinite { index: 1 })));
        let writers =
            Dataset::from_u8(vec![0], vec![0], &[1], 2).expect("data").with_writers(vec![]);
        assert!(matches!(writers, Err(DataError::Writers { expected: 1, found: 0 })));
    }
}
