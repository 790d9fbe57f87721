//! BERT and DistilBERT from the same kernels as every other encoder.

use tributary_core::model::{Activation, BERT_EPSILON, Bert, BertFamily};

use crate::LearningError;
use crate::ops::{
    Adapter, Attention, Block, BlockParts, Chain, Embedding, Linear, LinearActivation, Positions,
    Projections, StepPool, StepPoolKind,
};

use super::plan::Planner;

/// The kernels of a pretrained classifier over so many steps.
pub(super) fn plan(
    planner: &mut Planner,
    bert: &Bert,
    steps: usize,
    chain: &mut Chain,
) -> Result<(), LearningError> {
    let (dimension, embeddings) = (bert.dimension, bert.embeddings());
    let table = |name: &str| format!("{embeddings}.{name}.weight");
    chain.push(Embedding::new(planner.place(&table("word_embeddings"))?, dimension));
    let positions = planner.place(&table("position_embeddings"))?;
    chain.push(Positions::learned(positions, steps, dimension));
    if bert.types > 0 {
        let types = planner.place(&table("token_type_embeddings"))?;
        chain.push(Positions::constant(types, steps, dimension));
    }
    chain.push(planner.norm(&format!("{embeddings}.LayerNorm"), BERT_EPSILON)?);
    chain.push(planner.dropout(bert.dropout));
    for index in 0..bert.layers {
        chain.push(block(planner, bert, index, steps)?);
    }
    chain.push(StepPool::new(StepPoolKind::First, steps, dimension));
    let function = match bert.family {
        BertFamily::DistilBert => Activation::Relu,
        BertFamily::Bert => Activation::Tanh,
    };
    let pooler = planner.linear(bert.pooler())?;
    chain.push(pooler.activated(LinearActivation::Of(function)));
    chain.push(planner.dropout(bert.classifier_dropout));
    chain.push(planner.linear("classifier")?);
    Ok(())
}

fn block(
    planner: &mut Planner,
    bert: &Bert,
    index: usize,
    steps: usize,
) -> Result<Block, LearningError> {
    let names = bert.block(index);
    let projection = |which: usize| -> Result<Linear, LearningError> {
        let prefix = &names.projections[which];
        let linear = planner.linear(prefix)?;
        let Some(lora) = bert.lora.filter(|_| which != 1) else { return Ok(linear) };
        let adapter = Adapter {
            a: planner.place(&format!("{prefix}.lora_a"))?,
            b: planner.place(&format!("{prefix}.lora_b"))?,
            scale: (lora.alpha / lora.rank as f64) as f32,
        };
        Ok(linear.adapted(Some(adapter)))
    };
    let projections =
        Projections::Apart(Box::new([projection(0)?, projection(1)?, projection(2)?]));
    let gelu = LinearActivation::Of(Activation::Gelu);
    let wide = planner.linear(&names.feed_forward[0])?.activated(gelu);
    let narrow = planner.linear(&names.feed_forward[1])?;
    let out = planner.linear(&names.out)?;
    let norms = [
        planner.norm(&names.attention_norm, BERT_EPSILON)?,
        planner.norm(&names.out_norm, BERT_EPSILON)?,
    ];
    // Hugging Face drops in attention, behind it (BERT) and behind the feed-forward part.
    let behind = if bert.family == BertFamily::Bert { bert.dropout } else { 0.0 };
    let mask = planner.mask(bert.dropout);
    let sizes = [steps, bert.dimension];
    Ok(Block::new(BlockParts {
        attention: Attention::new(sizes, bert.heads, false, mask, projections, out),
        norms,
        feed_forward: [wide, narrow],
        dropouts: [planner.dropout(behind), planner.dropout(0.0), planner.dropout(bert.dropout)],
        norm_first: false,
    }))
}
