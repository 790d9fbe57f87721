//! The grammar of `[model]`: layers, shape inference, the schema, the seeded first checkpoint.
//!
//! ```toml
//! [model]
//! input = { shape = [1, 28, 28] }     # [channels, height, width], [channels, length],
//! layers = [                          # [steps, features] or [features]; or { tokens = 80 }
//!   { conv2d = { out = 32, kernel = 5, stride = 1, padding = 2 } },
//!   "relu", { max_pool2d = 2 }, "flatten", { linear = 10 },
//! ]
//! loss = "cross_entropy"
//! ```
//!
//! or `preset = "mnist_cnn"` in place of `layers`. A spec is judged without a training library: what
//! passes here has a shape at every layer, a bounded size, and an output for every target.

mod bert;
mod initial;
mod layer;
mod loss;
mod plan;
mod preset;
mod reading;
mod shape;

use std::sync::Arc;

use crate::digest::Digest;
use crate::document::{Section, show};
use crate::params::{ParameterSet, Schema, SchemaError};
use crate::spec::data::{DataKind, DataSpec};

use plan::{Init, Plan, Planned};
use preset::{DefaultInput, Fit};
use shape::Value;

pub use bert::{BERT_EPSILON, Bert, BertBlock, BertFamily, Lora};
pub use layer::{
    Activation, BatchNorm, Cell, Convolution, Layer, Pool, PositionalEncoding, Recurrent, Returns,
    TransformerEncoder,
};
pub use loss::Loss;
pub use preset::Preset;
pub use shape::{ACTIVATIONS_MAX, PATCHES_MAX};

/// Most layers of a model: the recursion over a training graph stays far from any stack's end.
pub const LAYERS_MAX: usize = 1024;
/// Largest size that a spec may write: a side of an input, a number of channels or of outputs.
pub const SIZE_MAX: usize = 1 << 20;

/// A checked model: its layers fit each other, and its sizes are bounded.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    input: Value,
    layers: Vec<Layer>,
    loss: Loss,
    /// The shape behind each layer.
    shapes: Vec<Vec<usize>>,
    schema: Arc<Schema>,
    inits: Arc<Vec<Init>>,
    frozen: Option<Arc<Schema>>,
    activations: usize,
    vocabulary: Option<usize>,
}

impl ModelSpec {
    /// Reads the `[model]` section for data of that kind. `None` means that faults were recorded, all
    /// that could be found at once.
    pub fn read(section: &mut Section, data: &DataSpec) -> Option<ModelSpec> {
        let input = read_input(section);
        let loss = Loss::read(section, data);
        let named = (section.has("preset"), section.has("layers"));
        let preset = read_preset(section);
        let list = section.optional_list("layers");
        let (input, layers) = match named {
            (true, false) => {
                let preset = preset?;
                let path = section.path_of("preset");
                let input = input.or_default(section, &preset.input());
                let steps = input.as_ref().and_then(|i| i.shape.first()).copied().unwrap_or(0);
                let outputs = *loss.as_ref()?.output(data, steps).last()?;
                let fit = Fit { outputs, vocabulary: data.vocabulary as usize, steps };
                let layers = match preset {
                    Preset::Pretrained(family) => {
                        vec![Layer::Bert(Box::new(Bert::read(section, family, outputs)?))]
                    }
                    _ => preset.layers(fit),
                };
                (input, layers.into_iter().map(|layer| (path.clone(), Some(layer))).collect())
            }
            (false, true) => {
                let input = input.or_default(section, &DefaultInput::None);
                (input, read_layers(section, list?))
            }
            (true, true) => {
                section.fault("layers", "either `layers` or `preset`", "both");
                return None;
            }
            (false, false) => {
                section.fault("layers", "a list of layers, or a `preset`", "nothing");
                return None;
            }
        };
        Self::build(section, input?, layers, loss?, data)
    }

