//! What a kernel is, and chains of them.

/// What a pass reads besides its input.
pub(crate) struct Cx<'a> {
    /// The trained parameters, flat.
    pub(crate) trained: &'a [f32],
    /// The frozen parameters, flat.
    pub(crate) frozen: &'a [f32],
    /// How many examples.
    pub(crate) batch: usize,
    /// Tokens `[batch, steps]`, for a model that begins with an embedding.
    pub(crate) tokens: &'a [u32],
    /// Steps that are no padding, one an example; empty where all are.
    pub(crate) lengths: &'a [u32],
    /// Whether this is a step of training: dropout drops, batches are normalised by themselves.
    pub(crate) training: bool,
    /// Whether this pass is there for local statistics alone.
    pub(crate) observing: bool,
    /// Where this step's random numbers come from.
    pub(crate) seed: u64,
}

impl Cx<'_> {
    /// The steps of an example that are no padding.
    pub(crate) fn length(&self, example: usize, steps: usize) -> usize {
        self.lengths.get(example).map_or(steps, |&length| (length as usize).min(steps))
    }
}

/// Where a tensor stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) frozen: bool,
}

impl Place {
    /// The tensor's values.
    pub(crate) fn of<'a>(&self, cx: &Cx<'a>) -> &'a [f32] {
        let values = if self.frozen { cx.frozen } else { cx.trained };
        &values[self.offset..self.offset + self.len]
    }

    /// The tensor's gradient; none for a frozen one.
    pub(crate) fn gradient<'a>(&self, gradients: &'a mut [f32]) -> Option<&'a mut [f32]> {
        if self.frozen { None } else { gradients.get_mut(self.offset..self.offset + self.len) }
    }

    /// Some of the tensor's leading rows, as a place of their own.
    pub(crate) fn part(&self, start: usize, len: usize) -> Self {
        Self { offset: self.offset + start, len, ..*self }
    }
}

/// A layer at work. It keeps what its way back needs from its forward pass.
pub(crate) trait Kernel: Send {
    /// Makes `out` (whatever was in it before) of `input`.
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>);

    /// Goes back from `slopes`, the loss's derivatives by `out`, which it may overwrite: sets the
    /// gradients of its own parameters, and makes `into`, the derivatives by `input`, where they are
    /// wanted. `input` and `out` are those of the last forward pass.
    fn backward(
        &mut self,
        cx: &Cx<'_>,
        input: &[f32],
        out: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    );

    /// Changes parameters that follow from batches and not from gradients.
    fn settle(&mut self, _trained: &mut [f32]) {}
}

/// Makes a buffer of this length, with unspecified finite values.
pub(super) fn sized<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() != len {
        buffer.clear();
        buffer.resize(len, T::default());
    }
    buffer
}

/// Makes a buffer of this length, all zeros.
pub(super) fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.clear();
    buffer.resize(len, 0.0);
    buffer
}

/// Kernels one behind the other, with what lies between them.
#[derive(Default)]
pub(crate) struct Chain {
    kernels: Vec<Box<dyn Kernel>>,
    outs: Vec<Vec<f32>>,
    slopes: Vec<f32>,
    next: Vec<f32>,
}

impl Chain {
    pub(crate) fn push(&mut self, kernel: impl Kernel + 'static) {
        self.kernels.push(Box::new(kernel));
        self.outs.push(Vec::new());
    }

    /// The result; the input itself where the chain is empty.
    pub(crate) fn forward<'a>(&'a mut self, cx: &Cx<'_>, input: &'a [f32]) -> &'a [f32] {
        for index in 0..self.kernels.len() {
            let (before, rest) = self.outs.split_at_mut(index);
            let input = before.last().map_or(input, Vec::as_slice);
            self.kernels[index].forward(cx, input, &mut rest[0]);
        }
        self.outs.last().map_or(input, Vec::as_slice)
    }

    /// Goes back from the result's slopes; the input's are there afterwards where `wanted`.
    pub(crate) fn backward(
        &mut self,
        cx: &Cx<'_>,
        input: &[f32],
        slopes: &[f32],
        wanted: bool,
        gradients: &mut [f32],
    ) -> &[f32] {
        self.slopes.clear();
        self.slopes.extend_from_slice(slopes);
        for index in (0..self.kernels.len()).rev() {
            let (before, rest) = self.outs.split_at(index);
            let input = before.last().map_or(input, Vec::as_slice);
            let into = (index > 0 || wanted).then_some(&mut self.next);
            let kernel = &mut self.kernels[index];
            kernel.backward(cx, input, &rest[0], &mut self.slopes, into, gradients);
            std::mem::swap(&mut self.slopes, &mut self.next);
        }
        &self.slopes
    }

    pub(crate) fn settle(&mut self, trained: &mut [f32]) {
        self.kernels.iter_mut().for_each(|kernel| kernel.settle(trained));
    }
}
