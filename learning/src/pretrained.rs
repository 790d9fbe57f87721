//! A pretrained model as Hugging Face ships it: a folder with `config.json` and `model.safetensors`.

mod config;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tributary_core::digest::Digest;
use tributary_core::model::{Bert, Layer, ModelSpec};
use tributary_core::params::{ParameterSet, Schema, Tensor};

use crate::LearningError;
use config::Config;

/// Largest file of weights: 8 GiB, four times what a job's model may have.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// A folder with a model, known by the digest of its `model.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pretrained {
    weights: PathBuf,
    config: Config,
    digest: Digest,
}

impl Pretrained {
    /// Looks a folder over; reads its weights once, for their digest.
    ///
    /// # Errors
    /// When there is no `config.json` or `model.safetensors`, or one cannot be read or is too large.
    pub fn open(folder: &Path) -> Result<Self, LearningError> {
        let config = Config::read(&folder.join("config.json"))?;
        let weights = folder.join("model.safetensors");
        let failed = |reason: String| LearningError::Pretrained { file: weights.clone(), reason };
        let file = File::open(&weights).map_err(|error| {
            failed(format!("{error}; expected a folder as Hugging Face's save_pretrained makes it"))
        })?;
        let digest = digest_of(file).map_err(failed)?;
        Ok(Self { digest, config, weights })
    }

