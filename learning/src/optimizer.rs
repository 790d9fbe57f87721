//! The optimisers, in place on flat slices, in PyTorch's formulae.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, bail};
use rayon::prelude::{
    IndexedParallelIterator, IntoParallelRefIterator, IntoParallelRefMutIterator, ParallelIterator,
};
use tributary_core::spec::train::Optimizer;

/// Elements that a thread takes at once; each element is on its own, so results do not depend on it.
const ELEMENTS_MIN: usize = 1 << 14;

/// An optimiser with its state for some tensors.
#[derive(Debug)]
pub struct State {
    rule: Optimizer,
    /// Steps begun.
    steps: u64,
    /// beta1 and beta2 to the power of the steps, kept as products: no `pow`, the same bits anywhere.
    decays: [f64; 2],
    slots: Vec<Slot>,
}

/// What an optimiser remembers of one tensor.
#[derive(Debug, Default)]
struct Slot {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl State {
    /// A fresh state for tensors of these sizes.
    #[must_use]
    pub fn new(rule: Optimizer, sizes: impl IntoIterator<Item = usize>) -> Self {
        let (first, second) = match rule {
            Optimizer::Sgd { momentum, .. } => (momentum != 0.0, false),
            Optimizer::Adam { .. } => (true, true),
        };
        let zeros = |wanted: bool, size| if wanted { vec![0.0; size] } else { Vec::new() };
        let slots = sizes
            .into_iter()
            .map(|size| Slot { first: zeros(first, size), second: zeros(second, size) })
            .collect();
        Self { rule, steps: 0, decays: [1.0; 2], slots }
    }

    /// Begins a step; then comes [`State::update`] for every tensor.
    pub fn begin_step(&mut self) {
        self.steps += 1;
        if let Optimizer::Adam { beta1, beta2, .. } = self.rule {
            self.decays = [self.decays[0] * beta1, self.decays[1] * beta2];
        }
    }

    /// Changes one tensor's values by its gradient. `index` counts the tensors as in
    /// [`State::new`]; lengths that do not agree leave the values as they are from the shorter on.
    pub fn update(&mut self, index: usize, values: &mut [f32], gradient: &[f32]) {
        let first_step = self.steps <= 1;
        let Some(slot) = self.slots.get_mut(index) else { return };
        match self.rule {
            Optimizer::Sgd { learning_rate, momentum, nesterov, weight_decay } => {
                let rule = Sgd {
                    rate: learning_rate as f32,
                    momentum: momentum as f32,
                    decay: weight_decay as f32,
                    nesterov,
                    first_step,
                };
                rule.update(slot, values, gradient);
            }
            Optimizer::Adam { learning_rate, beta1, beta2, epsilon } => {
                let rule = Adam {
                    betas: [beta1 as f32, beta2 as f32],
                    rests: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
                    rate: (learning_rate / (1.0 - self.decays[0])) as f32,
                    root: (1.0 - self.decays[1]).sqrt() as f32,
                    epsilon: epsilon as f32,
                };
                rule.update(slot, values, gradient);
            }
        }
    }

