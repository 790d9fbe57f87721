//! BERT and DistilBERT, with adapters where the spec has them.

use candle_core::Tensor;
use tributary_core::model::{Activation, BERT_EPSILON, Bert, BertFamily};

use super::layers::{activation, layer_norm, linear};
use super::pass::Pass;
use super::sequence::attend;
use crate::LearningError;

/// `[batch, steps]` of tokens to `[batch, outputs]`.
pub(super) fn forward(bert: &Bert, pass: &Pass<'_>, x: &Tensor) -> Result<Tensor, LearningError> {
    let (batch, steps) = x.dims2()?;
    let at = |name: &str| format!("{}.{name}", bert.embeddings());
    let table = |name: &str| pass.get(&at(&format!("{name}.weight")));
    let words = table("word_embeddings")?.index_select(&x.flatten_all()?, 0)?;
    let words = words.reshape((batch, steps, bert.dimension))?;
    let mut x = words.broadcast_add(&table("position_embeddings")?.narrow(0, 0, steps)?)?;
    if bert.types > 0 {
        x = x.broadcast_add(&table("token_type_embeddings")?.narrow(0, 0, 1)?)?;
    }
    x = layer_norm(&at("LayerNorm"), BERT_EPSILON, pass, &x)?;
    x = pass.dropped(bert.dropout, &x)?;
    for index in 0..bert.layers {
        x = block(bert, index, pass, &x)?;
    }
    let first = x.narrow(1, 0, 1)?.squeeze(1)?;
    let pooled = linear(bert.pooler(), pass, &first)?;
    let pooled = match bert.family {
        BertFamily::DistilBert => activation(Activation::Relu, &pooled)?,
        BertFamily::Bert => activation(Activation::Tanh, &pooled)?,
    };
    linear("classifier", pass, &pass.dropped(bert.classifier_dropout, &pooled)?)
}

fn block(bert: &Bert, index: usize, pass: &Pass<'_>, x: &Tensor) -> Result<Tensor, LearningError> {
    let names = bert.block(index);
    let project = |which: usize| {
        let prefix = &names.projections[which];
        let plain = linear(prefix, pass, x)?;
        let Some(lora) = bert.lora.filter(|_| which != 1) else { return Ok(plain) };
        let a = pass.get(&format!("{prefix}.lora_a"))?;
        let b = pass.get(&format!("{prefix}.lora_b"))?;
        let low = x.broadcast_matmul(&a.t()?)?.broadcast_matmul(&b.t()?)?;
        Ok::<_, LearningError>((plain + (low * (lora.alpha / lora.rank as f64))?)?)
    };
    let sides = [project(0)?, project(1)?, project(2)?];
    let mixed = attend(sides, bert.heads, false, bert.dropout, pass)?;
    let attended = linear(&names.out, pass, &mixed)?;
    let behind = if bert.family == BertFamily::Bert { bert.dropout } else { 0.0 };
    let attended = (pass.dropped(behind, &attended)? + x)?;
    let x = layer_norm(&names.attention_norm, BERT_EPSILON, pass, &attended)?;
    let hidden = linear(&names.feed_forward[0], pass, &x)?.gelu_erf()?;
    let hidden = pass.dropped(0.0, &hidden)?;
    let fed = linear(&names.feed_forward[1], pass, &hidden)?;
    let fed = (pass.dropped(bert.dropout, &fed)? + &x)?;
    layer_norm(&names.out_norm, BERT_EPSILON, pass, &fed)
}
