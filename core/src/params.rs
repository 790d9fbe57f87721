//! Parameter sets: a schema (named tensors in a fixed order) and one flat buffer of f32.

use std::sync::Arc;

use crate::digest::{Digest, Hasher};

/// One tensor's place in a parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, such as `layers.3.weight`.
    pub name: String,
    /// Its sizes, outermost first; `[]` is one number.
    pub shape: Vec<usize>,
    /// Where its first value stands in the flat buffer.
    pub offset: usize,
    /// How many values it has.
    pub len: usize,
}

/// Most values a model may have: 2 GiB of f32.
pub const PARAMETERS_MAX: usize = 1 << 29;
/// Most tensors a model may have; bounds headers and schemas that come from outside.
pub const TENSORS_MAX: usize = 65_536;

/// Why a list of tensors is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A name that the checkpoint format keeps for itself.
    #[error("expected another tensor name than `__metadata__`: safetensors reserves it")]
    Reserved,
    /// Two tensors share a name.
    #[error("expected every tensor name once, found `{0}` twice")]
    Duplicate(String),
    /// More values than the house handles.
    #[error("expected at most {PARAMETERS_MAX} parameters, found more at tensor `{0}`")]
    TooLarge(String),
    /// More tensors than the house handles.
    #[error("expected at most {TENSORS_MAX} tensors, found {0}")]
    TooMany(usize),
}

/// Named tensors in a fixed order. The order is part of the contract: it is the flat buffer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Schema {
    /// A schema of these names and shapes, in this order.
    ///
    /// # Errors
    /// On a name that comes twice, and on sizes beyond [`PARAMETERS_MAX`] or [`TENSORS_MAX`].
    pub fn new<N: Into<String>>(
        tensors: impl IntoIterator<Item = (N, Vec<usize>)>,
    ) -> Result<Self, SchemaError> {
        let mut schema = Self { tensors: Vec::new(), len: 0 };
        let mut names = std::collections::BTreeSet::new();
        for (name, shape) in tensors {
            let name = name.into();
            if name == "__metadata__" {
                return Err(SchemaError::Reserved);
            }
            let too_large = || SchemaError::TooLarge(name.clone());
            let len = shape
                .iter()
                .try_fold(1_usize, |product, &size| product.checked_mul(size))
                .ok_or_else(too_large)?;
            let end = schema.len.checked_add(len).filter(|&end| end <= PARAMETERS_MAX);
            let end = end.ok_or_else(too_large)?;
            if !names.insert(name.clone()) {
                return Err(SchemaError::Duplicate(name));
            }
            schema.tensors.push(Tensor { name, shape, offset: schema.len, len });
            schema.len = end;
            if schema.tensors.len() > TENSORS_MAX {
                return Err(SchemaError::TooMany(schema.tensors.len()));
            }
        }
        Ok(schema)
    }

    /// The tensors, in order.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// How many values there are in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The digest of names, shapes and order: two sides that agree on it agree on every offset.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(b"tributary/schema/v1");
        for tensor in &self.tensors {
            hasher.field(tensor.name.as_bytes());
            hasher.field(&(tensor.shape.len() as u64).to_le_bytes());
            for &size in &tensor.shape {
                hasher.update(&(size as u64).to_le_bytes());
            }
        }
        hasher.finish()
    }
}

/// The values of a schema's tensors, flat, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSet {
    schema: Arc<Schema>,
    values: Vec<f32>,
}

impl ParameterSet {
    /// Values for a schema; `None` where their number is not the schema's.
    #[must_use]
    pub fn new(schema: Arc<Schema>, values: Vec<f32>) -> Option<Self> {
        (values.len() == schema.len()).then_some(Self { schema, values })
    }

    /// All zeros.
    #[must_use]
    pub fn zeros(schema: Arc<Schema>) -> Self {
        let values = vec![0.0; schema.len()];
        Self { schema, values }
    }

    /// The schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// All values, flat.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, flat, to change.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values alone.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The values of one tensor.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        let t = self.schema.tensor(name)?;
        self.values.get(t.offset..t.offset + t.len)
    }
}

#[cfg(test)]
mod tests {
    use super::{Schema, SchemaError};

    #[test]
    fn offsets_follow_the_order_and_the_digest_sees_it() {
        let ab = Schema::new([("a", vec![2, 3]), ("b", vec![])]).expect("schema");
        let ba = Schema::new([("b", vec![]), ("a", vec![2, 3])]).expect("schema");
        assert_eq!((ab.len(), ab.tensor("b").map(|t| t.offset)), (7, Some(6)));
        assert_ne!(ab.digest(), ba.digest());
    }

    #[test]
    fn hostile_sizes_are_refused() {
        let twice = Schema::new([("a", vec![1]), ("a", vec![1])]);
        assert_eq!(twice, Err(SchemaError::Duplicate("a".to_owned())));
        let huge = Schema::new([("a", vec![usize::MAX, 2])]);
        assert_eq!(huge, Err(SchemaError::TooLarge("a".to_owned())));
        let sum = Schema::new([("a", vec![1 << 29]), ("b", vec![1])]);
        assert_eq!(sum, Err(SchemaError::TooLarge("b".to_owned())));
    }
}
