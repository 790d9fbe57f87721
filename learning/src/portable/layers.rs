//! Layers over pictures and features.

use candle_core::{D, Tensor};
use candle_nn::ops::{sigmoid, softmax};
use tributary_core::model::{Activation, BatchNorm, Convolution, Layer, Pool, PositionalEncoding};

use super::pass::{Pass, Seen};
use super::{bert, sequence};
use crate::LearningError;

/// What a layer makes of a batch.
pub(super) fn forward(
    layer: &Layer,
    name: &str,
    pass: &Pass<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    Ok(match layer {
        Layer::Conv1d(conv) => {
            let [weight, bias] = pass.pair(name)?;
            // Candle 0.11's conv1d has a wrong gradient of its kernel (tests/it/golden.rs shows it): a
            // signal is a picture of one row, padded at its ends alone.
            let picture = x.unsqueeze(2)?.pad_with_zeros(3, conv.padding, conv.padding)?;
            let out = convolution(conv, &weight.unsqueeze(2)?, &picture)?.squeeze(2)?;
            out.broadcast_add(&bias.reshape((1, conv.out, 1))?)?
        }
        Layer::Conv2d(conv) => {
            let [weight, bias] = pass.pair(name)?;
            let padding = conv.padding;
            let rows = x.pad_with_zeros(2, padding, padding)?;
            let out = convolution(conv, weight, &rows.pad_with_zeros(3, padding, padding)?)?;
            out.broadcast_add(&bias.reshape((1, conv.out, 1, 1))?)?
        }
        Layer::MaxPool2d(pool) => windows(pool, x, larger)?,
        Layer::AvgPool2d(pool) => {
            let taps = (pool.kernel * pool.kernel) as f64;
            (windows(pool, x, |a, b| a + b)? / taps)?
        }
        Layer::GlobalAvgPool => x.flatten_from(2)?.mean(2)?,
        Layer::GroupNorm { groups, epsilon } => group_norm(name, *groups, *epsilon, pass, x)?,
        Layer::LayerNorm { epsilon } => layer_norm(name, *epsilon, pass, x)?,
        Layer::Linear { .. } => linear(name, pass, x)?,
        Layer::Embedding { dimension, .. } => {
            let table = pass.get(&format!("{name}.weight"))?;
            let (batch, steps) = x.dims2()?;
            table.index_select(&x.flatten_all()?, 0)?.reshape((batch, steps, *dimension))?
        }
        Layer::Flatten => x.flatten_from(1)?,
        Layer::Transpose => x.transpose(1, 2)?.contiguous()?,
        Layer::Activation(function) => activation(*function, x)?,
        Layer::Residual { layers, shortcut } => {
            let walk = |layers: &[Layer], way: &str| {
                let mut value = x.clone();
                for (index, layer) in layers.iter().enumerate() {
                    value = forward(layer, &format!("{name}.{way}.{index}"), pass, &value)?;
                }
                Ok::<_, LearningError>(value)
            };
            (walk(layers, "layers")? + walk(shortcut, "shortcut")?)?
        }
        Layer::Recurrent(stack) => sequence::recurrent(stack, name, pass, x)?,
        Layer::PositionalEncoding(PositionalEncoding::Learned { .. }) => {
            let table = pass.get(&format!("{name}.weight"))?;
            x.broadcast_add(&table.narrow(0, 0, x.dim(1)?)?)?
        }
        Layer::PositionalEncoding(PositionalEncoding::Sinusoidal) => sequence::sinusoidal(x)?,
        Layer::TransformerEncoder(encoder) => sequence::encoder(encoder, name, pass, x)?,
        Layer::MeanPool => sequence::mean(pass, x)?,
        Layer::ClsPool => x.narrow(1, 0, 1)?.squeeze(1)?,
        Layer::LastStep => sequence::last(pass, x)?,
        Layer::BatchNorm(norm) => batch_norm(name, norm, pass, x)?,
        Layer::Dropout { rate } => pass.dropped(*rate, x)?,
        Layer::Bert(bert) => bert::forward(bert, pass, x)?,
    })
}

/// A convolution of a picture that has its padding already. Candle's way back takes one padding of
/// the output from the height alone, and fails where rows and columns leave different remainders: what
/// no window reaches is cut off first, so that neither leaves one.
fn convolution(
    conv: &Convolution,
    weight: &Tensor,
    picture: &Tensor,
) -> Result<Tensor, LearningError> {
    let mut picture = picture.clone();
    for axis in [2, 3] {
        let (side, reach) = (picture.dim(axis)?, conv.dilation * (weight.dim(axis)? - 1) + 1);
        let kept = (side - reach) / conv.stride * conv.stride + reach;
        if kept < side {
            picture = picture.narrow(axis, 0, kept)?;
        }
    }
    let picture = picture.contiguous()?;
    Ok(picture.conv2d(weight, 0, conv.stride, conv.dilation, conv.groups)?)
}

/// The larger of two values; where they are equal the first, which has the gradient then. (Candle's
/// maximum would share it out.)
fn larger(first: &Tensor, second: &Tensor) -> candle_core::Result<Tensor> {
    second.gt(first)?.where_cond(second, first)
}

