//! The optimisers, one pass over flat slices, in PyTorch's formulae.

use std::ops::Range;

use rayon::prelude::{
    IndexedParallelIterator, IntoParallelIterator, ParallelIterator, ParallelSlice,
    ParallelSliceMut,
};
use tributary_core::spec::train::Optimizer;

use crate::ops::vectorised;

/// Values of a block; each value is on its own, so results do not depend on it.
const BLOCK: usize = 1 << 14;
/// Values of a block of a norm: the blocks' sums are added in order.
const NORM_BLOCK: usize = 1 << 12;

/// An optimiser with its state.
#[derive(Debug)]
pub struct State {
    rule: Optimizer,
    /// Steps begun.
    steps: u64,
    /// beta1 and beta2 to the power of the steps, kept as products: no `pow`, the same bits anywhere.
    decays: [f64; 2],
    first: Vec<f32>,
    second: Vec<f32>,
}

/// What else shapes a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// A factor on the learning rate; 1 where there is none.
    pub rate_factor: Option<f64>,
    /// Gradients of a larger norm are scaled down to it.
    pub clip_norm: Option<f64>,
    /// µ and w₀ of the proximal term µ⁄2 · ‖w − w₀‖².
    pub proximal: Option<(f64, &'a [f32])>,
}

/// The gradient that a rule sees: (g + µ·(w − w₀)) · scale.
#[derive(Clone, Copy)]
struct Seen<'a> {
    gradient: &'a [f32],
    mu: f32,
    anchor: &'a [f32],
    scale: f32,
}

impl Seen<'_> {
    #[inline(always)]
    fn at(&self, index: usize, value: f32) -> f32 {
        let gradient = self.gradient[index];
        match self.anchor.get(index) {
            Some(anchor) => (gradient + self.mu * (value - anchor)) * self.scale,
            None => gradient * self.scale,
        }
    }

    fn part(&self, start: usize, len: usize) -> Self {
        let anchor = self.anchor.get(start..start + len).unwrap_or_default();
        Self { gradient: &self.gradient[start..start + len], anchor, ..*self }
    }
}

impl State {
    /// A fresh state for so many parameters.
    #[must_use]
    pub fn new(rule: Optimizer, len: usize) -> Self {
        let (first, second) = match rule {
            Optimizer::Sgd { momentum, .. } => (momentum != 0.0, false),
            Optimizer::Adam { .. } => (true, true),
            Optimizer::Adagrad { .. } => (false, true),
            Optimizer::RmsProp { momentum, .. } => (momentum != 0.0, true),
        };
        let zeros = |wanted: bool| if wanted { vec![0.0; len] } else { Vec::new() };
        Self { rule, steps: 0, decays: [1.0; 2], first: zeros(first), second: zeros(second) }
    }

    /// One step, in place, on the values in `ranges`; slices of other lengths than the state's leave
    /// the values as they are.
    pub fn step(
        &mut self,
        values: &mut [f32],
        gradients: &[f32],
        ranges: &[Range<usize>],
        terms: &Terms<'_>,
    ) {
        self.steps += 1;
        if let Optimizer::Adam { beta1, beta2, .. } = self.rule {
            self.decays = [self.decays[0] * beta1, self.decays[1] * beta2];
        }
        let (mu, anchor): (f64, &[f32]) = terms.proximal.unwrap_or((0.0, &[]));
        let mut seen = Seen { gradient: gradients, mu: mu as f32, anchor, scale: 1.0 };
        if let Some(most) = terms.clip_norm {
            let norm = norm(values, &seen, ranges);
            if norm > most {
                // PyTorch's clip_grad_norm_ adds this against division by nothing.
                seen.scale = (most / (norm + 1e-6)) as f32;
            }
        }
        let rule = Rule::new(self.rule, self.steps, self.decays, terms.rate_factor.unwrap_or(1.0));
        for range in ranges {
            let (start, len) = (range.start, range.len());
            let Some(values) = values.get_mut(range.clone()) else { continue };
            let first = self.first.get_mut(range.clone()).unwrap_or_default();
            let second = self.second.get_mut(range.clone()).unwrap_or_default();
            rule.update(values, seen.part(start, len), first, second);
        }
    }
}

/// The Euclidean norm of what the rule will see.
fn norm(values: &[f32], seen: &Seen<'_>, ranges: &[Range<usize>]) -> f64 {
    let mut sum = 0.0;
    for range in ranges {
        let part = seen.part(range.start, range.len());
        let values = &values[range.clone()];
        let blocks: Vec<f64> = values
            .par_chunks(NORM_BLOCK)
            .enumerate()
            .map(|(index, block)| {
                let part = part.part(index * NORM_BLOCK, block.len());
                let squares = block.iter().enumerate().map(|(i, v)| f64::from(part.at(i, *v)));
                squares.map(|value| value * value).sum()
            })
            .collect();
        sum += blocks.iter().sum::<f64>();
    }
    sum.sqrt()
}

