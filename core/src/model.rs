//! The grammar of `[model]`: layers, shape inference, the schema, the seeded first checkpoint.
//!
//! ```toml
//! [model]
//! input = { shape = [1, 28, 28] }     # [channels, height, width], or [features]
//! layers = [
//!   { conv2d = { out = 32, kernel = 5, stride = 1, padding = 2 } },
//!   "relu", { max_pool2d = 2 }, "flatten", { linear = 10 },
//! ]
//! loss = "cross_entropy"
//! ```
//!
//! or `preset = "mnist_cnn"` in place of `layers`. A spec is judged without a training library: what
//! passes here has a shape at every layer, a bounded size, and an output for every class.

mod initial;
mod layer;
mod preset;
mod shape;

use std::sync::Arc;

use crate::document::{Section, show};
use crate::params::{ParameterSet, Schema};

pub use layer::{Conv2d, Layer, MaxPool2d};
pub use preset::Preset;
pub use shape::{ACTIVATIONS_MAX, PATCHES_MAX};

/// Most layers of a model: the recursion over a training graph stays far from any stack's end.
pub const LAYERS_MAX: usize = 1024;
/// Largest size that a spec may write: a side of an input, a number of channels or of outputs.
pub const SIZE_MAX: usize = 1 << 20;

/// What training makes small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The mean over the batch of −ln softmax(logits) at the label.
    CrossEntropy,
}

/// A checked model: its layers fit each other, and its sizes are bounded.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    input: Vec<usize>,
    layers: Vec<Layer>,
    loss: Loss,
    /// The shape behind each layer.
    shapes: Vec<Vec<usize>>,
    schema: Arc<Schema>,
}