    /// One whole step on tensors, in place.
    ///
    /// # Errors
    /// When a gradient is not of its parameter's size, or a tensor is not contiguous f32.
    pub fn step(&mut self, parameters: &[Tensor], gradients: &[Tensor]) -> candle_core::Result<()> {
        self.begin_step();
        let state = RefCell::new(self);
        for (index, (parameter, gradient)) in parameters.iter().zip(gradients).enumerate() {
            parameter.inplace_op2(gradient, &Update { state: &state, index })?;
        }
        Ok(())
    }
}

struct Sgd {
    rate: f32,
    momentum: f32,
    decay: f32,
    nesterov: bool,
    first_step: bool,
}

impl Sgd {
    /// g ← g + decay·θ;  v ← μ·v + g (v ← g in the first step);  θ ← θ − rate·(g + μ·v with Nesterov,
    /// else v).
    fn update(&self, slot: &mut Slot, values: &mut [f32], gradient: &[f32]) {
        let pairs = values.par_iter_mut().zip(gradient.par_iter()).with_min_len(ELEMENTS_MIN);
        if self.momentum == 0.0 {
            pairs.for_each(|(value, gradient)| {
                *value -= self.rate * (*gradient + self.decay * *value);
            });
            return;
        }
        pairs.zip(slot.first.par_iter_mut()).for_each(|((value, gradient), velocity)| {
            let gradient = *gradient + self.decay * *value;
            *velocity =
                if self.first_step { gradient } else { self.momentum * *velocity + gradient };
            let ahead = gradient + self.momentum * *velocity;
            *value -= self.rate * if self.nesterov { ahead } else { *velocity };
        });
    }
}

/// Adam with bias correction (Kingma and Ba 2015, algorithm 1, with epsilon outside the corrected
/// root as PyTorch has it).
struct Adam {
    betas: [f32; 2],
    rests: [f32; 2],
    /// The learning rate over 1 − beta1ᵗ.
    rate: f32,
    /// √(1 − beta2ᵗ).
    root: f32,
    epsilon: f32,
}

impl Adam {
    fn update(&self, slot: &mut Slot, values: &mut [f32], gradient: &[f32]) {
        let moments = slot.first.par_iter_mut().zip(slot.second.par_iter_mut());
        let pairs = values.par_iter_mut().zip(gradient.par_iter()).with_min_len(ELEMENTS_MIN);
        pairs.zip(moments).for_each(|((value, gradient), (first, second))| {
            *first = self.betas[0] * *first + self.rests[0] * *gradient;
            *second = self.betas[1] * *second + self.rests[1] * (*gradient * *gradient);
            *value -= self.rate * (*first / (second.sqrt() / self.root + self.epsilon));
        });
    }
}

/// [`State::update`] as an operation in place on a tensor's own storage.
struct Update<'a, 'b> {
    state: &'a RefCell<&'b mut State>,
    index: usize,
}

impl InplaceOp2 for Update<'_, '_> {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), CpuStorage::F32(gradient)) = (s1, s2) else {
            bail!("the optimisers work on f32 alone")
        };
        let (Some(place), Some(source)) = (l1.contiguous_offsets(), l2.contiguous_offsets()) else {
            bail!("the optimisers work on contiguous tensors alone")
        };
        let values = values.get_mut(place.0..place.1).unwrap_or_default();
        let gradient = gradient.get(source.0..source.1).unwrap_or_default();
        if values.len() != gradient.len() || l1.shape() != l2.shape() {
            bail!("a gradient of {:?} came for a parameter of {:?}", l2.shape(), l1.shape())
        }
        self.state.borrow_mut().update(self.index, values, gradient);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::State;
    use tributary_core::spec::train::Optimizer;

    fn two_steps(rule: Optimizer) -> f32 {
        let mut state = State::new(rule, [1]);
        let mut value = [1.0];
        for gradient in [0.5, -0.25] {
            state.begin_step();
            state.update(0, &mut value, &[gradient]);
        }
        value[0]
    }

    #[test]
    fn two_steps_are_those_computed_by_hand() {
        let sgd = |momentum, nesterov, weight_decay| {
            two_steps(Optimizer::Sgd { learning_rate: 0.1, momentum, nesterov, weight_decay })
        };
        assert!((sgd(0.0, false, 0.0) - 0.975).abs() < 1e-7);
        // v: 0.5, then 0.9 · 0.5 − 0.25 = 0.2.
        assert!((sgd(0.9, false, 0.0) - (1.0 - 0.05 - 0.02)).abs() < 1e-7);
        // Ahead: 0.5 + 0.45 = 0.95, then −0.25 + 0.9 · 0.2 = −0.07.
        assert!((sgd(0.9, true, 0.0) - (1.0 - 0.095 + 0.007)).abs() < 1e-7);
        // Decay 0.1: 1 − 0.1 · 0.6 = 0.94, then 0.94 − 0.1 · (−0.25 + 0.094).
        assert!((sgd(0.0, false, 0.1) - 0.9556).abs() < 1e-7);
        let (beta1, beta2, epsilon) = (0.5, 0.5, 0.0);
        let adam = two_steps(Optimizer::Adam { learning_rate: 0.1, beta1, beta2, epsilon });
        // m: 0.25, 0; v: 0.125, 0.09375: the second step does not move.
        assert!((adam - 0.9).abs() < 1e-6, "{adam}");
    }
}