/// A rule with this step's numbers.
#[derive(Clone, Copy)]
enum Rule {
    Sgd {
        rate: f32,
        momentum: f32,
        decay: f32,
        nesterov: bool,
        first_step: bool,
    },
    Adam {
        rate: f32,
        betas: [f32; 2],
        rests: [f32; 2],
        root: f32,
        epsilon: f32,
        decay: f32,
        shrink: f32,
    },
    Adagrad {
        rate: f32,
        epsilon: f32,
        decay: f32,
    },
    RmsProp {
        rate: f32,
        alpha: f32,
        epsilon: f32,
        momentum: f32,
        decay: f32,
    },
}

impl Rule {
    fn new(rule: Optimizer, steps: u64, decays: [f64; 2], factor: f64) -> Self {
        match rule {
            Optimizer::Sgd { learning_rate, momentum, nesterov, weight_decay } => Rule::Sgd {
                rate: (learning_rate * factor) as f32,
                momentum: momentum as f32,
                decay: weight_decay as f32,
                nesterov,
                first_step: steps <= 1,
            },
            Optimizer::Adam { learning_rate, beta1, beta2, epsilon, weight_decay, decoupled } => {
                let rate = learning_rate * factor;
                let (decay, shrink) =
                    if decoupled { (0.0, 1.0 - rate * weight_decay) } else { (weight_decay, 1.0) };
                Rule::Adam {
                    rate: (rate / (1.0 - decays[0])) as f32,
                    betas: [beta1 as f32, beta2 as f32],
                    rests: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
                    root: (1.0 - decays[1]).sqrt() as f32,
                    epsilon: epsilon as f32,
                    decay: decay as f32,
                    shrink: shrink as f32,
                }
            }
            Optimizer::Adagrad { learning_rate, epsilon, weight_decay } => Rule::Adagrad {
                rate: (learning_rate * factor) as f32,
                epsilon: epsilon as f32,
                decay: weight_decay as f32,
            },
            Optimizer::RmsProp { learning_rate, alpha, epsilon, momentum, weight_decay } => {
                Rule::RmsProp {
                    rate: (learning_rate * factor) as f32,
                    alpha: alpha as f32,
                    epsilon: epsilon as f32,
                    momentum: momentum as f32,
                    decay: weight_decay as f32,
                }
            }
        }
    }

    fn update(&self, values: &mut [f32], seen: Seen<'_>, first: &mut [f32], second: &mut [f32]) {
        let blocks = values.len().div_ceil(BLOCK);
        let firsts = in_blocks(first, blocks);
        let seconds = in_blocks(second, blocks);
        values.par_chunks_mut(BLOCK).zip(firsts).zip(seconds).enumerate().for_each(
            |(index, ((values, first), second))| {
                let seen = seen.part(index * BLOCK, values.len());
                vectorised!(self.block(values, &seen, first, second));
            },
        );
    }

    #[inline(always)]
    fn block(&self, values: &mut [f32], seen: &Seen<'_>, first: &mut [f32], second: &mut [f32]) {
        match *self {
            // g ← g + decay·θ;  θ ← θ − rate·g.
            Rule::Sgd { rate, momentum: 0.0, decay, .. } => {
                for (index, value) in values.iter_mut().enumerate() {
                    *value -= rate * (seen.at(index, *value) + decay * *value);
                }
            }
            // v ← µ·v + g (v ← g in the first step);  θ ← θ − rate·(g + µ·v with Nesterov, else v).
            Rule::Sgd { rate, momentum, decay, nesterov, first_step } => {
                for (index, (value, velocity)) in values.iter_mut().zip(first).enumerate() {
                    let gradient = seen.at(index, *value) + decay * *value;
                    *velocity = if first_step { gradient } else { momentum * *velocity + gradient };
                    let ahead = gradient + momentum * *velocity;
                    *value -= rate * if nesterov { ahead } else { *velocity };
                }
            }
            // Kingma and Ba 2015, algorithm 1, with epsilon outside the corrected root as PyTorch has it;
            // AdamW shrinks the values first.
            Rule::Adam { rate, betas, rests, root, epsilon, decay, shrink } => {
                let moments = first.iter_mut().zip(second);
                for (index, (value, (mean, square))) in values.iter_mut().zip(moments).enumerate() {
                    let gradient = seen.at(index, *value) + decay * *value;
                    *mean = betas[0] * *mean + rests[0] * gradient;
                    *square = betas[1] * *square + rests[1] * (gradient * gradient);
                    *value = *value * shrink - rate * (*mean / (square.sqrt() / root + epsilon));
                }
            }
            // s ← s + g²;  θ ← θ − rate·g ⁄ (√s + ε).
            Rule::Adagrad { rate, epsilon, decay } => {
                for (index, (value, square)) in values.iter_mut().zip(second).enumerate() {
                    let gradient = seen.at(index, *value) + decay * *value;
                    *square += gradient * gradient;
                    *value -= rate * (gradient / (square.sqrt() + epsilon));
                }
            }
            // s ← α·s + (1 − α)·g²;  u ← g ⁄ (√s + ε), with momentum v ← µ·v + u;  θ ← θ − rate·u (v).
            Rule::RmsProp { rate, alpha, epsilon, momentum, decay } => {
                let rest = 1.0 - alpha;
                for (index, (value, square)) in values.iter_mut().zip(second).enumerate() {
                    let gradient = seen.at(index, *value) + decay * *value;
                    *square = alpha * *square + rest * (gradient * gradient);
                    let mut move_by = gradient / (square.sqrt() + epsilon);
                    if let Some(velocity) = first.get_mut(index) {
                        *velocity = momentum * *velocity + move_by;
                        move_by = *velocity;
                    }
                    *value -= rate * move_by;
                }
            }
        }
    }
}

