//! How layers are written: a word, or a table with one key, the layer's kind.

use std::ops::RangeInclusive;

use toml::{Table, Value};

use crate::document::{Section, show};

use super::layer::{
    Activation, BatchNorm, Cell, Convolution, KERNEL_MAX, Layer, Pool, PositionalEncoding,
    Recurrent, Returns, TransformerEncoder,
};
use super::{LAYERS_MAX, SIZE_MAX};

/// Deepest nesting of residual blocks: bounds the recursion that reads and runs them.
const DEPTH_MAX: usize = 16;
/// Most layers of a recurrent stack or blocks of an encoder.
pub(super) const STACK_MAX: usize = 64;
/// Added to variances where the spec says nothing, as in PyTorch.
pub(super) const EPSILON: f64 = 1e-5;

const LAYERS: &str = "a layer: one of \"relu\", \"gelu\", \"tanh\", \"sigmoid\", \"softmax\", \"flatten\", \"transpose\", \
    \"batch_norm\", \"layer_norm\", \"global_avg_pool\", \"mean_pool\", \"cls_pool\", \"last_step\", or a table \
    with one of the keys conv1d, conv2d, max_pool2d, avg_pool2d, batch_norm, group_norm, layer_norm, linear, \
    embedding, dropout, residual, rnn, lstm, gru, positional_encoding, transformer_encoder, such as { linear = 10 }";

/// Reads a list of layers; `None` in a place where a fault was recorded.
pub(super) fn read_list(
    section: &Section,
    key: &str,
    list: Vec<(String, Value)>,
    depth: usize,
) -> Vec<(String, Option<Layer>)> {
    if list.len() > LAYERS_MAX || depth > DEPTH_MAX {
        let expected = format!("at most {LAYERS_MAX} layers, nested at most {DEPTH_MAX} deep");
        section.fault(key, expected, format!("{} at depth {depth}", list.len()));
        return vec![(section.path_of(key), None)];
    }
    list.into_iter()
        .map(|(path, value)| {
            let layer = read(section, &path, value, depth);
            (path, layer)
        })
        .collect()
}

fn read(model: &Section, path: &str, value: Value, depth: usize) -> Option<Layer> {
    match value {
        Value::String(word) => {
            let layer = plain(&word);
            if layer.is_none() {
                model.fault_at(path, LAYERS, format!("{word:?}"));
            }
            layer
        }
        Value::Table(table) => read_table(model, path, table, depth),
        other => {
            model.fault_at(path, LAYERS, show(&other));
            None
        }
    }
}

/// The layers that need no settings.
fn plain(word: &str) -> Option<Layer> {
    let activation = Activation::WORDS.iter().find(|(known, _)| *known == word);
    if let Some((_, activation)) = activation {
        return Some(Layer::Activation(*activation));
    }
    Some(match word {
        "flatten" => Layer::Flatten,
        "transpose" => Layer::Transpose,
        "global_avg_pool" => Layer::GlobalAvgPool,
        "batch_norm" => {
            Layer::BatchNorm(BatchNorm { momentum: 0.1, epsilon: EPSILON, local: false })
        }
        "layer_norm" => Layer::LayerNorm { epsilon: EPSILON },
        "mean_pool" => Layer::MeanPool,
        "cls_pool" => Layer::ClsPool,
        "last_step" => Layer::LastStep,
        _ => return None,
    })
}