    /// Infers the shapes and the schema, as far as the layers could be read.
    fn build(
        section: &Section,
        input: Value,
        layers: Vec<(String, Option<Layer>)>,
        loss: Loss,
        data: &DataSpec,
    ) -> Option<Self> {
        check_kind(section, &input, data)?;
        let mut plan = Plan::default();
        let mut value = input.clone();
        let mut shapes = Vec::with_capacity(layers.len());
        let mut read = Vec::with_capacity(layers.len());
        let last_path = layers.last().map_or_else(|| section.path_of("layers"), |l| l.0.clone());
        for (index, (path, layer)) in layers.into_iter().enumerate() {
            let layer = layer?;
            match shape::infer(&layer, &value, &format!("layers.{index}"), &mut plan) {
                Ok(next) => value = next,
                Err(mismatch) => {
                    let expected = format!("{} for layer {index}", mismatch.needs);
                    section.fault_at(path, expected, mismatch.got);
                    return None;
                }
            }
            shapes.push(value.shape.clone());
            read.push(layer);
        }
        let steps = input.shape.first().copied().unwrap_or(0);
        let output = loss.output(data, steps);
        if value.shape != output {
            let expected = format!("a last layer that gives {output:?} for {}", loss.word());
            section.fault_at(last_path, expected, format!("{:?}", value.shape));
            return None;
        }
        let vocabulary = vocabulary_of(&read);
        if let Some(rows) = vocabulary
            && rows < data.vocabulary as usize
        {
            let expected =
                format!("a vocabulary of at least {} for the first layer", data.vocabulary);
            section.fault("layers", expected, rows.to_string());
            return None;
        }
        let schema = schema_of(section, &plan.trained)?;
        let frozen =
            if plan.frozen.is_empty() { None } else { Some(schema_of(section, &plan.frozen)?) };
        Some(Self {
            activations: plan.activations.saturating_add(input.shape.iter().product()),
            input,
            layers: read,
            loss,
            shapes,
            schema,
            inits: Arc::new(plan.trained.iter().map(|tensor| tensor.init).collect()),
            frozen,
            vocabulary,
        })
    }

    /// The shape of one example: `[channels, height, width]`, `[channels, length]`, `[steps,
    /// features]`, `[features]`, or `[steps]` of tokens.
    #[must_use]
    pub fn input(&self) -> &[usize] {
        &self.input.shape
    }

    /// Whether an example's values are tokens.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.input.tokens
    }

    /// Tokens are below this; `None` where there are none.
    #[must_use]
    pub fn vocabulary(&self) -> Option<usize> {
        self.vocabulary
    }

    /// The layers, first to last.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The shape of one example behind each layer, in the layers' order.
    #[must_use]
    pub fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    /// What one example gives in the end: its scores, or its predictions at every step.
    #[must_use]
    pub fn output(&self) -> &[usize] {
        self.shapes.last().map_or(&[], Vec::as_slice)
    }

    /// The loss.
    #[must_use]
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// The trained parameters, in the layers' order: `layers.3.weight`, `layers.3.bias`. Names and
    /// shapes within a layer are PyTorch's; a pretrained model has Hugging Face's.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The parameters that are never trained and never travel (the body under low-rank adapters);
    /// every site has them from elsewhere.
    #[must_use]
    pub fn frozen_schema(&self) -> Option<&Arc<Schema>> {
        self.frozen.as_ref()
    }

    /// The digest of the file that the frozen parameters come from.
    #[must_use]
    pub fn base(&self) -> Option<Digest> {
        match self.layers.first() {
            Some(Layer::Bert(bert)) => bert.lora.map(|lora| lora.base),
            _ => None,
        }
    }

    /// Whether a site looks at its own rows before it predicts: a layer has local statistics.
    #[must_use]
    pub fn observes(&self) -> bool {
        fn any(layers: &[Layer]) -> bool {
            layers.iter().any(|layer| match layer {
                Layer::BatchNorm(norm) => norm.local,
                Layer::Residual { layers, shortcut } => any(layers) || any(shortcut),
                _ => false,
            })
        }
        any(&self.layers)
    }

    /// About how many values one example leaves on its way through the model, input included: memory
    /// in training is about 8 bytes for each, times the batch.
    #[must_use]
    pub fn activations_per_example(&self) -> usize {
        self.activations
    }

    /// The first checkpoint of a job.
    ///
    /// Weights of linear layers and convolutions are uniform in ±√(6 ⁄ fan_in) (He et al. 2015), those
    /// of recurrent layers and encoders as PyTorch draws them, tables are normal, biases zero, scales
    /// one. Every tensor draws from its own generator, seeded by the job's seed and the tensor's name,
    /// with IEEE operations and `libm` alone, so the bytes are the same everywhere.
    #[must_use]
    pub fn initial(&self, job_seed: u64) -> ParameterSet {
        initial::initial(&self.schema, &self.inits, job_seed)
    }
}