/// By the batch's own moments in training, by the running or observed ones otherwise.
fn batch_norm(
    name: &str,
    norm: &BatchNorm,
    pass: &Pass<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let [weight, bias] = pass.pair(name)?;
    let channels = weight.elem_count();
    let mut wide = vec![1; x.dims().len()];
    wide[1] = channels;
    let spread = |channel: &Tensor| channel.reshape(wide.as_slice());
    let own = norm.local && pass.observed(name).is_none();
    let (mean, variance) = if pass.learns() || own {
        let rows = x.transpose(0, 1)?.contiguous()?.reshape((channels, ()))?;
        let count = rows.dim(1)? as f64;
        let mean = rows.mean(1)?;
        let away = rows.broadcast_sub(&mean.unsqueeze(1)?)?;
        let variance = away.sqr()?.mean(1)?;
        // One example alone has no unbiased variance: it counts as biased.
        let unbiased = (variance.detach() * (count / (count - 1.0).max(1.0)))?;
        let (mean_seen, variance_seen) = (mean.to_vec1()?, unbiased.to_vec1()?);
        let (layer, momentum) = (name.to_owned(), norm.momentum);
        pass.saw(Seen { layer, momentum, mean: mean_seen, variance: variance_seen, rows: count });
        (mean, variance)
    } else if let Some(observed) = pass.observed(name) {
        let [mean, variance] =
            observed.map(|values| Tensor::from_vec(values, channels, x.device()));
        (mean?, variance?)
    } else {
        let running = |kind: &str| pass.get(&format!("{name}.{kind}")).cloned();
        (running("running_mean")?, running("running_var")?)
    };
    let deviation = (variance + norm.epsilon)?.sqrt()?;
    let normal = x.broadcast_sub(&spread(&mean)?)?.broadcast_div(&spread(&deviation)?)?;
    Ok(normal.broadcast_mul(&spread(weight)?)?.broadcast_add(&spread(bias)?)?)
}

fn group_norm(
    name: &str,
    groups: usize,
    epsilon: f64,
    pass: &Pass<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let [weight, bias] = pass.pair(name)?;
    let shape = x.dims().to_vec();
    let normal = normalised(&x.reshape((shape[0], groups, ()))?, epsilon)?;
    let mut wide = vec![1; shape.len()];
    wide[1] = shape[1];
    let scaled = normal.reshape(shape)?.broadcast_mul(&weight.reshape(wide.as_slice())?)?;
    Ok(scaled.broadcast_add(&bias.reshape(wide)?)?)
}

/// Joins the places of every window, one strided slice a place: gradients go where they belong.
fn windows(
    pool: &Pool,
    x: &Tensor,
    join: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor, LearningError> {
    let (_, _, height, width) = x.dims4()?;
    let count = |side: usize| (side - pool.kernel) / pool.stride + 1;
    let picks = |axis: usize, first: usize, count: usize, x: &Tensor| {
        let indices: Vec<u32> = (0..count).map(|i| (first + i * pool.stride) as u32).collect();
        x.contiguous()?.index_select(&Tensor::new(indices, x.device())?, axis)
    };
    let mut joined: Option<Tensor> = None;
    for row in 0..pool.kernel {
        let lines = picks(2, row, count(height), x)?;
        for column in 0..pool.kernel {
            let values = picks(3, column, count(width), &lines)?;
            joined = Some(match joined {
                None => values,
                Some(joined) => join(&joined, &values)?,
            });
        }
    }
    joined.ok_or_else(|| LearningError::NoTensor("a window without places".to_owned()))
}

/// Values of the last dimension less their mean, over their deviation.
fn normalised(x: &Tensor, epsilon: f64) -> Result<Tensor, LearningError> {
    let away = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = away.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(away.broadcast_div(&(variance + epsilon)?.sqrt()?)?)
}

pub(super) fn layer_norm(
    name: &str,
    epsilon: f64,
    pass: &Pass<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let [weight, bias] = pass.pair(name)?;
    Ok(normalised(x, epsilon)?.broadcast_mul(weight)?.broadcast_add(bias)?)
}

pub(super) fn linear(name: &str, pass: &Pass<'_>, x: &Tensor) -> Result<Tensor, LearningError> {
    let [weight, bias] = pass.pair(name)?;
    Ok(x.broadcast_matmul(&weight.t()?)?.broadcast_add(bias)?)
}

pub(super) fn activation(function: Activation, x: &Tensor) -> Result<Tensor, LearningError> {
    Ok(match function {
        // Candle's own has a gradient of 1 at 0, where PyTorch's and our kernels' is 0.
        Activation::Relu => (x * x.gt(0_f32)?.to_dtype(x.dtype())?.detach())?,
        Activation::Gelu => x.gelu_erf()?,
        Activation::Tanh => x.tanh()?,
        Activation::Sigmoid => sigmoid(x)?,
        Activation::Softmax => softmax(x, D::Minus1)?,
    })
}