    /// The digest of the folder's `tokenizer.json`; none where it has none. Sites that cut texts with
    /// another one would feed the model other tokens.
    ///
    /// # Errors
    /// When the file cannot be read, or is too large.
    pub fn tokenizer(folder: &Path) -> Result<Option<Digest>, LearningError> {
        let path = folder.join("tokenizer.json");
        let failed = |reason: String| LearningError::Pretrained { file: path.clone(), reason };
        match File::open(&path) {
            Ok(file) => digest_of(file).map(Some).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The digest of `model.safetensors`, as `sha256sum` prints it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The lines of a spec's `[model]` that use this folder's model: whole, and by adapters.
    ///
    /// # Errors
    /// [`LearningError::Base`] where the folder's kind of model is no preset.
    pub fn spec_lines(&self) -> Result<String, LearningError> {
        let sizes = self.config.spec_lines().map_err(|reason| LearningError::Base { reason })?;
        Ok(format!("{sizes}\nlora = {{ base = \"{}\", rank = 8, alpha = 16 }}", self.digest))
    }

    /// The frozen tensors of a model that is trained by adapters.
    ///
    /// # Errors
    /// [`LearningError::Base`] when the folder's `config.json` or its tensors are not the spec's;
    /// [`LearningError::Pretrained`] when the file is damaged, or has changed since it was opened.
    pub fn frozen(&self, model: &ModelSpec) -> Result<Option<ParameterSet>, LearningError> {
        let (Some(schema), Some(bert)) = (model.frozen_schema(), bert_of(model)) else {
            return Ok(None);
        };
        self.check_bert(bert)?;
        self.load(ParameterSet::zeros(schema.clone()), &[]).map(Some)
    }

    /// A checkpoint to start a job from: the folder's tensors; those of pooler and classifier, which a
    /// base model lacks, are drawn from the seed.
    ///
    /// # Errors
    /// As [`Self::frozen`], and when the spec's model is no pretrained one.
    pub fn start(&self, model: &ModelSpec, seed: u64) -> Result<ParameterSet, LearningError> {
        let bert = bert_of(model).ok_or_else(|| LearningError::Base {
            reason: "expected preset = \"distilbert\" or \"bert\", found other layers".to_owned(),
        })?;
        if model.base().is_some() {
            let reason = "expected a model that is trained whole, found adapters (lora): they start \
                          from the seed, and each site has the base itself";
            return Err(LearningError::Base { reason: reason.to_owned() });
        }
        self.check_bert(bert)?;
        self.load(model.initial(seed), &[bert.pooler(), "classifier"])
    }

    /// Whether `config.json` describes the spec's model. Heads and activation leave no trace in the
    /// tensors' shapes: without this a wrong number of heads would be a wrong model, silently.
    ///
    /// # Errors
    /// [`LearningError::Base`] with what differs.
    pub fn check(&self, model: &ModelSpec) -> Result<(), LearningError> {
        bert_of(model).map_or(Ok(()), |bert| self.check_bert(bert))
    }

    fn check_bert(&self, bert: &Bert) -> Result<(), LearningError> {
        self.config.check(bert).map_err(|reason| LearningError::Base { reason })
    }

    /// Fills in a set's tensors, by name; other tensors of the file are left alone. Halves become
    /// floats. Names may lack the family's prefix (`distilbert.`, `bert.`), and a norm's tensors may
    /// be called gamma and beta, as in the first published checkpoints. Tensors of `optional` layers
    /// stay as they are where the file has none.
    fn load(&self, set: ParameterSet, optional: &[&str]) -> Result<ParameterSet, LearningError> {
        let failed =
            |reason: String| LearningError::Pretrained { file: self.weights.clone(), reason };
        let bytes = std::fs::read(&self.weights).map_err(|error| failed(error.to_string()))?;
        let found = Digest::of(&bytes);
        if found != self.digest {
            return Err(failed(format!("expected {}, found {found}: it changed", self.digest)));
        }
        fill_in(set, &bytes, optional).map_err(|fault| match fault {
            Fault::Damaged(reason) => failed(reason),
            Fault::Other(reason) => LearningError::Base { reason },
        })
    }
}

/// A checkpoint for a model, from a folder as [`Pretrained::start`] takes it, or from any safetensors file
/// that has the model's tensors by name, in whatever order; halves become floats.
///
/// # Errors
/// As those of [`Pretrained::start`]; [`LearningError::Pretrained`] when the file cannot be read, is too
/// large or damaged, or lacks a tensor or has it in another shape.
pub fn start_from(
    path: &Path,
    model: &ModelSpec,
    seed: u64,
) -> Result<ParameterSet, LearningError> {
    if path.is_dir() { Pretrained::open(path)?.start(model, seed) } else { read_file(path, model) }
}

fn read_file(file: &Path, model: &ModelSpec) -> Result<ParameterSet, LearningError> {
    let failed = |reason: String| LearningError::Pretrained { file: file.to_owned(), reason };
    let bytes = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(failed(format!("expected at most {FILE_BYTES_MAX} bytes, found {bytes}")));
    }
    let bytes = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    let set = ParameterSet::zeros(model.schema().clone());
    fill_in(set, &bytes, &[])
        .map_err(|(Fault::Damaged(reason) | Fault::Other(reason))| failed(reason))
}

/// Why a file's tensors do not make a set.
enum Fault {
    Damaged(String),
    Other(String),
}

fn fill_in(mut set: ParameterSet, bytes: &[u8], optional: &[&str]) -> Result<ParameterSet, Fault> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| Fault::Damaged(format!("damaged: {error}")))?;
    let schema: Arc<Schema> = set.schema().clone();
    for tensor in schema.tensors() {
        let into = &mut set.values_mut()[tensor.offset..tensor.offset + tensor.len];
        let layer = tensor.name.rsplit_once('.').map_or("", |(layer, _)| layer);
        if optional.contains(&layer) && find(&file, &tensor.name).is_none() {
            continue;
        }
        fill(&file, tensor, into).map_err(Fault::Other)?;
    }
    Ok(set)
}

fn digest_of(file: File) -> Result<Digest, String> {
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("expected at most {FILE_BYTES_MAX} bytes, found {bytes}"));
    }
    Digest::of_reader(file).map_err(|error| error.to_string())
}

fn bert_of(model: &ModelSpec) -> Option<&Bert> {
    match model.layers() {
        [Layer::Bert(bert)] => Some(bert),
        _ => None,
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
    let prefix = |prefix: &&str| name.strip_prefix(prefix);
    let bare = ["distilbert.", "bert."].iter().find_map(prefix).unwrap_or(name);
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
mod tests;