impl ModelSpec {
    /// Reads the `[model]` section; `classes` is how many values the last layer must give. `None`
    /// means that faults were recorded, all that could be found at once.
    pub fn read(section: &mut Section, classes: u32) -> Option<ModelSpec> {
        let classes = classes as usize;
        let input = read_input(section);
        let words = [("cross_entropy", Loss::CrossEntropy)];
        let loss = section.choice("loss", &words, Some(Loss::CrossEntropy));
        let named = (section.has("preset"), section.has("layers"));
        let preset = read_preset(section);
        let list = section.optional_list("layers");
        let (input, layers) = match named {
            (true, false) => {
                let preset = preset?;
                let path = section.path_of("preset");
                let layers = preset.layers(classes).into_iter();
                let layers = layers.map(|layer| (path.clone(), Some(layer))).collect();
                (input.or_default(section, preset.input()), layers)
            }
            (false, true) => {
                let input = input.or_default(section, None);
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
        Self::build(section, input, layers, loss, classes)
    }

    /// Infers the shapes and the schema, as far as the layers could be read.
    fn build(
        section: &Section,
        input: Option<Vec<usize>>,
        layers: Vec<(String, Option<Layer>)>,
        loss: Option<Loss>,
        classes: usize,
    ) -> Option<Self> {
        let mut shapes = shape::Walk::new(input.clone()?);
        let mut tensors = Vec::new();
        let mut read = Vec::with_capacity(layers.len());
        for (index, (path, layer)) in layers.iter().enumerate() {
            let layer = (*layer)?;
            match shapes.step(&layer) {
                Ok(parameters) => tensors.extend(
                    parameters
                        .into_iter()
                        .map(|(name, shape)| (format!("layers.{index}.{name}"), shape)),
                ),
                Err(mismatch) => {
                    let expected = format!("{} for layer {index}", mismatch.needs);
                    section.fault_at(path.clone(), expected, mismatch.got);
                    return None;
                }
            }
            read.push(layer);
        }
        let output = shapes.last();
        if output != [classes] {
            let path = layers.last().map_or_else(|| section.path_of("layers"), |l| l.0.clone());
            let expected = format!("a last layer that gives [{classes}], one value for each class");
            section.fault_at(path, expected, format!("{output:?}"));
            return None;
        }
        let schema = match Schema::new(tensors) {
            Ok(schema) => Arc::new(schema),
            Err(error) => {
                section.fault_at(section.path(), "a smaller model", error.to_string());
                return None;
            }
        };
        Some(Self {
            input: input?,
            layers: read,
            loss: loss?,
            shapes: shapes.into_shapes(),
            schema,
        })
    }

    /// The shape of one example: `[channels, height, width]` or `[features]`.
    #[must_use]
    pub fn input(&self) -> &[usize] {
        &self.input
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

    /// How many values the last layer gives: the number of classes.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.shapes.last().map_or(0, |shape| shape.iter().product())
    }

    /// The loss.
    #[must_use]
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// The parameters, in the layers' order: `layers.3.weight`, `layers.3.bias`. A linear weight is
    /// `[out, in]`, a convolution's `[out, in, kernel, kernel]`, as in PyTorch.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// How many values one example makes on its way through the model, input included: memory in
    /// training is about 8 bytes for each, times the batch.
    #[must_use]
    pub fn activations_per_example(&self) -> usize {
        let sizes = self.shapes.iter().map(|shape| shape.iter().product::<usize>());
        self.input.iter().product::<usize>() + sizes.sum::<usize>()
    }

    /// The first checkpoint of a job: weights uniform in ±√(6 ⁄ fan_in), biases zero.
    ///
    /// Kaiming initialisation for rectifiers (He, Zhang, Ren and Sun 2015, "Delving deep into
    /// rectifiers", section 2.2) in its uniform form, whose variance is 2 ⁄ fan_in. Every tensor draws
    /// from its own generator, seeded by the job's seed and the tensor's name; only + − × ÷ √ are
    /// used, so the bytes are the same everywhere.
    #[must_use]
    pub fn initial(&self, job_seed: u64) -> ParameterSet {
        initial::initial(&self.schema, job_seed)
    }
}

enum Input {
    Missing,
    Wrong,
    Read(Vec<usize>),
}

impl Input {
    /// The shape as read, or the default; without one the key is required.
    fn or_default(self, section: &Section, default: Option<&[usize]>) -> Option<Vec<usize>> {
        match (self, default) {
            (Input::Read(shape), _) => Some(shape),
            (Input::Wrong, _) => None,
            (Input::Missing, Some(default)) => Some(default.to_vec()),
            (Input::Missing, None) => {
                section.fault("input", "a table such as { shape = [1, 28, 28] }", "nothing");
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
    let expected = format!(
        "[channels, height, width] or [features], each from 1 to {SIZE_MAX}, \
         at most {ACTIVATIONS_MAX} values in all"
    );
    let had_shape = input.has("shape");
    let list = input.optional_list("shape");
    if !had_shape {
        input.fault("shape", expected.clone(), "nothing");
    }
    let shape = list.and_then(|list| {
        let sizes: Option<Vec<usize>> =
            list.iter().map(|(_, value)| layer::size_of(value, 1..=SIZE_MAX)).collect();
        let shape = sizes.filter(|s| matches!(s.len(), 1 | 3) && shape::values(s).is_some());
        if shape.is_none() {
            let found: Vec<String> = list.iter().take(8).map(|(_, value)| show(value)).collect();
            input.fault("shape", expected, format!("[{}]", found.join(", ")));
        }
        shape
    });
    input.finish();
    shape.map_or(Input::Wrong, Input::Read)
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
    if list.is_empty() || list.len() > LAYERS_MAX {
        let expected = format!("1 to {LAYERS_MAX} layers");
        section.fault("layers", expected, format!("{}", list.len()));
        return vec![(section.path_of("layers"), None)];
    }
    list.into_iter()
        .map(|(path, value)| {
            let layer = layer::read(section, &path, value);
            (path, layer)
        })
        .collect()
}

#[cfg(test)]
mod tests;
