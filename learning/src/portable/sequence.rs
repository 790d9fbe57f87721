//! Layers over steps.

use candle_core::{D, Tensor};
use candle_nn::ops::{sigmoid, softmax};
use tributary_core::model::{Activation, Cell, Recurrent, Returns, TransformerEncoder};

use super::layers::{activation, layer_norm, linear};
use super::pass::Pass;
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
    pass: &Pass<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let ways: &[&str] = if stack.bidirectional { &["", "_reverse"] } else { &[""] };
    let mut value = x.clone();
    for layer in 0..stack.layers {
        let mut outs = Vec::with_capacity(ways.len());
        for way in ways {
            let place = |kind: &str| pass.get(&format!("{name}.{kind}_l{layer}{way}"));
            let tensors =
                [place("weight_ih")?, place("weight_hh")?, place("bias_ih")?, place("bias_hh")?];
            outs.push(direction(stack.cell, tensors, &value, !way.is_empty(), pass)?);
        }
        value = Tensor::cat(&outs, 2)?;
        if stack.dropout > 0.0 && layer + 1 < stack.layers {
            value = pass.dropped(stack.dropout, &value)?;
        }
    }
    match stack.returns {
        Returns::Sequence => Ok(value),
        Returns::LastStep => last(pass, &value),
    }
}

fn direction(
    cell: Cell,
    [input, hidden, input_bias, hidden_bias]: [&Tensor; 4],
    x: &Tensor,
    reverse: bool,
    pass: &Pass<'_>,
) -> Result<Tensor, LearningError> {
    let (batch, steps, _) = x.dims3()?;
    let width = hidden.dim(1)?;
    // Padding leaves no trace: values and cells are 0 there.
    let real = |step: usize, length: usize| if step < length { 1.0 } else { 0.0 };
    let real = if pass.padded() { Some(pass.by_step(steps, x, real)?) } else { None };
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
            Cell::Rnn => h = activation(Activation::Tanh, &(own + back)?)?,
            Cell::ReluRnn => h = activation(Activation::Relu, &(own + back)?)?,
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
        if let Some(real) = &real {
            let real = real.narrow(1, step, 1)?;
            (h, c) = (h.broadcast_mul(&real)?, c.broadcast_mul(&real)?);
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
    pass: &Pass<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let mut x = x.clone();
    for layer in 0..encoder.layers {
        let at = |part: &str| format!("{name}.layers.{layer}.{part}");
        let norm = |part: &str, x: &Tensor| layer_norm(&at(part), encoder.epsilon, pass, x);
        let feed = |x: &Tensor| {
            let hidden = activation(encoder.activation, &linear(&at("linear1"), pass, x)?)?;
            let hidden = pass.dropped(encoder.dropout, &hidden)?;
            pass.dropped(encoder.dropout, &linear(&at("linear2"), pass, &hidden)?)
        };
        let attend = |x: &Tensor| {
            let attended = attention(encoder, &at("self_attn"), pass, x)?;
            pass.dropped(encoder.dropout, &attended)
        };
        if encoder.norm_first {
            x = (&x + attend(&norm("norm1", &x)?)?)?;
            x = (&x + feed(&norm("norm2", &x)?)?)?;
        } else {
            x = norm("norm1", &(&x + attend(&x)?)?)?;
            x = norm("norm2", &(&x + feed(&x)?)?)?;
        }
    }
    if encoder.norm_first {
        x = layer_norm(&format!("{name}.norm"), encoder.epsilon, pass, &x)?;
    }
    Ok(x)
}

fn attention(
    encoder: &TransformerEncoder,
    name: &str,
    pass: &Pass<'_>,
    x: &Tensor,
) -> Result<Tensor, LearningError> {
    let features = x.dim(2)?;
    let weight = pass.get(&format!("{name}.in_proj_weight"))?;
    let bias = pass.get(&format!("{name}.in_proj_bias"))?;
    let sides = x.broadcast_matmul(&weight.t()?)?.broadcast_add(bias)?;
    let side = |which: usize| sides.narrow(2, which * features, features);
    let sides = [side(0)?, side(1)?, side(2)?];
    let mixed = attend(sides, encoder.heads, encoder.causal, encoder.dropout, pass)?;
    linear(&format!("{name}.out_proj"), pass, &mixed)
}

/// softmax(Q Kᵀ ⁄ √d) V of queries, keys and values `[batch, steps, features]`, head by head.
pub(super) fn attend(
    sides: [Tensor; 3],
    heads: usize,
    causal: bool,
    dropout: f64,
    pass: &Pass<'_>,
) -> Result<Tensor, LearningError> {
    let (batch, steps, features) = sides[0].dims3()?;
    let width = features / heads;
    let side =
        |side: &Tensor| side.reshape((batch, steps, heads, width))?.transpose(1, 2)?.contiguous();
    let (query, key, value) = (side(&sides[0])?, side(&sides[1])?, side(&sides[2])?);
    let mut scores = (query.matmul(&key.t()?)? / (width as f64).sqrt())?;
    let shown = |shown: bool| if shown { 0.0 } else { f32::NEG_INFINITY };
    if causal {
        let mask = (0..steps * steps).map(|at| shown(at % steps <= at / steps));
        let mask = Tensor::from_iter(mask, scores.device())?.reshape((steps, steps))?;
        scores = scores.broadcast_add(&mask)?;
    }
    if pass.padded() {
        let mask = pass.by_step(steps, &scores, |step, length| shown(step < length))?;
        scores = scores.broadcast_add(&mask.reshape((batch, 1, 1, steps))?)?;
    }
    let shares = pass.dropped(dropout, &softmax(&scores, D::Minus1)?)?;
    Ok(shares.matmul(&value)?.transpose(1, 2)?.reshape((batch, steps, features))?)
}

/// The mean over the steps that are no padding.
pub(super) fn mean(pass: &Pass<'_>, x: &Tensor) -> Result<Tensor, LearningError> {
    let share = |step: usize, length: usize| if step < length { 1.0 / length as f32 } else { 0.0 };
    weighted(pass, x, share)
}

/// The last step that is no padding.
pub(super) fn last(pass: &Pass<'_>, x: &Tensor) -> Result<Tensor, LearningError> {
    weighted(pass, x, |step, length| if step + 1 == length { 1.0 } else { 0.0 })
}

fn weighted(
    pass: &Pass<'_>,
    x: &Tensor,
    share: impl Fn(usize, usize) -> f32,
) -> Result<Tensor, LearningError> {
    let shares = pass.by_step(x.dim(1)?, x, share)?.unsqueeze(2)?;
    Ok(x.broadcast_mul(&shares)?.sum(1)?)
}
