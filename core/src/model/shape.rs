//! Shape inference: what each layer makes of its input, and the parameters it needs. All sizes are
//! bounded with checked arithmetic, because a spec may come from somebody hostile.

mod sequence;

use super::layer::{Convolution, Layer, Pool};
use super::plan::{Init, Plan};
use crate::params::PARAMETERS_MAX;

pub(super) use sequence::{check_attention, hold_block};
use sequence::{encoder_stack, positions, recurrence};

/// Most values that one example may have behind any layer: 64 MiB.
pub const ACTIVATIONS_MAX: usize = 1 << 24;
/// Most values of a convolution's unfolded patches (channels × kernel places × output places), which
/// a kernel may hold for one example per thread: 128 MiB.
pub const PATCHES_MAX: usize = 1 << 25;

/// Why a layer does not fit.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) needs: String,
    pub(super) got: String,
}

impl Mismatch {
    pub(super) fn new(needs: impl Into<String>, got: impl std::fmt::Debug) -> Self {
        Self { needs: needs.into(), got: format!("{got:?}") }
    }
}

/// One example on its way: its sizes, and whether its values are tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) shape: Vec<usize>,
    pub(super) tokens: bool,
}

impl Value {
    pub(super) fn numbers(shape: impl Into<Vec<usize>>) -> Self {
        Self { shape: shape.into(), tokens: false }
    }
}

/// What a layer makes of `input`; its tensors go to `plan` under names that begin with `prefix`.
pub(super) fn infer(
    layer: &Layer,
    input: &Value,
    prefix: &str,
    plan: &mut Plan,
) -> Result<Value, Mismatch> {
    let word = layer.word();
    let takes_tokens = takes_tokens(layer);
    if input.tokens != takes_tokens {
        let (needs, got) = if takes_tokens {
            ("tokens (an input of { tokens = … })", "numbers")
        } else {
            ("numbers (put an embedding before it)", "tokens")
        };
        return Err(Mismatch {
            needs: format!("{needs} to {word}"),
            got: format!("{got} of {:?}", input.shape),
        });
    }
    let shape = match layer {
        Layer::Residual { layers, shortcut } => residual(layers, shortcut, input, prefix, plan)?,
        Layer::Bert(bert) => bert.infer(&input.shape, plan)?,
        _ => simple(layer, &input.shape, prefix, plan)?,
    };
    let Some(values) = values(&shape) else {
        return Err(Mismatch {
            needs: format!("at most {ACTIVATIONS_MAX} values behind {word}"),
            got: format!("{shape:?} from {:?}", input.shape),
        });
    };
    plan.holds(values);
    Ok(Value::numbers(shape))
}

/// Whether a layer's input is tokens.
pub(super) fn takes_tokens(layer: &Layer) -> bool {
    matches!(layer, Layer::Embedding { .. } | Layer::Bert(_))
}

fn simple(
    layer: &Layer,
    input: &[usize],
    prefix: &str,
    plan: &mut Plan,
) -> Result<Vec<usize>, Mismatch> {
    let word = layer.word();
    Ok(match layer {
        Layer::Conv1d(conv) => {
            let [channels, length] = dimensions(word, input, "[channels, length]")?;
            let [out, length] = convolution(word, conv, [channels, length], prefix, plan)?;
            vec![out, length]
        }
        Layer::Conv2d(conv) => {
            let sizes: [usize; 3] = dimensions(word, input, "[channels, height, width]")?;
            convolution(word, conv, sizes, prefix, plan)?.to_vec()
        }
        Layer::MaxPool2d(pool) | Layer::AvgPool2d(pool) => pooled(word, pool, input)?,
        Layer::GlobalAvgPool => match input {
            [channels, _] | [channels, _, _] => vec![*channels],
            _ => return Err(needs(word, "[channels, …]", input)),
        },
        Layer::BatchNorm(_) | Layer::GroupNorm { .. } => {
            normalised(layer, input, prefix, plan)?;
            input.to_vec()
        }
        Layer::LayerNorm { .. } => {
            let features = last(word, input)?;
            plan.norm(prefix, features);
            input.to_vec()
        }
        Layer::Linear { out } => {
            if input.len() == 3 {
                let needs = "an input of [features] or [steps, features] (put \"flatten\" before it) \
                             to linear";
                return Err(Mismatch::new(needs, input));
            }
            let features = last(word, input)?;
            plan.linear(prefix, *out, features).map_err(|got| too_large(word, &got))?;
            [&input[..input.len() - 1], &[*out]].concat()
        }
        Layer::Embedding { vocabulary, dimension } => {
            let table = vec![*vocabulary, *dimension];
            check_weight(word, &table)?;
            plan.tensor(prefix, "weight", table, Init::Normal(1.0));
            vec![input[0], *dimension]
        }
        Layer::Dropout { .. } | Layer::Activation(_) => input.to_vec(),
        Layer::Flatten => vec![input.iter().product()],
        Layer::Transpose => {
            let [a, b] = dimensions(word, input, "[a, b]")?;
            vec![b, a]
        }
        Layer::Recurrent(recurrent) => recurrence(recurrent, input, prefix, plan)?,
        Layer::PositionalEncoding(encoding) => positions(*encoding, input, prefix, plan)?,
        Layer::TransformerEncoder(encoder) => encoder_stack(encoder, input, prefix, plan)?,
        Layer::MeanPool | Layer::ClsPool | Layer::LastStep => {
            let [_, features] = steps(word, input)?;
            vec![features]
        }
        Layer::Residual { .. } | Layer::Bert(_) => Vec::new(),
    })
}