/// The blocks of a state that may be empty: then every block is.
fn in_blocks(state: &mut [f32], blocks: usize) -> impl IndexedParallelIterator<Item = &mut [f32]> {
    let mut parts: Vec<&mut [f32]> = state.chunks_mut(BLOCK).collect();
    parts.resize_with(blocks, Default::default);
    parts.into_par_iter()
}

#[cfg(test)]
mod tests {
    use super::{State, Terms};
    use tributary_core::spec::train::Optimizer;

    fn two_steps(rule: Optimizer, terms: &Terms<'_>) -> f32 {
        let mut state = State::new(rule, 1);
        let mut value = [1.0];
        let ranges: [std::ops::Range<usize>; 1] = std::array::from_fn(|_| 0..1);
        for gradient in [0.5, -0.25] {
            state.step(&mut value, &[gradient], &ranges, terms);
        }
        value[0]
    }

    #[test]
    fn two_steps_are_those_computed_by_hand() {
        let plain = Terms::default();
        let sgd = |momentum, nesterov, weight_decay| {
            let rule = Optimizer::Sgd { learning_rate: 0.1, momentum, nesterov, weight_decay };
            two_steps(rule, &plain)
        };
        assert!((sgd(0.0, false, 0.0) - 0.975).abs() < 1e-7);
        // v: 0.5, then 0.9 · 0.5 − 0.25 = 0.2.
        assert!((sgd(0.9, false, 0.0) - (1.0 - 0.05 - 0.02)).abs() < 1e-7);
        // Ahead: 0.5 + 0.45 = 0.95, then −0.25 + 0.9 · 0.2 = −0.07.
        assert!((sgd(0.9, true, 0.0) - (1.0 - 0.095 + 0.007)).abs() < 1e-7);
        // Decay 0.1: 1 − 0.1 · 0.6 = 0.94, then 0.94 − 0.1 · (−0.25 + 0.094).
        assert!((sgd(0.0, false, 0.1) - 0.9556).abs() < 1e-7);
        let adam = Optimizer::Adam {
            learning_rate: 0.1,
            beta1: 0.5,
            beta2: 0.5,
            epsilon: 0.0,
            weight_decay: 0.0,
            decoupled: false,
        };
        // m: 0.25, 0; v: 0.125, 0.09375: the second step does not move.
        let adam = two_steps(adam, &plain);
        assert!((adam - 0.9).abs() < 1e-6, "{adam}");
    }

    #[test]
    fn clipping_and_the_proximal_term_are_those_computed_by_hand() {
        let rule = Optimizer::sgd(0.1);
        let clip = Terms { clip_norm: Some(0.1), ..Terms::default() };
        // Both gradients are cut to a length of 0.1.
        assert!((two_steps(rule, &clip) - 1.0).abs() < 1e-6);
        let proximal = Terms { proximal: Some((2.0, &[0.0])), ..Terms::default() };
        // 1 − 0.1 · (0.5 + 2) = 0.75, then 0.75 − 0.1 · (−0.25 + 1.5).
        assert!((two_steps(rule, &proximal) - 0.625).abs() < 1e-7);
        let half = Terms { rate_factor: Some(0.5), ..Terms::default() };
        assert!((two_steps(rule, &half) - 0.9875).abs() < 1e-7);
    }
}
