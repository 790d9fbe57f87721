//! Hugging Face's `config.json`: what a file of tensors does not say of its model.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};
use tributary_core::model::{BERT_EPSILON, Bert, BertFamily};

use crate::LearningError;

/// Longest `config.json`: real ones have a few kilobytes, with the names of labels some more.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The part that the kernels depend on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    values: Map<String, Value>,
}

impl Eq for Config {}

impl Config {
    pub(super) fn read(file: &Path) -> Result<Self, LearningError> {
        let failed = |reason: String| LearningError::Pretrained { file: file.to_owned(), reason };
        let opened = File::open(file).map_err(|error| {
            failed(format!("{error}; expected a folder as Hugging Face's save_pretrained makes it"))
        })?;
        let mut bytes = Vec::new();
        let read = opened.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            return Err(failed(format!("expected at most {CONFIG_BYTES_MAX} bytes, found more")));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(values)) => Ok(Self { values }),
            Ok(_) => Err(failed("expected an object of JSON, found another value".to_owned())),
            Err(error) => Err(failed(format!("expected JSON: {error}"))),
        }
    }

    /// What differs from the spec's model, if anything does. A missing key has the library's default.
    pub(super) fn check(&self, bert: &Bert) -> Result<(), String> {
        if self.family()? != bert.family {
            let found = self.text("model_type").unwrap_or_default();
            return Err(format!(
                "expected model_type {:?}, found {found:?}: change `preset`",
                bert.family.word()
            ));
        }
        for ((key, expected), default) in bert.config().into_iter().zip(defaults(bert.family)) {
            let found = self.size(key, default)?;
            if found != expected {
                return Err(format!(
                    "expected {key} = {expected} as the spec has it, found {found} in its \
                     config.json: change `model.config.{key}`"
                ));
            }
        }
        let (key, found) = match bert.family {
            BertFamily::DistilBert => ("activation", self.text("activation")),
            BertFamily::Bert => ("hidden_act", self.text("hidden_act")),
        };
        if let Some(found) = found.filter(|found| *found != "gelu") {
            return Err(format!("expected {key} \"gelu\", found {found:?}"));
        }
        let positions = self.text("position_embedding_type");
        if let Some(found) = positions.filter(|found| *found != "absolute") {
            return Err(format!("expected position_embedding_type \"absolute\", found {found:?}"));
        }
        match self.values.get("layer_norm_eps") {
            Some(found) if found.as_f64() != Some(BERT_EPSILON) => {
                Err(format!("expected layer_norm_eps {BERT_EPSILON:e}, found {found}"))
            }
            _ => Ok(()),
        }
    }

    /// The lines of `[model]` that ask for such a model.
    pub(super) fn spec_lines(&self) -> Result<String, String> {
        let family = self.family()?;
        let sizes = family.sizes().into_iter().chain(family.types());
        let sizes: Vec<String> = sizes
            .map(|(key, default)| Ok(format!("{key} = {}", self.size(key, default)?)))
            .collect::<Result<_, String>>()?;
        Ok(format!("preset = {:?}\nconfig = {{ {} }}", family.word(), sizes.join(", ")))
    }

    fn family(&self) -> Result<BertFamily, String> {
        match self.text("model_type") {
            Some("distilbert") => Ok(BertFamily::DistilBert),
            Some("bert") => Ok(BertFamily::Bert),
            found => {
                let found = found.map_or_else(|| "nothing".to_owned(), |word| format!("{word:?}"));
                Err(format!("expected model_type \"distilbert\" or \"bert\", found {found}"))
            }
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(Value::as_str)
    }

    fn size(&self, key: &str, default: usize) -> Result<usize, String> {
        match self.values.get(key) {
            None => Ok(default),
            Some(value) => {
                value.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
                    format!("expected a size at {key} of its config.json, found {value}")
                })
            }
        }
    }
}

/// The library's own sizes, in the order of [`Bert::config`].
fn defaults(family: BertFamily) -> impl Iterator<Item = usize> {
    family.sizes().into_iter().chain(family.types()).map(|(_, default)| default)
}