fn schema_of(section: &Section, tensors: &[Planned]) -> Option<Arc<Schema>> {
    let named = tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone()));
    let schema: Result<Schema, SchemaError> = Schema::new(named);
    match schema {
        Ok(schema) => Some(Arc::new(schema)),
        Err(error) => {
            section.fault_at(section.path(), "a smaller model", error.to_string());
            None
        }
    }
}

/// Text is tokens, and nothing else is.
fn check_kind(section: &Section, input: &Value, data: &DataSpec) -> Option<()> {
    if input.tokens == (data.kind == DataKind::Text) {
        return Some(());
    }
    let word = data.kind.word();
    let expected = if input.tokens {
        format!("an input of {{ shape = […] }} for data of kind {word:?}")
    } else {
        "an input of { tokens = … } for data of kind \"text\"".to_owned()
    };
    section.fault("input", expected, format!("{:?}", input.shape));
    None
}

fn vocabulary_of(layers: &[Layer]) -> Option<usize> {
    match layers.first()? {
        Layer::Embedding { vocabulary, .. } => Some(*vocabulary),
        Layer::Bert(bert) => Some(bert.vocabulary),
        _ => None,
    }
}

enum Input {
    Missing,
    Wrong,
    Read(Value),
}

impl Input {
    /// The shape as read, or the default; without one the key is required.
    fn or_default(self, section: &Section, default: &DefaultInput) -> Option<Value> {
        match (self, default) {
            (Input::Read(value), _) => Some(value),
            (Input::Wrong, _) => None,
            (Input::Missing, DefaultInput::Numbers(shape)) => Some(Value::numbers(*shape)),
            (Input::Missing, DefaultInput::Tokens(steps)) => {
                Some(Value { shape: vec![*steps], tokens: true })
            }
            (Input::Missing, DefaultInput::None) => {
                let expected = "a table such as { shape = [1, 28, 28] } or { tokens = 80 }";
                section.fault("input", expected, "nothing");
                None
            }
        }
    }
}

fn read_input(section: &mut Section) -> Input {
    let had = section.has("input");
    let Some(mut input) = section.optional_section("input") else {
        return if had { Input::Wrong } else { Input::Missing };
    };
    let value = if input.has("tokens") {
        let steps = reading::size(&mut input, "tokens", 1..=SIZE_MAX, None);
        steps.map(|steps| Value { shape: vec![steps], tokens: true })
    } else {
        read_shape(&mut input).map(Value::numbers)
    };
    input.finish();
    value.map_or(Input::Wrong, Input::Read)
}

fn read_shape(input: &mut Section) -> Option<Vec<usize>> {
    let expected = format!(
        "[channels, height, width], [channels, length], [steps, features] or [features], each from 1 \
         to {SIZE_MAX}, at most {ACTIVATIONS_MAX} values in all"
    );
    if !input.has("shape") {
        input.fault("shape", expected.clone(), "nothing");
    }
    let list = input.optional_list("shape")?;
    let sizes: Option<Vec<usize>> =
        list.iter().map(|(_, value)| reading::size_of(value, 1..=SIZE_MAX)).collect();
    let shape = sizes.filter(|s| matches!(s.len(), 1..=3) && shape::values(s).is_some());
    if shape.is_none() {
        let found: Vec<String> = list.iter().take(8).map(|(_, value)| show(value)).collect();
        input.fault("shape", expected, format!("[{}]", found.join(", ")));
    }
    shape
}

fn read_preset(section: &mut Section) -> Option<Preset> {
    if !section.has("preset") {
        // Asked for, so that a misspelt key is told about it.
        let _ = section.take("preset");
        return None;
    }
    section.choice("preset", &Preset::WORDS, None)
}

fn read_layers(
    section: &Section,
    list: Vec<(String, toml::Value)>,
) -> Vec<(String, Option<Layer>)> {
    if list.is_empty() {
        section.fault("layers", format!("1 to {LAYERS_MAX} layers"), "0");
        return vec![(section.path_of("layers"), None)];
    }
    reading::read_list(section, "layers", list, 0)
}

#[cfg(test)]
mod tests;
