//! BERT and DistilBERT classifiers (Devlin et al. 2019; Sanh et al. 2019) with the tensor names of
//! Hugging Face's checkpoints, trained whole or through low-rank adapters (Hu et al. 2022).

use crate::digest::Digest;
use crate::document::Section;

use super::SIZE_MAX;
use super::plan::{Init, Plan};
use super::reading::{DROPOUT_MAX, STACK_MAX, size};
use super::shape::{Mismatch, check_attention, check_weight, hold_block};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BertFamily {
    /// Six blocks, no token types; a rectified layer before the classifier.
    DistilBert,
    /// Twelve blocks, token types; a tanh pooler before the classifier.
    Bert,
}

impl BertFamily {
    /// The preset's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            BertFamily::DistilBert => "distilbert",
            BertFamily::Bert => "bert",
        }
    }

    /// Hugging Face's keys of the sizes, with the base model's values: values of a step, heads,
    /// blocks, hidden values, places, tokens.
    #[must_use]
    pub fn sizes(self) -> [(&'static str, usize); 6] {
        match self {
            BertFamily::DistilBert => [
                ("dim", 768),
                ("n_heads", 12),
                ("n_layers", 6),
                ("hidden_dim", 3072),
                ("max_position_embeddings", 512),
                ("vocab_size", 30_522),
            ],
            BertFamily::Bert => [
                ("hidden_size", 768),
                ("num_attention_heads", 12),
                ("num_hidden_layers", 12),
                ("intermediate_size", 3072),
                ("max_position_embeddings", 512),
                ("vocab_size", 30_522),
            ],
        }
    }

    /// The key of the number of token types with the base model's, where the family has such.
    #[must_use]
    pub fn types(self) -> Option<(&'static str, usize)> {
        (self == BertFamily::Bert).then_some(("type_vocab_size", 2))
    }
}

/// Low-rank adapters of the query and value projections: W x + (alpha ⁄ rank) · B A x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lora {
    /// The digest of the `model.safetensors` that the frozen body comes from.
    pub base: Digest,
    /// Rows of A.
    pub rank: usize,
    /// Scale of the adapters, over the rank.
    pub alpha: f64,
}

/// A whole classifier; the sizes are those of Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bert {
    /// Which of the two.
    pub family: BertFamily,
    /// Rows of the table of tokens.
    pub vocabulary: usize,
    /// Values of a step.
    pub dimension: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Hidden values of the feed-forward part.
    pub feed_forward: usize,
    /// Rows of the table of places.
    pub positions: usize,
    /// Rows of the table of token types; every token is of type 0. 0 for DistilBERT.
    pub types: usize,
    /// Dropout of embeddings, attention and feed-forward parts.
    pub dropout: f64,
    /// Dropout before the classifier.
    pub classifier_dropout: f64,
    /// Outputs.
    pub outputs: usize,
    /// Where given, the body is frozen and only adapters and classifier are trained.
    pub lora: Option<Lora>,
}

/// Added to variances, as in Hugging Face's configurations.
pub const BERT_EPSILON: f64 = 1e-12;

/// Where one block's tensors stand, without `.weight` and `.bias`.
#[derive(Debug, Clone)]
pub struct BertBlock {
    /// Projections of query, key and value.
    pub projections: [String; 3],
    /// The projection behind attention.
    pub out: String,
    /// Normalisation behind attention.
    pub attention_norm: String,
    /// The feed-forward part.
    pub feed_forward: [String; 2],
    /// Normalisation behind the feed-forward part.
    pub out_norm: String,
}

impl Bert {
    /// Reads the sizes from `config` (Hugging Face's keys; the base model's values where a key is
    /// missing) and `lora`.
    pub(super) fn read(model: &mut Section, family: BertFamily, outputs: usize) -> Option<Bert> {
        let mut config = model.section("config");
        let mut sizes = [None; 6];
        for (index, (size_of, (key, default))) in sizes.iter_mut().zip(family.sizes()).enumerate() {
            let max = if index == 2 { STACK_MAX } else { SIZE_MAX };
            *size_of = size(&mut config, key, 1..=max, Some(default));
        }
        let types = match family.types() {
            Some((key, default)) => size(&mut config, key, 1..=SIZE_MAX, Some(default)),
            None => Some(0),
        };
        let (dropout_key, last_key) = match family {
            BertFamily::DistilBert => ("dropout", "seq_classif_dropout"),
            BertFamily::Bert => ("hidden_dropout_prob", "classifier_dropout"),
        };
        let dropout = config.number(dropout_key, 0.0..=DROPOUT_MAX, Some(0.1));
        let last = if family == BertFamily::DistilBert { 0.2 } else { dropout };
        let classifier_dropout = config.number(last_key, 0.0..=DROPOUT_MAX, Some(last));
        config.finish();
        let lora = match model.optional_section("lora") {
            None => None,
            Some(mut section) => {
                let base = section.parsed("base");
                let rank = size(&mut section, "rank", 1..=SIZE_MAX, Some(8));
                let alpha = section.number("alpha", 0.0..=1e6, Some(16.0));
                section.finish();
                Some(Lora { base: base?, rank: rank?, alpha })
            }
        };
        let [dimension, heads, layers, feed_forward, positions, vocabulary] = sizes;
        Some(Bert {
            family,
            vocabulary: vocabulary?,
            dimension: dimension?,
            heads: heads?,
            layers: layers?,
            feed_forward: feed_forward?,
            positions: positions?,
            types: types?,
            dropout,
            classifier_dropout,
            outputs,
            lora,
        })
    }