fn read_table(model: &Section, path: &str, table: Table, depth: usize) -> Option<Layer> {
    let mut keys = table.keys();
    let (Some(kind), None) = (keys.next().cloned(), keys.next()) else {
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let found = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
        model.fault_at(path, "a table with one key, the layer's kind", found);
        return None;
    };
    let mut outer = model.below(path.to_owned(), table);
    if let Some((_, cell)) = Cell::WORDS.iter().find(|(word, _)| *word == kind) {
        return settings(&mut outer, &kind, Some("hidden"), |s| recurrent(s, *cell));
    }
    let outer = &mut outer;
    match kind.as_str() {
        "conv1d" => settings(outer, &kind, None, |s| convolution(s).map(Layer::Conv1d)),
        "conv2d" => settings(outer, &kind, None, |s| convolution(s).map(Layer::Conv2d)),
        "max_pool2d" => settings(outer, &kind, Some("kernel"), |s| pool(s).map(Layer::MaxPool2d)),
        "avg_pool2d" => settings(outer, &kind, Some("kernel"), |s| pool(s).map(Layer::AvgPool2d)),
        "batch_norm" => settings(outer, &kind, None, |s| {
            let momentum = s.number("momentum", 0.0..=1.0, Some(0.1));
            let local = s.boolean("local", Some(false));
            Some(Layer::BatchNorm(BatchNorm { momentum, epsilon: epsilon(s), local }))
        }),
        "group_norm" => settings(outer, &kind, Some("groups"), |s| {
            let groups = size(s, "groups", 1..=SIZE_MAX, None);
            let epsilon = epsilon(s);
            Some(Layer::GroupNorm { groups: groups?, epsilon })
        }),
        "layer_norm" => {
            settings(outer, &kind, None, |s| Some(Layer::LayerNorm { epsilon: epsilon(s) }))
        }
        "linear" => settings(outer, &kind, Some("out"), |s| {
            Some(Layer::Linear { out: size(s, "out", 1..=SIZE_MAX, None)? })
        }),
        "embedding" => settings(outer, &kind, None, |s| {
            let vocabulary = size(s, "vocabulary", 1..=SIZE_MAX, None);
            let dimension = size(s, "dimension", 1..=SIZE_MAX, None);
            Some(Layer::Embedding { vocabulary: vocabulary?, dimension: dimension? })
        }),
        "dropout" => settings(outer, &kind, Some("rate"), |s| {
            Some(Layer::Dropout { rate: s.number("rate", 0.0..=DROPOUT_MAX, None) })
        }),
        "residual" => settings(outer, &kind, None, |s| residual(s, depth)),
        "positional_encoding" => settings(outer, &kind, Some("kind"), positional_encoding),
        "transformer_encoder" => settings(outer, &kind, None, transformer_encoder),
        _ => {
            model.fault_at(path, LAYERS, format!("{{ {kind} = … }}"));
            None
        }
    }
}

/// Largest rate of dropout: the scale 1 ⁄ (1 − rate) stays small.
pub(super) const DROPOUT_MAX: f64 = 0.95;

/// The settings of a layer; a bare value stands for the key `main`.
fn settings(
    outer: &mut Section,
    key: &str,
    main: Option<&str>,
    read: impl FnOnce(&mut Section) -> Option<Layer>,
) -> Option<Layer> {
    let table = match (outer.take(key)?, main) {
        (Value::Table(table), _) => table,
        (value, Some(main)) => Table::from_iter([(main.to_owned(), value)]),
        (value, None) => {
            outer.fault(key, "a table of settings", show(&value));
            return None;
        }
    };
    let mut section = outer.below(outer.path_of(key), table);
    let layer = read(&mut section);
    section.finish();
    layer
}

fn epsilon(section: &mut Section) -> f64 {
    section.number("epsilon", 1e-12..=1.0, Some(EPSILON))
}

fn convolution(section: &mut Section) -> Option<Convolution> {
    let out = size(section, "out", 1..=SIZE_MAX, None);
    let kernel = size(section, "kernel", 1..=KERNEL_MAX, None);
    let stride = size(section, "stride", 1..=KERNEL_MAX, Some(1));
    let padding = size(section, "padding", 0..=KERNEL_MAX, Some(0));
    let dilation = size(section, "dilation", 1..=KERNEL_MAX, Some(1));
    let groups = size(section, "groups", 1..=SIZE_MAX, Some(1));
    Some(Convolution {
        out: out?,
        kernel: kernel?,
        stride: stride?,
        padding: padding?,
        dilation: dilation?,
        groups: groups?,
    })
}