/// How many values a shape has, where that is within bounds.
pub(super) fn values(shape: &[usize]) -> Option<usize> {
    product(shape).filter(|&values| values <= ACTIVATIONS_MAX)
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

fn needs(word: &str, shape: &str, input: &[usize]) -> Mismatch {
    Mismatch::new(format!("an input of {shape} to {word}"), input)
}

fn dimensions<const N: usize>(
    word: &str,
    input: &[usize],
    shape: &str,
) -> Result<[usize; N], Mismatch> {
    input.try_into().map_err(|_| needs(word, shape, input))
}

fn steps(word: &str, input: &[usize]) -> Result<[usize; 2], Mismatch> {
    dimensions(word, input, "[steps, features]")
}

fn last(word: &str, input: &[usize]) -> Result<usize, Mismatch> {
    input.last().copied().ok_or_else(|| needs(word, "[…, features]", input))
}

pub(super) fn check_weight(word: &str, weight: &[usize]) -> Result<(), Mismatch> {
    match product(weight) {
        Some(values) if values <= PARAMETERS_MAX => Ok(()),
        _ => Err(too_large(word, weight)),
    }
}

fn too_large(word: &str, weight: &[usize]) -> Mismatch {
    Mismatch::new(format!("a weight of at most {PARAMETERS_MAX} values to {word}"), weight)
}

/// Output places along one side; `None` where not even one window fits.
pub(super) fn windows(side: usize, reach: usize, stride: usize, padding: usize) -> Option<usize> {
    Some(side.checked_add(2 * padding)?.checked_sub(reach)? / stride + 1)
}

/// `[channels, …sides]` to `[out, …sides]`.
fn convolution<const N: usize>(
    word: &str,
    conv: &Convolution,
    input: [usize; N],
    prefix: &str,
    plan: &mut Plan,
) -> Result<[usize; N], Mismatch> {
    let channels = input[0];
    if !channels.is_multiple_of(conv.groups) || !conv.out.is_multiple_of(conv.groups) {
        let needs = format!("groups that divide {channels} channels and out to {word}");
        return Err(Mismatch::new(needs, (conv.groups, conv.out)));
    }
    let reach = conv.dilation * (conv.kernel - 1) + 1;
    let mut out = [conv.out; N];
    for (out, side) in out.iter_mut().zip(input).skip(1) {
        let Some(windows) = windows(side, reach, conv.stride, conv.padding) else {
            return Err(Mismatch {
                needs: format!("sides that with padding are at least {reach} to {word}"),
                got: format!("{input:?} and padding {}", conv.padding),
            });
        };
        *out = windows;
    }
    let kernel = vec![conv.kernel; N - 1];
    let patch = [&[channels], kernel.as_slice()].concat();
    let patches = product(&[patch.as_slice(), &out[1..]].concat());
    if patches.is_none_or(|patches| patches > PATCHES_MAX) {
        return Err(Mismatch {
            needs: format!(
                "channels × kernel places × output places of at most {PATCHES_MAX} to {word}"
            ),
            got: format!("{patch:?} × {:?}", &out[1..]),
        });
    }
    let weight = [&[conv.out, channels / conv.groups], kernel.as_slice()].concat();
    check_weight(word, &weight)?;
    let fan_in = weight[1..].iter().product();
    plan.tensor(prefix, "weight", weight, Init::kaiming(fan_in));
    plan.tensor(prefix, "bias", vec![conv.out], Init::Zero);
    Ok(out)
}

fn pooled(word: &str, pool: &Pool, input: &[usize]) -> Result<Vec<usize>, Mismatch> {
    let [channels, height, width] = dimensions(word, input, "[channels, height, width]")?;
    let side = |size| windows(size, pool.kernel, pool.stride, 0);
    let (Some(rows), Some(columns)) = (side(height), side(width)) else {
        let kernel = pool.kernel;
        let needs = format!("a picture of at least {kernel} × {kernel} to {word}");
        return Err(Mismatch::new(needs, input));
    };
    Ok(vec![channels, rows, columns])
}

fn normalised(
    layer: &Layer,
    input: &[usize],
    prefix: &str,
    plan: &mut Plan,
) -> Result<(), Mismatch> {
    let word = layer.word();
    let Some(&channels) = input.first().filter(|_| input.len() <= 3) else {
        return Err(needs(word, "[channels, …]", input));
    };
    if let Layer::GroupNorm { groups, .. } = layer
        && channels % groups != 0
    {
        let needs = format!("groups that divide {channels} channels to {word}");
        return Err(Mismatch::new(needs, groups));
    }
    plan.norm(prefix, channels);
    if let Layer::BatchNorm(norm) = layer
        && !norm.local
    {
        plan.tensor(prefix, "running_mean", vec![channels], Init::Zero);
        plan.tensor(prefix, "running_var", vec![channels], Init::One);
    }
    Ok(())
}

fn residual(
    layers: &[Layer],
    shortcut: &[Layer],
    input: &Value,
    prefix: &str,
    plan: &mut Plan,
) -> Result<Vec<usize>, Mismatch> {
    let mut walk = |layers: &[Layer], way: &str| {
        let mut value = input.clone();
        for (index, layer) in layers.iter().enumerate() {
            value = infer(layer, &value, &format!("{prefix}.{way}.{index}"), plan)?;
        }
        Ok(value)
    };
    let (long, short) = (walk(layers, "layers")?, walk(shortcut, "shortcut")?);
    if long != short {
        let needs =
            format!("layers and shortcut of one shape to residual (layers give {:?})", long.shape);
        return Err(Mismatch::new(needs, short.shape));
    }
    Ok(long.shape)
}
