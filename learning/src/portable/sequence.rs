//! Layers over steps.

use candle_core::{D, Tensor};
use candle_nn::ops::{sigmoid, softmax};
use tributary_core::model::{Cell, Recurrent, Returns, TransformerEncoder};

use super::Weights;
use super::layers::{activation, layer_norm, linear};
use crate::LearningError;

/// Adds sines and cosines of the place (Vaswani et al. 2017, section 3.5).
pub(super) fn sinusoidal(x: &Tensor) -> Result<Tensor, LearningError> {
    let (_, steps, features) = x.dims3()?;
    let value = |step: usize, feature: usize| {
        let power = (feature / 2 * 2) as f64 / features as f64;
        let angle = step as f64 / libm::pow(10_000.0, power);
        (if feature.is_multiple_of(2) { libm::sin(angle) } else { libm::cos(angle) }) as f32
    };
    let table: Vec<f32> =
        (0..steps * features).map(|at| value(at / features, at % features)).collect();
    Ok(x.broadcast_add(&Tensor::from_vec(table, (steps, features), x.device())?)?)
}

/// A stack of recurrent layers, step by step.
pub(super) fn recurrent(
    stack: &Recurrent,
    name: &str,
    weights: &Weights<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let ways: &[&str] = if stack.bidirectional { &["", "_reverse"] } else { &[""] };
    let mut value = x.clone();
    for layer in 0..stack.layers {
        let mut outs = Vec::with_capacity(ways.len());
        for way in ways {
            let place = |kind: &str| weights.get(&format!("{name}.{kind}_l{layer}{way}"));
            let tensors =
                [place("weight_ih")?, place("weight_hh")?, place("bias_ih")?, place("bias_hh")?];
            outs.push(direction(stack.cell, tensors, &value, !way.is_empty())?);
        }
        value = Tensor::cat(&outs, 2)?;
    }
    Ok(match stack.returns {
        Returns::Sequence => value,
        Returns::LastStep => value.narrow(1, value.dim(1)? - 1, 1)?.squeeze(1)?,
    })
}

fn direction(
    cell: Cell,
    [input, hidden, input_bias, hidden_bias]: [&Tensor; 4],
    x: &Tensor,
    reverse: bool,
) -> Result<Tensor, LearningError> {
    let (batch, steps, _) = x.dims3()?;
    let width = hidden.dim(1)?;
    let sums = x.broadcast_matmul(&input.t()?)?.broadcast_add(input_bias)?;
    let mut h = Tensor::zeros((batch, width), x.dtype(), x.device())?;
    let mut c = h.clone();
    let mut outs = Vec::with_capacity(steps);
    for turn in 0..steps {
        let step = if reverse { steps - 1 - turn } else { turn };
        let own = sums.narrow(1, step, 1)?.squeeze(1)?;
        let back = h.matmul(&hidden.t()?)?.broadcast_add(hidden_bias)?;
        let gate = |sums: &Tensor, index: usize| sums.narrow(1, index * width, width);
        match cell {
            Cell::Rnn => h = (own + back)?.tanh()?,
            Cell::Lstm => {
                let all = (own + back)?;
                let (i, f) = (sigmoid(&gate(&all, 0)?)?, sigmoid(&gate(&all, 1)?)?);
                let (g, o) = (gate(&all, 2)?.tanh()?, sigmoid(&gate(&all, 3)?)?);
                c = ((f * &c)? + (i * g)?)?;
                h = (o * c.tanh()?)?;
            }
            Cell::Gru => {
                let r = sigmoid(&(gate(&own, 0)? + gate(&back, 0)?)?)?;
                let z = sigmoid(&(gate(&own, 1)? + gate(&back, 1)?)?)?;
                let n = (gate(&own, 2)? + (r * gate(&back, 2)?)?)?.tanh()?;
                h = (&n + (z * (&h - &n)?)?)?;
            }
        }
        outs.push(h.unsqueeze(1)?);
    }
    if reverse {
        outs.reverse();
    }
    Ok(Tensor::cat(&outs, 1)?)
}

/// A stack of self-attention blocks.
pub(super) fn encoder(
    encoder: &TransformerEncoder,
    name: &str,
    weights: &Weights<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let mut x = x.clone();
    for layer in 0..encoder.layers {
        let at = |part: &str| format!("{name}.layers.{layer}.{part}");
        let norm = |part: &str, x: &Tensor| layer_norm(&at(part), encoder.epsilon, weights, x);
        let feed = |x: &Tensor| {
            let hidden = activation(encoder.activation, &linear(&at("linear1"), weights, x)?)?;
            linear(&at("linear2"), weights, &hidden)
        };
        let attend = |x: &Tensor| attention(encoder, &at("self_attn"), weights, x);
        if encoder.norm_first {
            x = (&x + attend(&norm("norm1", &x)?)?)?;
            x = (&x + feed(&norm("norm2", &x)?)?)?;
        } else {
            x = norm("norm1", &(&x + attend(&x)?)?)?;
            x = norm("norm2", &(&x + feed(&x)?)?)?;
        }
    }
    if encoder.norm_first {
        x = layer_norm(&format!("{name}.norm"), encoder.epsilon, weights, &x)?;
    }
    Ok(x)
}

fn attention(
    encoder: &TransformerEncoder,
    name: &str,
    weights: &Weights<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let (batch, steps, features) = x.dims3()?;
    let width = features / encoder.heads;
    let weight = weights.get(&format!("{name}.in_proj_weight"))?;
    let bias = weights.get(&format!("{name}.in_proj_bias"))?;
    let sides = x.broadcast_matmul(&weight.t()?)?.broadcast_add(bias)?;
    let side = |which: usize| {
        let own = sides.narrow(2, which * features, features)?;
        own.reshape((batch, steps, encoder.heads, width))?.transpose(1, 2)?.contiguous()
    };
    let (query, key, value) = (side(0)?, side(1)?, side(2)?);
    let mut scores = (query.matmul(&key.t()?)? / (width as f64).sqrt())?;
    if encoder.causal {
        let hide = |at: usize| if at % steps > at / steps { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..steps * steps).map(hide).collect();
        scores = scores.broadcast_add(&Tensor::from_vec(mask, (steps, steps), x.device())?)?;
    }
    let mixed = softmax(&scores, D::Minus1)?.matmul(&value)?;
    let mixed = mixed.transpose(1, 2)?.reshape((batch, steps, features))?;
    linear(&format!("{name}.out_proj"), weights, &mixed)
}