    /// The sizes under Hugging Face's keys.
    #[must_use]
    pub fn config(&self) -> Vec<(&'static str, usize)> {
        let own = [
            self.dimension,
            self.heads,
            self.layers,
            self.feed_forward,
            self.positions,
            self.vocabulary,
        ];
        let sizes = self.family.sizes().into_iter().zip(own).map(|((key, _), size)| (key, size));
        sizes.chain(self.family.types().map(|(key, _)| (key, self.types))).collect()
    }

    /// The prefix of the embeddings' tensors.
    #[must_use]
    pub fn embeddings(&self) -> &'static str {
        match self.family {
            BertFamily::DistilBert => "distilbert.embeddings",
            BertFamily::Bert => "bert.embeddings",
        }
    }

    /// The prefixes of a block's tensors.
    #[must_use]
    pub fn block(&self, index: usize) -> BertBlock {
        let (at, [query, key, value, out, attention_norm, first, second, out_norm]) =
            match self.family {
                BertFamily::DistilBert => (
                    format!("distilbert.transformer.layer.{index}"),
                    [
                        "attention.q_lin",
                        "attention.k_lin",
                        "attention.v_lin",
                        "attention.out_lin",
                        "sa_layer_norm",
                        "ffn.lin1",
                        "ffn.lin2",
                        "output_layer_norm",
                    ],
                ),
                BertFamily::Bert => (
                    format!("bert.encoder.layer.{index}"),
                    [
                        "attention.self.query",
                        "attention.self.key",
                        "attention.self.value",
                        "attention.output.dense",
                        "attention.output.LayerNorm",
                        "intermediate.dense",
                        "output.dense",
                        "output.LayerNorm",
                    ],
                ),
            };
        let name = |part: &str| format!("{at}.{part}");
        BertBlock {
            projections: [name(query), name(key), name(value)],
            out: name(out),
            attention_norm: name(attention_norm),
            feed_forward: [name(first), name(second)],
            out_norm: name(out_norm),
        }
    }

    /// The prefix of the layer between body and classifier.
    #[must_use]
    pub fn pooler(&self) -> &'static str {
        match self.family {
            BertFamily::DistilBert => "pre_classifier",
            BertFamily::Bert => "bert.pooler.dense",
        }
    }

    /// `[steps]` of tokens to `[outputs]`, with all tensors in Hugging Face's order.
    pub(super) fn infer(&self, input: &[usize], plan: &mut Plan) -> Result<Vec<usize>, Mismatch> {
        let word = self.family.word();
        let (steps, dimension) = (input.first().copied().unwrap_or(0), self.dimension);
        if steps > self.positions {
            let needs = format!("an input of at most {} tokens to {word}", self.positions);
            return Err(Mismatch::new(needs, steps));
        }
        if dimension % self.heads != 0 {
            let needs = format!("a number of heads that divides {dimension} to {word}");
            return Err(Mismatch::new(needs, self.heads));
        }
        check_attention(word, steps, self.heads)?;
        for weight in [
            [self.vocabulary, dimension],
            [self.feed_forward, dimension],
            [dimension, dimension],
            [self.positions, dimension],
        ] {
            check_weight(word, &weight)?;
        }
        self.plan_body(plan);
        for _ in 0..self.layers {
            hold_block(plan, steps, dimension, self.heads, self.feed_forward);
        }
        // Pooler and classifier are trained with adapters too: a base model has none of its own.
        for (prefix, rows) in [(self.pooler(), dimension), ("classifier", self.outputs)] {
            plan.tensor(prefix, "weight", vec![rows, dimension], Init::Normal(0.02));
            plan.tensor(prefix, "bias", vec![rows], Init::Zero);
        }
        Ok(vec![self.outputs])
    }

    fn plan_body(&self, plan: &mut Plan) {
        let (frozen, dimension) = (self.lora.is_some(), self.dimension);
        let linear = |plan: &mut Plan, prefix: &str, rows: usize, columns: usize| {
            plan.tensor_of(frozen, prefix, "weight", vec![rows, columns], Init::Normal(0.02));
            plan.tensor_of(frozen, prefix, "bias", vec![rows], Init::Zero);
        };
        let norm = |plan: &mut Plan, prefix: &str| {
            plan.tensor_of(frozen, prefix, "weight", vec![dimension], Init::One);
            plan.tensor_of(frozen, prefix, "bias", vec![dimension], Init::Zero);
        };
        let embeddings = self.embeddings();
        let tables = [
            ("word_embeddings", self.vocabulary),
            ("position_embeddings", self.positions),
            ("token_type_embeddings", self.types),
        ];
        for (name, rows) in tables.into_iter().filter(|(_, rows)| *rows > 0) {
            let prefix = format!("{embeddings}.{name}");
            plan.tensor_of(frozen, &prefix, "weight", vec![rows, dimension], Init::Normal(0.02));
        }
        norm(plan, &format!("{embeddings}.LayerNorm"));
        for index in 0..self.layers {
            let block = self.block(index);
            for (projection, prefix) in block.projections.iter().enumerate() {
                linear(plan, prefix, dimension, dimension);
                if let (Some(lora), true) = (self.lora, projection != 1) {
                    let init = Init::kaiming(dimension);
                    plan.tensor(prefix, "lora_a", vec![lora.rank, dimension], init);
                    plan.tensor(prefix, "lora_b", vec![dimension, lora.rank], Init::Zero);
                }
            }
            linear(plan, &block.out, dimension, dimension);
            norm(plan, &block.attention_norm);
            linear(plan, &block.feed_forward[0], self.feed_forward, dimension);
            linear(plan, &block.feed_forward[1], dimension, self.feed_forward);
            norm(plan, &block.out_norm);
        }
    }
}
