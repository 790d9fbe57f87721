//! A pretrained model as Hugging Face ships it: a folder with `config.json` and `model.safetensors`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tributary_core::digest::{Digest, Hasher};
use tributary_core::params::{ParameterSet, Schema, Tensor};

use crate::LearningError;

/// Largest file of weights: 8 GiB, four times what a job's model may have.
const FILE_BYTES_MAX: u64 = 8 << 30;
/// What a digest reads at once.
const READ_BYTES: usize = 1 << 20;

/// A folder with a model, known by the digest of its `model.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pretrained {
    weights: PathBuf,
    digest: Digest,
}

impl Pretrained {
    /// Looks a folder over; reads its weights once, for their digest.
    ///
    /// # Errors
    /// When there is no `model.safetensors`, or it cannot be read, or is larger than 8 GiB.
    pub fn open(folder: &Path) -> Result<Self, LearningError> {
        let weights = folder.join("model.safetensors");
        let failed = |reason: String| LearningError::Pretrained { file: weights.clone(), reason };
        let mut file = File::open(&weights).map_err(|error| {
            failed(format!("{error}; expected a folder as Hugging Face's save_pretrained makes it"))
        })?;
        let bytes = file.metadata().map_err(|error| failed(error.to_string()))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(failed(format!("expected at most {FILE_BYTES_MAX} bytes, found {bytes}")));
        }
        let (mut hasher, mut buffer) = (Hasher::new(), vec![0; READ_BYTES]);
        loop {
            match file.read(&mut buffer).map_err(|error| failed(error.to_string()))? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        Ok(Self { digest: hasher.finish(), weights })
    }

    /// The digest of `model.safetensors`, as `sha256sum` prints it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The tensors of a schema, by name; other tensors of the file are left alone. Halves become
    /// floats. Names may lack the family's prefix (`distilbert.`, `bert.`), and a norm's tensors may
    /// be called gamma and beta, as in the first published checkpoints.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape or kind, or not finite, and when the file is damaged
    /// or has changed since it was opened.
    pub fn parameters(&self, schema: &Arc<Schema>) -> Result<ParameterSet, LearningError> {
        let failed =
            |reason: String| LearningError::Pretrained { file: self.weights.clone(), reason };
        let bytes = std::fs::read(&self.weights).map_err(|error| failed(error.to_string()))?;
        let found = Digest::of(&bytes);
        if found != self.digest {
            return Err(failed(format!("expected {}, found {found}: it changed", self.digest)));
        }
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| failed(format!("damaged: {error}")))?;
        let mut set = ParameterSet::zeros(schema.clone());
        for tensor in schema.tensors() {
            let into = &mut set.values_mut()[tensor.offset..tensor.offset + tensor.len];
            fill(&file, tensor, into).map_err(failed)?;
        }
        Ok(set)
    }
}

/// One tensor's values, or what is wrong with it.
fn fill(file: &SafeTensors<'_>, tensor: &Tensor, into: &mut [f32]) -> Result<(), String> {
    let name = &tensor.name;
    let view = find(file, name).ok_or_else(|| format!("expected a tensor `{name}`, found none"))?;
    if view.shape() != tensor.shape {
        let (expected, found) = (&tensor.shape, view.shape());
        return Err(format!("expected `{name}` of shape {expected:?}, found {found:?}"));
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => {
            let (words, _) = bytes.as_chunks::<4>();
            into.iter_mut().zip(words).for_each(|(to, b)| *to = f32::from_le_bytes(*b));
        }
        Dtype::BF16 => {
            let (halves, _) = bytes.as_chunks::<2>();
            let wide = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            into.iter_mut().zip(halves).for_each(|(to, b)| *to = wide(b));
        }
        Dtype::F16 => {
            let (halves, _) = bytes.as_chunks::<2>();
            into.iter_mut().zip(halves).for_each(|(to, b)| *to = half(u16::from_le_bytes(*b)));
        }
        other => return Err(format!("expected `{name}` of F32, F16 or BF16, found {other:?}")),
    }
    match into.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => {
            Err(format!("expected finite numbers in `{name}`, found {} at {index}", into[index]))
        }
    }
}

/// A tensor under any of the names that checkpoints give it.
fn find<'a>(file: &SafeTensors<'a>, name: &str) -> Option<TensorView<'a>> {
    let bare = name.split_once('.').map_or(name, |(_, bare)| bare);
    let older = |name: &str| match name.rsplit_once('.') {
        Some((at, "weight")) if at.ends_with("LayerNorm") => Some(format!("{at}.gamma")),
        Some((at, "bias")) if at.ends_with("LayerNorm") => Some(format!("{at}.beta")),
        _ => None,
    };
    let names = [Some(name.to_owned()), Some(bare.to_owned()), older(name), older(bare)];
    names.into_iter().flatten().find_map(|name| file.tensor(&name).ok())
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10) & 0x1f, u32::from(bits) & 0x3ff);
    match exponent {
        // Below the normal range: fraction × 2⁻²⁴, exact in f32.
        0 => f32::from_bits(sign | (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn halves_are_those_of_the_standard() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65_504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x8000, -0.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half(bits).to_bits(), f32::to_bits(value), "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
