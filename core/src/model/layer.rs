//! The layers of a model and how they are written: a word, or a table with one key.

use std::ops::RangeInclusive;

use toml::{Table, Value};

use crate::document::{Section, show};

use super::SIZE_MAX;

/// One layer. Shapes are those of one example, without the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// A convolution over `[channels, height, width]`, with bias.
    Conv2d(Conv2d),
    /// The largest value of each window, per channel.
    MaxPool2d(MaxPool2d),
    /// A fully connected layer over `[features]`, with bias; gives `[out]`.
    Linear {
        /// How many values it gives.
        out: usize,
    },
    /// max(x, 0).
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// `[channels, height, width]` to `[channels × height × width]`.
    Flatten,
}

/// A convolution with a square kernel; zeros stand around the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Output channels.
    pub out: usize,
    /// Side of the kernel, in pixels.
    pub kernel: usize,
    /// Step of the kernel, in pixels.
    pub stride: usize,
    /// Zeros at each side, in pixels.
    pub padding: usize,
}

/// Square windows without padding; rows and columns that fill no window are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// Side of the window, in pixels.
    pub kernel: usize,
    /// Step of the window, in pixels.
    pub stride: usize,
}

/// Largest side of a kernel or window, and largest step: a place in a window fits 16 bits.
pub(super) const KERNEL_MAX: usize = 255;

impl Layer {
    /// The layer's word in specs and messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Layer::Conv2d(_) => "conv2d",
            Layer::MaxPool2d(_) => "max_pool2d",
            Layer::Linear { .. } => "linear",
            Layer::Relu => "relu",
            Layer::Tanh => "tanh",
            Layer::Flatten => "flatten",
        }
    }
}

const LAYERS: &str = "a layer: \"relu\", \"tanh\", \"flatten\", { conv2d = { out = 32, kernel = 5 } }, \
                      { max_pool2d = 2 } or { linear = 10 }";

/// Reads one layer of the list; `None` where a fault was recorded.
pub(super) fn read(model: &Section, path: &str, value: Value) -> Option<Layer> {
    match value {
        Value::String(word) => {
            let layer = match word.as_str() {
                "relu" => Some(Layer::Relu),
                "tanh" => Some(Layer::Tanh),
                "flatten" => Some(Layer::Flatten),
                _ => None,
            };
            if layer.is_none() {
                model.fault_at(path, LAYERS, format!("{word:?}"));
            }
            layer
        }
        Value::Table(table) => read_table(model, path, table),
        other => {
            model.fault_at(path, LAYERS, show(&other));
            None
        }
    }
}

fn read_table(model: &Section, path: &str, table: Table) -> Option<Layer> {
    let mut keys = table.keys();
    let (Some(kind), None) = (keys.next().cloned(), keys.next()) else {
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let found = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
        model.fault_at(path, "a table with one key, the layer's kind", found);
        return None;
    };
    let mut outer = model.below(path.to_owned(), table);
    match kind.as_str() {
        "conv2d" => read_conv2d(outer.optional_section("conv2d")?),
        "max_pool2d" => read_max_pool2d(&mut outer),
        "linear" => read_linear(&mut outer),
        _ => {
            model.fault_at(path, LAYERS, format!("{{ {kind} = … }}"));
            None
        }
    }
}

fn read_conv2d(mut section: Section) -> Option<Layer> {
    let out = size(&mut section, "out", 1..=SIZE_MAX, None);
    let kernel = size(&mut section, "kernel", 1..=KERNEL_MAX, None);
    let stride = size(&mut section, "stride", 1..=KERNEL_MAX, Some(1));
    let padding = size(&mut section, "padding", 0..=KERNEL_MAX, Some(0));
    section.finish();
    let conv = Conv2d { out: out?, kernel: kernel?, stride: stride?, padding: padding? };
    Some(Layer::Conv2d(conv))
}

/// `{ max_pool2d = 2 }`, or `{ max_pool2d = { kernel = 3, stride = 2 } }`; the stride's default is
/// the kernel.
fn read_max_pool2d(outer: &mut Section) -> Option<Layer> {
    let key = "max_pool2d";
    let (kernel, stride) = match outer.take(key)? {
        Value::Table(table) => {
            let mut section = outer.below(outer.path_of(key), table);
            let kernel = size(&mut section, "kernel", 1..=KERNEL_MAX, None);
            let stride = size(&mut section, "stride", 1..=KERNEL_MAX, kernel.or(Some(1)));
            section.finish();
            (kernel?, stride?)
        }
        value => {
            let kernel = size_of(&value, 1..=KERNEL_MAX);
            if kernel.is_none() {
                let expected =
                    format!("an integer from 1 to {KERNEL_MAX}, or a table with kernel and stride");
                outer.fault(key, expected, show(&value));
            }
            (kernel?, kernel?)
        }
    };
    Some(Layer::MaxPool2d(MaxPool2d { kernel, stride }))
}

/// `{ linear = 10 }`, or `{ linear = { out = 10 } }`.
fn read_linear(outer: &mut Section) -> Option<Layer> {
    let key = "linear";
    let out = match outer.take(key)? {
        Value::Table(table) => {
            let mut section = outer.below(outer.path_of(key), table);
            let out = size(&mut section, "out", 1..=SIZE_MAX, None);
            section.finish();
            out?
        }
        value => {
            let out = size_of(&value, 1..=SIZE_MAX);
            if out.is_none() {
                let expected = format!("an integer from 1 to {SIZE_MAX}");
                outer.fault(key, expected, show(&value));
            }
            out?
        }
    };
    Some(Layer::Linear { out })
}

/// An integer of a range as a size.
pub(super) fn size_of(value: &Value, range: RangeInclusive<usize>) -> Option<usize> {
    usize::try_from(value.as_integer()?).ok().filter(|size| range.contains(size))
}

/// A size at a key. Unlike [`Section::integer`] it gives nothing after a fault, so that shape
/// inference does not go on with a size that nobody wrote.
fn size(
    section: &mut Section,
    key: &str,
    range: RangeInclusive<usize>,
    default: Option<usize>,
) -> Option<usize> {
    let value = section.take(key);
    let size = match &value {
        None => default,
        Some(value) => size_of(value, range.clone()),
    };
    if size.is_none() {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        section.fault(key, expected, value.as_ref().map_or_else(|| "nothing".to_owned(), show));
    }
    size
}
