//! From layers to kernels: where each tensor stands, where channels lie, and what can be joined.

use std::collections::BTreeMap;

use tributary_core::model::{
    Activation as Function, Convolution, Layer, ModelSpec, PositionalEncoding, Recurrent as Stack,
    Returns, TransformerEncoder,
};

use crate::LearningError;
use crate::ops::{
    Activation, Attention, BatchNorm, Block, BlockParts, Chain, Conv, Dropout, Embedding, Fused,
    Geometry, GroupNorm, LayerNorm, Linear, LinearActivation, Mask, Place, Pool, PoolKind,
    Positions, Projections, Recurrent, Relayout, Residual, StepPool, StepPoolKind, Weights, Window,
};

use super::pretrained;

/// The kernels of a spec's layers.
pub(super) fn chain(spec: &ModelSpec) -> Result<Chain, LearningError> {
    let mut planner = Planner { places: places(spec), streams: 0 };
    let mut flow = Flow { shape: spec.input().to_vec(), channels_last: false };
    let mut chain = Chain::default();
    planner.layers(spec.layers(), "layers", &mut flow, &mut chain)?;
    flow.channels(false, &mut chain);
    Ok(chain)
}

fn places(spec: &ModelSpec) -> BTreeMap<String, Place> {
    let schemas = [(Some(spec.schema()), false), (spec.frozen_schema(), true)];
    let lists = schemas.into_iter().filter_map(|(schema, frozen)| Some((schema?, frozen)));
    lists
        .flat_map(|(schema, frozen)| {
            schema.tensors().iter().map(move |tensor| {
                let place = Place { offset: tensor.offset, len: tensor.len, frozen };
                (tensor.name.clone(), place)
            })
        })
        .collect()
}

/// One example between two kernels.
pub(super) struct Flow {
    /// Its shape as the grammar has it.
    pub(super) shape: Vec<usize>,
    /// Whether the values of `[channels, …]` lie with the channels last.
    channels_last: bool,
}

impl Flow {
    /// Moves the channels, where they lie the other way.
    fn channels(&mut self, last: bool, chain: &mut Chain) {
        if self.channels_last == last || self.shape.len() < 2 {
            return;
        }
        let (channels, rest) = (self.shape[0], self.shape[1..].iter().product());
        self.channels_last = last;
        // With one channel, or one place, both ways are the same bytes.
        if channels == 1 || rest == 1 {
            return;
        }
        chain.push(if last {
            Relayout::new(channels, rest)
        } else {
            Relayout::new(rest, channels)
        });
    }