/// The stride's default is the kernel.
fn pool(section: &mut Section) -> Option<Pool> {
    let kernel = size(section, "kernel", 1..=KERNEL_MAX, None);
    let stride = size(section, "stride", 1..=KERNEL_MAX, kernel.or(Some(1)));
    Some(Pool { kernel: kernel?, stride: stride? })
}

fn residual(section: &mut Section, depth: usize) -> Option<Layer> {
    let mut read = |key: &str, required: bool| {
        let Some(list) = section.optional_list(key) else {
            if required {
                section.fault(key, "a list of layers", "nothing");
            }
            return (!required).then(Vec::new);
        };
        let layers = read_list(section, key, list, depth + 1);
        layers.into_iter().map(|(_, layer)| layer).collect::<Option<Vec<Layer>>>()
    };
    let layers = read("layers", true);
    let shortcut = read("shortcut", false);
    Some(Layer::Residual { layers: layers?, shortcut: shortcut? })
}

fn recurrent(section: &mut Section, cell: Cell) -> Option<Layer> {
    let hidden = size(section, "hidden", 1..=SIZE_MAX, None);
    let layers = size(section, "layers", 1..=STACK_MAX, Some(1));
    let bidirectional = section.boolean("bidirectional", Some(false));
    let dropout = section.number("dropout", 0.0..=DROPOUT_MAX, Some(0.0));
    let words = [("sequence", Returns::Sequence), ("last_step", Returns::LastStep)];
    let returns = section.choice("return", &words, Some(Returns::Sequence));
    let cell = if cell == Cell::Rnn {
        let words = [("tanh", Cell::Rnn), ("relu", Cell::ReluRnn)];
        section.choice("nonlinearity", &words, Some(Cell::Rnn))
    } else {
        Some(cell)
    };
    Some(Layer::Recurrent(Recurrent {
        cell: cell?,
        hidden: hidden?,
        layers: layers?,
        bidirectional,
        dropout,
        returns: returns?,
    }))
}

fn positional_encoding(section: &mut Section) -> Option<Layer> {
    let learned = section.choice("kind", &[("sinusoidal", false), ("learned", true)], None)?;
    let encoding = if learned {
        PositionalEncoding::Learned { length: size(section, "length", 1..=SIZE_MAX, None)? }
    } else {
        PositionalEncoding::Sinusoidal
    };
    Some(Layer::PositionalEncoding(encoding))
}

fn transformer_encoder(section: &mut Section) -> Option<Layer> {
    let layers = size(section, "layers", 1..=STACK_MAX, None);
    let heads = size(section, "heads", 1..=SIZE_MAX, None);
    let feed_forward = size(section, "feed_forward", 1..=SIZE_MAX, None);
    let dropout = section.number("dropout", 0.0..=DROPOUT_MAX, Some(0.0));
    let words = [("relu", Activation::Relu), ("gelu", Activation::Gelu)];
    let activation = section.choice("activation", &words, Some(Activation::Relu));
    let norm_first = section.choice("norm", &[("post", false), ("pre", true)], Some(false));
    let causal = section.boolean("causal", Some(false));
    let epsilon = epsilon(section);
    Some(Layer::TransformerEncoder(TransformerEncoder {
        layers: layers?,
        heads: heads?,
        feed_forward: feed_forward?,
        dropout,
        activation: activation?,
        norm_first: norm_first?,
        causal,
        epsilon,
    }))
}

/// An integer of a range as a size.
pub(super) fn size_of(value: &Value, range: RangeInclusive<usize>) -> Option<usize> {
    usize::try_from(value.as_integer()?).ok().filter(|size| range.contains(size))
}

/// A size at a key. Unlike [`Section::integer`] it gives nothing after a fault, so that shape
/// inference does not go on with a size that nobody wrote.
pub(super) fn size(
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
