//! The same models by candle's tensors and autograd: for GPUs, and as a second opinion on the CPU.
//!
//! Candle's fused layer norm and softmax have no backward pass, and its max pooling has a wrong one, so
//! those are composed of operations whose gradients are right. Losses and statistics are those of the
//! CPU's engine: outputs come to the host, and their slopes go back.

mod bert;
mod layers;
mod pass;
mod sequence;

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{Device, Tensor, Var};
use tributary_core::metrics::Statistics;
use tributary_core::model::ModelSpec;
use tributary_core::params::Schema;
use tributary_data::{Batch, Inputs};

use crate::LearningError;
use crate::loss::Objective;
use crate::network::{Parameters, optimised};
use pass::{Mode, Observed, Pass, Seen};

/// A model on one device.
pub struct PortableNetwork {
    spec: ModelSpec,
    device: Device,
    objective: Objective,
    optimised: Vec<Range<usize>>,
    /// On the device since the first pass: they never change.
    frozen: Vec<Tensor>,
    gradients: Vec<f32>,
    slopes: Vec<f32>,
    seen: Vec<Seen>,
    observed: HashMap<String, Observed>,
}

impl PortableNetwork {
    /// A model on a device.
    #[must_use]
    pub fn new(spec: &ModelSpec, device: Device) -> Self {
        Self {
            spec: spec.clone(),
            device,
            objective: Objective::new(spec.loss().clone(), spec.output()),
            optimised: optimised(spec),
            frozen: Vec::new(),
            gradients: vec![0.0; spec.schema().len()],
            slopes: Vec::new(),
            seen: Vec::new(),
            observed: HashMap::new(),
        }
    }

    /// One step's loss; the gradients of all trained parameters are in [`Self::gradients`] afterwards.
    /// `seed` is where dropout draws from.
    ///
    /// # Errors
    /// On parameters or a batch of other sizes, on targets that are not the loss's, when a parameter
    /// gets no gradient, and when the device fails.
    pub fn learn(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
        seed: u64,
        statistics: Option<&mut Statistics>,
    ) -> Result<f64, LearningError> {
        let variables = self.variables(parameters)?;
        let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
        let pass = Pass::new(self.named(&tensors), batch, Mode::Train(seed));
        let out = self.forward(&pass, batch)?;
        let seen = pass.into_seen();
        let host = out.flatten_all()?.to_vec1::<f32>()?;
        let loss = self.objective.judge(&host, batch, Some(&mut self.slopes), statistics)?;
        let slopes = Tensor::from_slice(&self.slopes, out.shape(), &self.device)?;
        let store = (out * slopes)?.sum_all()?.backward()?;
        self.seen = seen;
        self.gradients.fill(0.0);
        for (tensor, variable) in self.spec.schema().tensors().iter().zip(&variables) {
            let own = tensor.offset..tensor.offset + tensor.len;
            if !self.optimised.iter().any(|range| range.contains(&tensor.offset)) {
                continue;
            }
            // Candle skips a missing gradient without a word; here it is an error.
            let gradient = store.get(variable.as_tensor());
            let gradient = gradient.ok_or_else(|| LearningError::NoTensor(tensor.name.clone()))?;
            self.gradients[own].copy_from_slice(&gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(loss)
    }

    /// Looks at a batch for the statistics that stay at this site; later scores use them.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub fn observe(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
    ) -> Result<(), LearningError> {
        let variables = self.variables(parameters)?;
        let tensors: Vec<Tensor> = variables.iter().map(Var::as_detached_tensor).collect();
        let pass = Pass::new(self.named(&tensors), batch, Mode::Observe);
        self.forward(&pass, batch)?;
        for seen in pass.into_seen() {
            self.observed.entry(seen.layer.clone()).or_default().add(&seen);
        }
        Ok(())
    }

    /// Scores a batch outside training.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub fn score(
        &mut self,
        parameters: Parameters<'_>,
        batch: &Batch,
        statistics: &mut Statistics,
    ) -> Result<f64, LearningError> {
        let variables = self.variables(parameters)?;
        let tensors: Vec<Tensor> = variables.iter().map(Var::as_detached_tensor).collect();
        let pass = Pass::new(self.named(&tensors), batch, Mode::Predict(&self.observed));
        let host = self.forward(&pass, batch)?.flatten_all()?.to_vec1::<f32>()?;
        self.objective.judge(&host, batch, None, Some(statistics))
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
        for seen in self.seen.drain(..) {
            for (name, values) in [("running_mean", &seen.mean), ("running_var", &seen.variance)] {
                let name = format!("{}.{name}", seen.layer);
                let tensors = self.spec.schema().tensors();
                let Some(tensor) = tensors.iter().find(|tensor| tensor.name == name) else {
                    continue;
                };
                let running = &mut trained[tensor.offset..tensor.offset + tensor.len];
                for (running, value) in running.iter_mut().zip(values) {
                    let old = f64::from(*running) * (1.0 - seen.momentum);
                    *running = (old + seen.momentum * f64::from(*value)) as f32;
                }
            }
        }
    }

