//! What layers over steps make of their input.

use super::super::layer::{PositionalEncoding, Recurrent, Returns, TransformerEncoder};
use super::super::plan::{Init, Plan};
use super::{ACTIVATIONS_MAX, Mismatch, check_weight, product, steps};

/// The tensors have PyTorch's names, shapes and order: weight and bias of inputs and of the hidden
/// values, each layer, each direction.
pub(super) fn recurrence(
    recurrent: &Recurrent,
    input: &[usize],
    prefix: &str,
    plan: &mut Plan,
) -> Result<Vec<usize>, Mismatch> {
    let word = recurrent.cell.word();
    let [steps, mut features] = steps(word, input)?;
    let (hidden, rows) = (recurrent.hidden, recurrent.cell.gates() * recurrent.hidden);
    let directions: &[&str] = if recurrent.bidirectional { &["", "_reverse"] } else { &[""] };
    let init = Init::Uniform(1.0 / (hidden as f64).sqrt());
    for layer in 0..recurrent.layers {
        for direction in directions {
            for (kind, columns) in [("ih", features), ("hh", hidden)] {
                let weight = vec![rows, columns];
                check_weight(word, &weight)?;
                plan.tensor(prefix, &format!("weight_{kind}_l{layer}{direction}"), weight, init);
            }
            for kind in ["ih", "hh"] {
                let name = format!("bias_{kind}_l{layer}{direction}");
                plan.tensor(prefix, &name, vec![rows], init);
            }
        }
        features = hidden.saturating_mul(directions.len());
        // Gates and hidden values of every step stay until the way back.
        plan.holds(steps.saturating_mul(features).saturating_mul(recurrent.cell.gates() + 2));
    }
    Ok(match recurrent.returns {
        Returns::Sequence => vec![steps, features],
        Returns::LastStep => vec![features],
    })
}

pub(super) fn positions(
    encoding: PositionalEncoding,
    input: &[usize],
    prefix: &str,
    plan: &mut Plan,
) -> Result<Vec<usize>, Mismatch> {
    let [steps, features] = steps("positional_encoding", input)?;
    if let PositionalEncoding::Learned { length } = encoding {
        if length < steps {
            let needs = format!("a length of at least {steps} steps to positional_encoding");
            return Err(Mismatch::new(needs, length));
        }
        check_weight("positional_encoding", &[length, features])?;
        plan.tensor(prefix, "weight", vec![length, features], Init::Normal(0.02));
    }
    Ok(input.to_vec())
}

/// The tensors have the names, shapes and order of PyTorch's `TransformerEncoder`.
pub(super) fn encoder_stack(
    encoder: &TransformerEncoder,
    input: &[usize],
    prefix: &str,
    plan: &mut Plan,
) -> Result<Vec<usize>, Mismatch> {
    let word = "transformer_encoder";
    let [steps, features] = steps(word, input)?;
    if features % encoder.heads != 0 {
        let needs = format!("heads that divide {features} features to {word}");
        return Err(Mismatch::new(needs, encoder.heads));
    }
    check_attention(word, steps, encoder.heads)?;
    check_weight(word, &[3, features, features])?;
    check_weight(word, &[encoder.feed_forward, features])?;
    let xavier = Init::Uniform((6.0 / (4.0 * features as f64)).sqrt());
    let narrow = |fan_in: usize| Init::Uniform(1.0 / (fan_in as f64).sqrt());
    for layer in 0..encoder.layers {
        let at = |part: &str| format!("{prefix}.layers.{layer}.{part}");
        let attention = at("self_attn");
        plan.tensor(&attention, "in_proj_weight", vec![3 * features, features], xavier);
        plan.tensor(&attention, "in_proj_bias", vec![3 * features], Init::Zero);
        let out = at("self_attn.out_proj");
        plan.tensor(&out, "weight", vec![features, features], narrow(features));
        plan.tensor(&out, "bias", vec![features], Init::Zero);
        let sizes = [(encoder.feed_forward, features), (features, encoder.feed_forward)];
        for (name, (rows, columns)) in ["linear1", "linear2"].iter().zip(sizes) {
            plan.tensor(&at(name), "weight", vec![rows, columns], narrow(columns));
            plan.tensor(&at(name), "bias", vec![rows], narrow(columns));
        }
        plan.norm(&at("norm1"), features);
        plan.norm(&at("norm2"), features);
        hold_block(plan, steps, features, encoder.heads, encoder.feed_forward);
    }
    if encoder.norm_first {
        plan.norm(&format!("{prefix}.norm"), features);
    }
    Ok(input.to_vec())
}

/// A block of attention keeps its projections, its weights of attention, and both hidden parts.
pub(in crate::model) fn hold_block(
    plan: &mut Plan,
    steps: usize,
    features: usize,
    heads: usize,
    feed_forward: usize,
) {
    let wide = features.saturating_mul(8).saturating_add(feed_forward.saturating_mul(2));
    let attention = steps.saturating_mul(steps).saturating_mul(heads);
    plan.holds(steps.saturating_mul(wide).saturating_add(attention));
}

pub(in crate::model) fn check_attention(
    word: &str,
    steps: usize,
    heads: usize,
) -> Result<(), Mismatch> {
    let weights = product(&[steps, steps, heads]);
    if weights.is_none_or(|weights| weights > ACTIVATIONS_MAX) {
        let needs = format!("steps² × heads of at most {ACTIVATIONS_MAX} to {word}");
        return Err(Mismatch::new(needs, (steps, heads)));
    }
    Ok(())
}
