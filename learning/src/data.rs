//! Data sets in memory, and the readers that fill them.

mod error;
pub mod idx;
pub mod partition;
pub mod qmnist;

use std::sync::Arc;

pub use error::DataError;
pub use partition::Partition;

/// Labelled examples of one shape. Cloning and [`Dataset::subset`] share the values.
#[derive(Debug, Clone)]
pub struct Dataset {
    values: Values,
    labels: Arc<Vec<u32>>,
    writers: Option<Arc<Vec<u32>>>,
    /// The rows of the shared values that are this set's examples, in order.
    rows: Arc<Vec<u32>>,
    shape: Vec<usize>,
    classes: u32,
}

/// Values as they were stored: bytes stay bytes until a batch is made.
#[derive(Debug, Clone)]
enum Values {
    U8(Arc<Vec<u8>>),
    F32(Arc<Vec<f32>>),
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
        let found = inputs.len();
        Self::new(Values::U8(Arc::new(inputs)), found, labels, shape, classes)
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
        let found = inputs.len();
        if let Some(index) = inputs.iter().position(|value| !value.is_finite()) {
            return Err(DataError::NotFinite { index });
        }
        Self::new(Values::F32(Arc::new(inputs)), found, labels, shape, classes)
    }

    fn new(
        values: Values,
        found: usize,
        labels: Vec<u32>,
        shape: &[usize],
        classes: u32,
    ) -> Result<Self, DataError> {
        let expected = shape.iter().try_fold(labels.len(), |len, &size| len.checked_mul(size));
        let rows = u32::try_from(labels.len()).map_err(|_| DataError::Sizes {
            examples: labels.len(),
            shape: shape.to_vec(),
            found,
        })?;
        if expected != Some(found) {
            let (examples, shape) = (labels.len(), shape.to_vec());
            return Err(DataError::Sizes { examples, shape, found });
        }
        if let Some(index) = labels.iter().position(|&label| label >= classes) {
            return Err(DataError::Label { index, label: labels[index], classes });
        }
        Ok(Self {
            values,
            labels: Arc::new(labels),
            writers: None,
            rows: Arc::new((0..rows).collect()),
            shape: shape.to_vec(),
            classes,
        })
    }

    /// The same examples, each with the number of the person who wrote it.
    ///
    /// # Errors
    /// When there is not one number an example of the whole set.
    pub fn with_writers(mut self, writers: Vec<u32>) -> Result<Self, DataError> {
        if writers.len() != self.labels.len() {
            let (expected, found) = (self.labels.len(), writers.len());
            return Err(DataError::Writers { expected, found });
        }
        self.writers = Some(Arc::new(writers));
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

    /// The shape of one example.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many classes the labels have.
    #[must_use]
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// The labels, in the examples' order.
    pub fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        self.rows.iter().map(|&row| self.labels[row as usize])
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

    /// The values of these examples one behind the other, and their labels.
    ///
    /// # Errors
    /// On an index that is no example.
    pub fn gather(&self, indices: &[usize]) -> Result<(Vec<f32>, Vec<u32>), DataError> {
        let size: usize = self.shape.iter().product();
        let mut values = Vec::with_capacity(indices.len() * size);
        let mut labels = Vec::with_capacity(indices.len());
        for &index in indices {
            let row = self.row(index)?;
            let place = row * size..(row + 1) * size;
            match &self.values {
                Values::U8(all) => {
                    values.extend(all[place].iter().map(|&byte| f32::from(byte) / 255.0));
                }
                Values::F32(all) => values.extend_from_slice(&all[place]),
            }
            labels.push(self.labels[row]);
        }
        Ok((values, labels))
    }

    fn row(&self, index: usize) -> Result<usize, DataError> {
        let row = self.rows.get(index).map(|&row| row as usize);
        row.ok_or(DataError::Index { index, examples: self.rows.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::{DataError, Dataset};

    #[test]
    fn batches_come_in_the_order_asked_for() {
        let data = Dataset::from_u8(vec![0, 255, 51, 102], vec![1, 0], &[2], 2).expect("data");
        let (values, labels) = data.gather(&[1, 0]).expect("both");
        assert_eq!((values, labels), (vec![0.2, 0.4, 0.0, 1.0], vec![0, 1]));
        let second = data.subset(&[1]).expect("second").subset(&[0]).expect("first of it");
        assert_eq!(second.gather(&[0]).expect("one").1, [0]);
        assert_eq!((second.len(), second.labels().collect::<Vec<_>>()), (1, vec![0]));
        let outside = second.gather(&[1]);
        assert!(matches!(outside, Err(DataError::Index { index: 1, examples: 1 })));
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
