//! A model at work on the CPU: the layers of a spec as kernels, with its loss.

mod plan;
mod pretrained;

use std::ops::Range;

use tributary_core::metrics::Statistics;
use tributary_core::model::{Layer, ModelSpec};
use tributary_data::{Batch, Inputs};

use crate::LearningError;
use crate::loss::Objective;
use crate::ops::{Chain, Cx};

/// The parameters of a model, flat, in its schemas' order.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    /// Those that are trained.
    pub trained: &'a [f32],
    /// Those that are not; empty for most models.
    pub frozen: &'a [f32],
}

/// A model at work. It keeps its buffers, so use one for many batches.
pub struct Network {
    chain: Chain,
    objective: Objective,
    input: Vec<usize>,
    tokens: bool,
    output_len: usize,
    sizes: [usize; 2],
    optimised: Vec<Range<usize>>,
    gradients: Vec<f32>,
    slopes: Vec<f32>,
}

impl Network {
    /// A model's kernels.
    ///
    /// # Errors
    /// When the spec's layers do not fit each other, which its reading excludes.
    pub fn new(spec: &ModelSpec) -> Result<Self, LearningError> {
        let frozen = spec.frozen_schema().map_or(0, |schema| schema.len());
        Ok(Self {
            chain: plan::chain(spec)?,
            objective: Objective::new(spec.loss().clone(), spec.output()),
            input: spec.input().to_vec(),
            tokens: spec.takes_tokens(),
            output_len: spec.output().iter().product(),
            sizes: [spec.schema().len(), frozen],
            optimised: optimised(spec),
            gradients: vec![0.0; spec.schema().len()],
            slopes: Vec::new(),
        })
    }

    /// What the model gives for a batch, `[batch, …output]`, outside training.
    ///
    /// # Errors
    /// On a batch or parameters of other sizes.
    pub fn predict<'a>(
        &'a mut self,
        parameters: Parameters<'a>,
        batch: &'a Batch,
    ) -> Result<&'a [f32], LearningError> {
        let (cx, input) = self.context(parameters, batch, None)?;
        Ok(self.chain.forward(&cx, input))
    }

    /// Looks at a batch for the statistics that stay at this site ([`ModelSpec::observes`]); later
    /// predictions use them.
    ///
    /// # Errors
    /// On a batch or parameters of other sizes.
    pub fn observe(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
    ) -> Result<(), LearningError> {
        let (mut cx, input) = self.context(parameters, batch, None)?;
        cx.observing = true;
        self.chain.forward(&cx, input);
        Ok(())
    }

    /// Scores a batch outside training.
    ///
    /// # Errors
    /// On a batch or parameters of other sizes, and on targets that are not the loss's.
    pub fn score(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
        statistics: &mut Statistics,
    ) -> Result<f64, LearningError> {
        let (cx, input) = self.context(parameters, batch, None)?;
        let out = self.chain.forward(&cx, input);
        self.objective.judge(out, batch, None, Some(statistics))
    }

    /// One step's loss; the gradients of all trained parameters are in [`Self::gradients`] afterwards.
    /// `seed` is where dropout draws from.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn learn(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
        seed: u64,
        statistics: Option<&mut Statistics>,
    ) -> Result<f64, LearningError> {
        let (cx, input) = self.context(parameters, batch, Some(seed))?;
        let out = self.chain.forward(&cx, input);
        let loss = self.objective.judge(out, batch, Some(&mut self.slopes), statistics)?;
        self.chain.backward(&cx, input, &self.slopes, false, &mut self.gradients);
        Ok(loss)
    }

    /// The last step's gradients, flat, in the schema's order.
    #[must_use]
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// The parameters that gradients change: all but running statistics.
    #[must_use]
    pub fn optimised(&self) -> &[Range<usize>] {
        &self.optimised
    }

    /// Brings running statistics up to the last step of training.
    pub fn settle(&mut self, trained: &mut [f32]) {
        self.chain.settle(trained);
    }

    fn context<'a>(
        &self,
        parameters: Parameters<'a>,
        batch: &'a Batch,
        seed: Option<u64>,
    ) -> Result<(Cx<'a>, &'a [f32]), LearningError> {
        let found = [parameters.trained.len(), parameters.frozen.len()];
        if found != self.sizes {
            return Err(LearningError::Parameters { expected: self.sizes, found });
        }
        let (floats, tokens): (&[f32], &[u32]) = match &batch.inputs {
            Inputs::Floats(values) => (values, &[]),
            Inputs::Tokens(tokens) => (&[], tokens),
        };
        let given = if self.tokens { tokens.len() } else { floats.len() };
        let expected = batch.size * self.input.iter().product::<usize>();
        let lengths = batch.lengths.len();
        if given != expected || batch.size == 0 || !(lengths == 0 || lengths == batch.size) {
            return Err(LearningError::Batch { expected, found: given });
        }
        let cx = Cx {
            trained: parameters.trained,
            frozen: parameters.frozen,
            batch: batch.size,
            tokens,
            lengths: &batch.lengths,
            training: seed.is_some(),
            observing: false,
            seed: seed.unwrap_or(0),
        };
        Ok((cx, floats))
    }

    /// Values that the model gives for one example.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output_len
    }
}

/// The ranges of the schema that are no running statistics, joined where they touch.
pub(crate) fn optimised(spec: &ModelSpec) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let normalises = has_batch_norm(spec.layers());
    for tensor in spec.schema().tensors() {
        let running = [".running_mean", ".running_var"];
        if normalises && running.iter().any(|end| tensor.name.ends_with(end)) {
            continue;
        }
        let own = tensor.offset..tensor.offset + tensor.len;
        match ranges.last_mut() {
            Some(last) if last.end == own.start => last.end = own.end,
            _ => ranges.push(own),
        }
    }
    ranges
}

fn has_batch_norm(layers: &[Layer]) -> bool {
    layers.iter().any(|layer| match layer {
        Layer::BatchNorm(_) => true,
        Layer::Residual { layers, shortcut } => has_batch_norm(layers) || has_batch_norm(shortcut),
        _ => false,
    })
}