    /// The trained parameters on the device; the frozen ones go there once.
    fn variables(&mut self, parameters: Parameters<'_>) -> Result<Vec<Var>, LearningError> {
        let (schema, frozen) = (self.spec.schema(), self.spec.frozen_schema());
        let expected = [schema.len(), frozen.map_or(0, |schema| schema.len())];
        let found = [parameters.trained.len(), parameters.frozen.len()];
        if expected != found {
            return Err(LearningError::Parameters { expected, found });
        }
        if self.frozen.is_empty()
            && let Some(schema) = frozen
        {
            self.frozen = upload(schema, parameters.frozen, &self.device)?;
        }
        let tensors = upload(schema, parameters.trained, &self.device)?;
        Ok(tensors.iter().map(Var::from_tensor).collect::<Result<_, _>>()?)
    }

    fn named<'a>(&'a self, trained: &'a [Tensor]) -> HashMap<&'a str, &'a Tensor> {
        let schema = self.spec.schema().tensors().iter();
        let mut named: HashMap<&str, &Tensor> =
            schema.map(|tensor| tensor.name.as_str()).zip(trained).collect();
        let frozen = self.spec.frozen_schema();
        let frozen = frozen.iter().flat_map(|schema| schema.tensors());
        named.extend(frozen.map(|tensor| tensor.name.as_str()).zip(&self.frozen));
        named
    }

    fn forward(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Tensor, LearningError> {
        let shape = [&[batch.size], self.spec.input()].concat();
        let expected = shape.iter().product::<usize>();
        let mut value = match &batch.inputs {
            Inputs::Floats(values) if values.len() == expected && !self.spec.takes_tokens() => {
                Tensor::from_slice(values, shape, &self.device)?
            }
            Inputs::Tokens(tokens) if tokens.len() == expected && self.spec.takes_tokens() => {
                Tensor::from_slice(tokens, shape, &self.device)?
            }
            Inputs::Floats(values) => {
                return Err(LearningError::Batch { expected, found: values.len() });
            }
            Inputs::Tokens(tokens) => {
                return Err(LearningError::Batch { expected, found: tokens.len() });
            }
        };
        for (index, layer) in self.spec.layers().iter().enumerate() {
            value = layers::forward(layer, &format!("layers.{index}"), pass, &value)?;
        }
        Ok(value)
    }
}

fn upload(schema: &Schema, values: &[f32], device: &Device) -> Result<Vec<Tensor>, LearningError> {
    let tensor = |tensor: &tributary_core::params::Tensor| {
        let own = &values[tensor.offset..tensor.offset + tensor.len];
        Tensor::from_slice(own, tensor.shape.as_slice(), device)
    };
    Ok(schema.tensors().iter().map(tensor).collect::<Result<_, _>>()?)
}
