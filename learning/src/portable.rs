//! The same models by candle's tensors and autograd: for GPUs, and as a second opinion on the CPU.
//!
//! Candle's fused layer norm and softmax have no backward pass, and its max pooling has a wrong one, so
//! those are composed of operations whose gradients are right. Not here: batch normalisation, dropout,
//! padding, and pretrained models; [`PortableNetwork::new`] says so.

mod layers;
mod sequence;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::log_softmax;
use tributary_core::model::{Loss, ModelSpec};
use tributary_core::params::Schema;
use tributary_data::{Batch, Inputs, Targets};

use crate::LearningError;

/// A model on one device.
pub struct PortableNetwork {
    spec: ModelSpec,
    device: Device,
}

/// The parameters of one pass, by name.
struct Weights<'a> {
    schema: &'a Schema,
    variables: &'a [Var],
}

impl Weights<'_> {
    fn get(&self, name: &str) -> Result<&Tensor, LearningError> {
        let index = self.schema.tensors().iter().position(|tensor| tensor.name == name);
        let found = index.and_then(|index| self.variables.get(index));
        found.map(Var::as_tensor).ok_or_else(|| LearningError::NoTensor(name.to_owned()))
    }

    /// Weight and bias.
    fn pair(&self, prefix: &str) -> Result<[&Tensor; 2], LearningError> {
        Ok([self.get(&format!("{prefix}.weight"))?, self.get(&format!("{prefix}.bias"))?])
    }
}

impl PortableNetwork {
    /// A model on a device.
    ///
    /// # Errors
    /// When a layer or the loss is not one of the portable engine's.
    pub fn new(spec: &ModelSpec, device: Device) -> Result<Self, LearningError> {
        for layer in spec.layers() {
            layers::check(layer)?;
        }
        match spec.loss() {
            Loss::CrossEntropy { label_smoothing, class_weights }
                if *label_smoothing == 0.0 && class_weights.is_empty() => {}
            Loss::NextTokenCrossEntropy | Loss::Mse => {}
            other => return Err(LearningError::NotPortable(other.word().to_owned())),
        }
        Ok(Self { spec: spec.clone(), device })
    }

    /// The loss of a batch, and the gradients of all parameters, flat, in the schema's order.
    ///
    /// # Errors
    /// On parameters or a batch of other sizes, on padding, and when a parameter gets no gradient.
    pub fn learn(&self, values: &[f32], batch: &Batch) -> Result<(f64, Vec<f32>), LearningError> {
        let schema = self.spec.schema();
        if values.len() != schema.len() {
            let (expected, found) = ([schema.len(), 0], [values.len(), 0]);
            return Err(LearningError::Parameters { expected, found });
        }
        if !batch.lengths.is_empty() {
            return Err(LearningError::NotPortable("padding".to_owned()));
        }
        let variable = |tensor: &tributary_core::params::Tensor| {
            let own = &values[tensor.offset..tensor.offset + tensor.len];
            Var::from_slice(own, tensor.shape.as_slice(), &self.device)
        };
        let variables = schema.tensors().iter().map(variable).collect::<Result<Vec<_>, _>>()?;
        let weights = Weights { schema, variables: &variables };
        let mut value = self.input(batch)?;
        for (index, layer) in self.spec.layers().iter().enumerate() {
            value = layers::forward(layer, &format!("layers.{index}"), &weights, &value)?;
        }
        let loss = self.loss(&value, batch)?;
        let store = loss.backward()?;
        let mut gradients = Vec::with_capacity(values.len());
        for (tensor, variable) in schema.tensors().iter().zip(&variables) {
            // Candle skips a missing gradient without a word; here it is an error.
            let gradient = store.get(variable.as_tensor());
            let gradient = gradient.ok_or_else(|| LearningError::NoTensor(tensor.name.clone()))?;
            gradients.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    fn input(&self, batch: &Batch) -> Result<Tensor, LearningError> {
        let shape = [&[batch.size], self.spec.input()].concat();
        Ok(match &batch.inputs {
            Inputs::Floats(values) => Tensor::from_slice(values, shape, &self.device)?,
            Inputs::Tokens(tokens) => Tensor::from_slice(tokens, shape, &self.device)?,
        })
    }

    fn loss(&self, out: &Tensor, batch: &Batch) -> Result<Tensor, LearningError> {
        let labels = match &batch.targets {
            Targets::Classes(labels) | Targets::Tokens(labels) => labels,
            Targets::Values(targets) => {
                let targets = Tensor::from_slice(targets, out.shape(), &self.device)?;
                return Ok((out - targets)?.sqr()?.mean_all()?);
            }
        };
        let width = out.dim(D::Minus1)?;
        if let Some(&found) = labels.iter().find(|label| **label as usize >= width) {
            return Err(LearningError::Label { classes: width, found });
        }
        let rows = out.reshape(((), width))?;
        let index = Tensor::from_slice(labels, (labels.len(), 1), &self.device)?;
        let picked = log_softmax(&rows, 1)?.gather(&index, 1)?;
        Ok(picked.to_dtype(DType::F32)?.mean_all()?.neg()?)
    }
}