    fn features(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

pub(super) struct Planner {
    places: BTreeMap<String, Place>,
    /// Dropouts so far.
    streams: u64,
}

impl Planner {
    pub(super) fn place(&self, name: &str) -> Result<Place, LearningError> {
        self.places.get(name).copied().ok_or_else(|| LearningError::NoTensor(name.to_owned()))
    }

    /// Weight and bias.
    pub(super) fn pair(&self, prefix: &str) -> Result<[Place; 2], LearningError> {
        Ok([self.place(&format!("{prefix}.weight"))?, self.place(&format!("{prefix}.bias"))?])
    }

    pub(super) fn linear(&self, prefix: &str) -> Result<Linear, LearningError> {
        let [weight, bias] = self.pair(prefix)?;
        Ok(Linear::new(weight, bias, bias.len))
    }

    pub(super) fn norm(&self, prefix: &str, epsilon: f64) -> Result<LayerNorm, LearningError> {
        let [weight, bias] = self.pair(prefix)?;
        Ok(LayerNorm::new(weight, bias, epsilon))
    }

    fn stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    pub(super) fn dropout(&mut self, rate: f64) -> Dropout {
        Dropout::new(self.stream(), rate)
    }

    pub(super) fn mask(&mut self, rate: f64) -> Mask {
        Mask::new(self.stream(), rate)
    }

    fn layers(
        &mut self,
        layers: &[Layer],
        prefix: &str,
        flow: &mut Flow,
        chain: &mut Chain,
    ) -> Result<(), LearningError> {
        let mut index = 0;
        while let Some(layer) = layers.get(index) {
            let name = format!("{prefix}.{index}");
            let rest = &layers[index + 1..];
            let joined = self.layer(layer, &name, rest, flow, chain)?;
            for layer in &layers[index..=index + joined] {
                flow.shape = layer.output(&flow.shape).ok_or_else(|| {
                    LearningError::NoTensor(format!("{} does not fit its input", layer.word()))
                })?;
            }
            index += 1 + joined;
        }
        Ok(())
    }

    /// Adds a layer's kernels; gives how many of the layers behind it are joined to it.
    fn layer(
        &mut self,
        layer: &Layer,
        name: &str,
        rest: &[Layer],
        flow: &mut Flow,
        chain: &mut Chain,
    ) -> Result<usize, LearningError> {
        match layer {
            Layer::Conv1d(_)
            | Layer::Conv2d(_)
            | Layer::MaxPool2d(_)
            | Layer::AvgPool2d(_)
            | Layer::GlobalAvgPool
            | Layer::BatchNorm(_)
            | Layer::GroupNorm { .. } => return self.spatial(layer, name, rest, flow, chain),
            Layer::Residual { layers, shortcut } => {
                let last = flow.channels_last;
                let mut way = |layers: &[Layer], kind: &str| {
                    let mut own = Flow { shape: flow.shape.clone(), channels_last: last };
                    let mut chain = Chain::default();
                    self.layers(layers, &format!("{name}.{kind}"), &mut own, &mut chain)?;
                    own.channels(last && own.shape.len() > 1, &mut chain);
                    Ok::<_, LearningError>((chain, own.channels_last))
                };
                let ((long, after), (short, _)) =
                    (way(layers, "layers")?, way(shortcut, "shortcut")?);
                chain.push(Residual::new(long, short));
                flow.channels_last = after;
            }
            Layer::Transpose => {
                // The other order of the same bytes.
                flow.channels_last = !flow.channels_last;
            }
            Layer::Dropout { rate } => chain.push(self.dropout(*rate)),
            Layer::Activation(function) if *function != Function::Softmax => {
                chain.push(Activation::new(*function, 1));
            }
            _ => {
                flow.channels(false, chain);
                return self.sequential(layer, name, rest, flow, chain);
            }
        }
        Ok(0)
    }

    /// The layers that see channels.
    fn spatial(
        &mut self,
        layer: &Layer,
        name: &str,
        rest: &[Layer],
        flow: &mut Flow,
        chain: &mut Chain,
    ) -> Result<usize, LearningError> {
        flow.channels(true, chain);
        let shape = flow.shape.clone();
        let (channels, places) = (shape[0], shape[1..].iter().product::<usize>());
        match layer {
            Layer::Conv1d(conv) => {
                let geometry = Geometry::of_signal(conv, [channels, places]);
                return self.convolution(conv, geometry, name, rest, chain);
            }
            Layer::Conv2d(conv) => {
                let geometry = Geometry::of_picture(conv, picture(&shape));
                return self.convolution(conv, geometry, name, rest, chain);
            }
            Layer::MaxPool2d(pool) => chain.push(Pool::new(PoolKind::Max, window(pool, &shape))),
            Layer::AvgPool2d(pool) => chain.push(Pool::new(PoolKind::Mean, window(pool, &shape))),
            Layer::GlobalAvgPool => {
                chain.push(StepPool::new(StepPoolKind::All, places, channels));
                flow.channels_last = false;
            }
            Layer::BatchNorm(norm) => {
                let [weight, bias] = self.pair(name)?;
                let place = |kind: &str| self.place(&format!("{name}.{kind}"));
                let running = if norm.local {
                    None
                } else {
                    Some([place("running_mean")?, place("running_var")?])
                };
                chain.push(BatchNorm::new(weight, bias, running, norm.momentum, norm.epsilon));
            }
            Layer::GroupNorm { groups, epsilon } => {
                let [weight, bias] = self.pair(name)?;
                chain.push(GroupNorm::new(weight, bias, *groups, *epsilon, flow.len()));
            }
            _ => {}
        }
        Ok(0)
    }

    /// A convolution, with a rectifier and max pooling joined where they follow.
    fn convolution(
        &mut self,
        conv: &Convolution,
        geometry: Geometry,
        name: &str,
        rest: &[Layer],
        chain: &mut Chain,
    ) -> Result<usize, LearningError> {
        let [weight, bias] = self.pair(name)?;
        let mut fused = Fused::default();
        let mut joined = 0;
        for layer in rest.iter().take(2) {
            match layer {
                Layer::Activation(Function::Relu) if !fused.relu => fused.relu = true,
                Layer::MaxPool2d(pool) if fused.pool.is_none() => {
                    fused.pool = Some(geometry.window(conv.out, pool.kernel, pool.stride));
                }
                _ => break,
            }
            joined += 1;
        }
        chain.push(Conv::new(weight, bias, geometry, conv.groups, fused));
        Ok(joined)
    }

    /// The layers that see rows of features.
    fn sequential(
        &mut self,
        layer: &Layer,
        name: &str,
        rest: &[Layer],
        flow: &mut Flow,
        chain: &mut Chain,
    ) -> Result<usize, LearningError> {
        let (shape, features) = (flow.shape.clone(), flow.features());
        let steps = shape.first().copied().unwrap_or(1);
        match layer {
            Layer::Linear { .. } => {
                let linear = self.linear(name)?;
                if let Some(Layer::Activation(function)) = rest.first()
                    && *function != Function::Softmax
                {
                    chain.push(linear.activated(LinearActivation::Of(*function)));
                    return Ok(1);
                }
                chain.push(linear);
            }
            Layer::Activation(function) => chain.push(Activation::new(*function, features)),
            Layer::LayerNorm { epsilon } => chain.push(self.norm(name, *epsilon)?),
            Layer::Embedding { dimension, .. } => {
                chain.push(Embedding::new(self.place(&format!("{name}.weight"))?, *dimension));
            }
            Layer::PositionalEncoding(PositionalEncoding::Sinusoidal) => {
                chain.push(Positions::sinusoidal(steps, features));
            }
            Layer::PositionalEncoding(PositionalEncoding::Learned { .. }) => {
                let table = self.place(&format!("{name}.weight"))?;
                chain.push(Positions::learned(table, steps, features));
            }
            Layer::Recurrent(stack) => {
                chain.push(self.recurrent(stack, name, [steps, features])?)
            }
            Layer::TransformerEncoder(encoder) => {
                self.encoder(encoder, name, [steps, features], chain)?;
            }
            Layer::MeanPool => chain.push(StepPool::new(StepPoolKind::Mean, steps, features)),
            Layer::ClsPool => chain.push(StepPool::new(StepPoolKind::First, steps, features)),
            Layer::LastStep => chain.push(StepPool::new(StepPoolKind::Last, steps, features)),
            Layer::Bert(bert) => pretrained::plan(self, bert, steps, chain)?,
            // Flattening moves nothing: the values lie in the grammar's order.
            _ => {}
        }
        Ok(0)
    }

    fn recurrent(
        &mut self,
        stack: &Stack,
        name: &str,
        sizes: [usize; 2],
    ) -> Result<Recurrent, LearningError> {
        let ways: &[&str] = if stack.bidirectional { &["", "_reverse"] } else { &[""] };
        let mut weights = Vec::with_capacity(stack.layers);
        for layer in 0..stack.layers {
            let of = |way: &&str| {
                let place = |kind: &str| self.place(&format!("{name}.{kind}_l{layer}{way}"));
                Ok::<_, LearningError>(Weights {
                    input: place("weight_ih")?,
                    hidden: place("weight_hh")?,
                    input_bias: place("bias_ih")?,
                    hidden_bias: place("bias_hh")?,
                })
            };
            weights.push(ways.iter().map(of).collect::<Result<Vec<Weights>, _>>()?);
        }
        let between = if stack.dropout > 0.0 { stack.layers - 1 } else { 0 };
        let dropouts = (0..between).map(|_| self.mask(stack.dropout)).collect();
        let last_step = stack.returns == Returns::LastStep;
        Ok(Recurrent::new(stack.cell, sizes, weights, dropouts, last_step))
    }

    fn encoder(
        &mut self,
        encoder: &TransformerEncoder,
        name: &str,
        sizes: [usize; 2],
        chain: &mut Chain,
    ) -> Result<(), LearningError> {
        for layer in 0..encoder.layers {
            let at = |part: &str| format!("{name}.layers.{layer}.{part}");
            let weight = self.place(&at("self_attn.in_proj_weight"))?;
            let bias = self.place(&at("self_attn.in_proj_bias"))?;
            let projections = Projections::Stacked(Linear::new(weight, bias, bias.len));
            let out = self.linear(&at("self_attn.out_proj"))?;
            let mask = self.mask(encoder.dropout);
            let activation = LinearActivation::Of(encoder.activation);
            let wide = self.linear(&at("linear1"))?.activated(activation);
            chain.push(Block::new(BlockParts {
                attention: Attention::new(
                    sizes,
                    encoder.heads,
                    encoder.causal,
                    mask,
                    projections,
                    out,
                ),
                norms: [
                    self.norm(&at("norm1"), encoder.epsilon)?,
                    self.norm(&at("norm2"), encoder.epsilon)?,
                ],
                feed_forward: [wide, self.linear(&at("linear2"))?],
                dropouts: std::array::from_fn(|_| self.dropout(encoder.dropout)),
                norm_first: encoder.norm_first,
            }));
        }
        if encoder.norm_first {
            chain.push(self.norm(&format!("{name}.norm"), encoder.epsilon)?);
        }
        Ok(())
    }
}

fn picture(shape: &[usize]) -> [usize; 3] {
    let at = |axis: usize| shape.get(axis).copied().unwrap_or(1);
    [at(0), at(1), at(2)]
}

fn window(pool: &tributary_core::model::Pool, shape: &[usize]) -> Window {
    let [channels, height, width] = picture(shape);
    Window { kernel: pool.kernel, stride: pool.stride, height, width, channels }
}
