//! A model ready to run: the layers of a spec, planned onto the kernels, with their parameters.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use tributary_core::model::{Layer, Loss, ModelSpec};
use tributary_core::params::ParameterSet;

use crate::LearningError;
use crate::ops;

/// One kernel call. Numbers of parameters are those of the schema's tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Conv2d { weight: usize, bias: usize, config: ops::Convolution },
    MaxPool2d(ops::Pool),
    Linear { weight: usize, bias: usize, relu: bool },
    Relu,
    Tanh,
    Flatten,
}

/// A model with its parameters as tensors.
pub struct Network {
    steps: Vec<Step>,
    loss: Loss,
    names: Vec<String>,
    parameters: Vec<Tensor>,
}

impl Network {
    /// A model to train: its forward pass records what the way back needs.
    ///
    /// # Errors
    /// When the parameters are not this model's.
    pub fn trainable(spec: &ModelSpec, values: &ParameterSet) -> Result<Self, LearningError> {
        Self::new(spec, values, |values, shape| {
            Ok(Var::from_slice(values, shape, &Device::Cpu)?.into_inner())
        })
    }

    /// A model to evaluate: its forward pass keeps nothing.
    ///
    /// # Errors
    /// When the parameters are not this model's.
    pub fn frozen(spec: &ModelSpec, values: &ParameterSet) -> Result<Self, LearningError> {
        Self::new(spec, values, |values, shape| {
            Ok(Tensor::from_slice(values, shape, &Device::Cpu)?)
        })
    }

    fn new(
        spec: &ModelSpec,
        values: &ParameterSet,
        tensor: impl Fn(&[f32], &[usize]) -> Result<Tensor, LearningError>,
    ) -> Result<Self, LearningError> {
        let (schema, given) = (spec.schema(), values.schema());
        if schema != given {
            let (expected, found) = (schema.digest().to_string(), given.digest().to_string());
            return Err(LearningError::Schema { expected, found });
        }
        let parameters = schema.tensors().iter().map(|place| {
            let slice = values.values().get(place.offset..place.offset + place.len);
            tensor(slice.unwrap_or_default(), &place.shape)
        });
        Ok(Self {
            steps: plan(spec.layers()),
            loss: spec.loss(),
            names: schema.tensors().iter().map(|place| place.name.clone()).collect(),
            parameters: parameters.collect::<Result<_, _>>()?,
        })
    }

    /// The logits of a batch: `[batch, …input]` to `[batch, outputs]`.
    ///
    /// # Errors
    /// On a batch of another shape.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, LearningError> {
        let mut values = input.clone();
        for step in &self.steps {
            values = self.step(step, &values)?;
        }
        Ok(values)
    }

    fn step(&self, step: &Step, input: &Tensor) -> candle_core::Result<Tensor> {
        match *step {
            Step::Conv2d { weight, bias, config } => {
                ops::conv2d(input, &self.parameters[weight], &self.parameters[bias], config)
            }
            Step::Linear { weight, bias, relu } => {
                ops::linear(input, &self.parameters[weight], &self.parameters[bias], relu)
            }
            Step::MaxPool2d(pool) => ops::max_pool2d(input, pool),
            Step::Relu => ops::relu(input),
            Step::Tanh => ops::tanh(input),
            Step::Flatten => input.flatten_from(1),
        }
    }

    /// The spec's loss of a batch, a scalar to go back from.
    ///
    /// # Errors
    /// On another number of labels than examples, and on a label that is no class.
    pub fn loss(&self, logits: &Tensor, labels: Arc<[u32]>) -> Result<Tensor, LearningError> {
        match self.loss {
            Loss::CrossEntropy => Ok(ops::cross_entropy(logits, labels)?),
        }
    }

    /// The gradients of a loss, in the schema's order.
    ///
    /// # Errors
    /// When any parameter has none: the model would silently not be trained.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>, LearningError> {
        let mut store: GradStore = loss.backward()?;
        let pairs = self.names.iter().zip(&self.parameters);
        let gradients = pairs.map(|(name, parameter)| {
            let gradient = store.remove(parameter).map(|gradient| gradient.contiguous());
            Ok(gradient.ok_or_else(|| LearningError::NoGradient(name.clone()))??)
        });
        gradients.collect()
    }

    /// The parameters' tensors, in the schema's order.
    #[must_use]
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// All values, flat, in the schema's order.
    ///
    /// # Errors
    /// Never in practice: the tensors are contiguous f32.
    pub fn values(&self) -> Result<Vec<f32>, LearningError> {
        let mut values = Vec::with_capacity(self.parameters.iter().map(Tensor::elem_count).sum());
        for parameter in &self.parameters {
            let (storage, layout) = parameter.storage_and_layout();
            values.extend_from_slice(ops::floats(&storage, layout)?);
        }
        Ok(values)
    }
}

/// Plans layers onto kernels: a rectifier, and pooling behind it, join the layer before them. The
/// values are the same; a pass over memory less each.
fn plan(layers: &[Layer]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::with_capacity(layers.len());
    let mut parameters = 0;
    let mut next_two = || {
        parameters += 2;
        (parameters - 2, parameters - 1)
    };
    for layer in layers {
        match (layer, steps.last_mut()) {
            (Layer::Relu, Some(Step::Linear { relu, .. })) => *relu = true,
            (Layer::Relu, Some(Step::Conv2d { config, .. })) if config.pool.is_none() => {
                config.relu = true;
            }
            (Layer::MaxPool2d(pool), Some(Step::Conv2d { config, .. }))
                if config.pool.is_none() =>
            {
                config.pool = Some(kernel_pool(pool));
            }
            (Layer::Relu, _) => steps.push(Step::Relu),
            (Layer::Tanh, _) => steps.push(Step::Tanh),
            (Layer::Flatten, _) => steps.push(Step::Flatten),
            (Layer::MaxPool2d(pool), _) => steps.push(Step::MaxPool2d(kernel_pool(pool))),
            (Layer::Linear { .. }, _) => {
                let (weight, bias) = next_two();
                steps.push(Step::Linear { weight, bias, relu: false });
            }
            (Layer::Conv2d(conv), _) => {
                let (weight, bias) = next_two();
                let (stride, padding) = (conv.stride, conv.padding);
                let config = ops::Convolution { stride, padding, relu: false, pool: None };
                steps.push(Step::Conv2d { weight, bias, config });
            }
        }
    }
    steps
}

fn kernel_pool(pool: &tributary_core::model::MaxPool2d) -> ops::Pool {
    ops::Pool { kernel: pool.kernel, stride: pool.stride }
}
