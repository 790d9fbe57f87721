//! The tensors that a model's layers ask for, each with how it begins.

/// How a tensor's first values are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Init {
    Zero,
    One,
    /// Uniform in ±bound.
    Uniform(f64),
    /// Normal around 0 with this standard deviation.
    Normal(f64),
}

impl Init {
    /// Kaiming initialisation for rectifiers in its uniform form, of variance 2 ⁄ fan_in (He, Zhang,
    /// Ren and Sun 2015, "Delving deep into rectifiers", section 2.2).
    pub(super) fn kaiming(fan_in: usize) -> Self {
        Self::Uniform((6.0 / fan_in as f64).sqrt())
    }
}

/// A tensor to be.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) init: Init,
}

/// What the layers ask for, in their order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Trained tensors: they travel.
    pub(super) trained: Vec<Planned>,
    /// Frozen tensors: every site has them already.
    pub(super) frozen: Vec<Planned>,
    /// Values that one example leaves on its way.
    pub(super) activations: usize,
}

impl Plan {
    /// A trained tensor.
    pub(super) fn tensor(&mut self, prefix: &str, name: &str, shape: Vec<usize>, init: Init) {
        self.trained.push(Planned { name: format!("{prefix}.{name}"), shape, init });
    }

    /// A tensor that is trained or frozen.
    pub(super) fn tensor_of(
        &mut self,
        frozen: bool,
        prefix: &str,
        name: &str,
        shape: Vec<usize>,
        init: Init,
    ) {
        let list = if frozen { &mut self.frozen } else { &mut self.trained };
        list.push(Planned { name: format!("{prefix}.{name}"), shape, init });
    }

    /// Scale and shift of a normalisation.
    pub(super) fn norm(&mut self, prefix: &str, features: usize) {
        self.tensor(prefix, "weight", vec![features], Init::One);
        self.tensor(prefix, "bias", vec![features], Init::Zero);
    }

    /// A fully connected layer; gives its weight's shape back where that is too large.
    pub(super) fn linear(
        &mut self,
        prefix: &str,
        out: usize,
        features: usize,
    ) -> Result<(), Vec<usize>> {
        let weight = vec![out, features];
        if super::shape::check_weight("linear", &weight).is_err() {
            return Err(weight);
        }
        self.tensor(prefix, "weight", weight, Init::kaiming(features));
        self.tensor(prefix, "bias", vec![out], Init::Zero);
        Ok(())
    }

    /// Counts values that stay in memory until the way back.
    pub(super) fn holds(&mut self, values: usize) {
        self.activations = self.activations.saturating_add(values);
    }
}
