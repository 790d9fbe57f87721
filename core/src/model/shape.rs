//! Shape inference: what each layer makes of its input, and the parameters it needs. All sizes are
//! bounded with checked arithmetic, because a spec may come from somebody hostile.

use super::{Conv2d, Layer, MaxPool2d};
use crate::params::PARAMETERS_MAX;

/// Most values that one example may have behind any layer: 64 MiB.
pub const ACTIVATIONS_MAX: usize = 1 << 24;
/// Most values of a convolution's unfolded patches (channels × kernel² × output pixels), which a
/// kernel may hold for one example per thread: 128 MiB.
pub const PATCHES_MAX: usize = 1 << 25;

/// Names and shapes of a layer's parameters.
pub(super) type Parameters = Vec<(&'static str, Vec<usize>)>;

/// Why a layer does not fit.
pub(super) struct Mismatch {
    pub(super) needs: String,
    pub(super) got: String,
}

/// The shapes so far.
pub(super) struct Walk {
    input: Vec<usize>,
    shapes: Vec<Vec<usize>>,
}

impl Walk {
    pub(super) fn new(input: Vec<usize>) -> Self {
        Self { input, shapes: Vec::new() }
    }

    /// The shape behind the last layer; the input's before the first.
    pub(super) fn last(&self) -> &[usize] {
        self.shapes.last().unwrap_or(&self.input)
    }

    pub(super) fn into_shapes(self) -> Vec<Vec<usize>> {
        self.shapes
    }

    /// Adds a layer; gives the parameters that it needs.
    pub(super) fn step(&mut self, layer: &Layer) -> Result<Parameters, Mismatch> {
        let input = self.last();
        let (shape, parameters) = match layer {
            Layer::Conv2d(conv) => conv2d(conv, input)?,
            Layer::MaxPool2d(pool) => (max_pool2d(pool, input)?, Vec::new()),
            Layer::Linear { out } => linear(*out, input)?,
            Layer::Relu | Layer::Tanh => (input.to_vec(), Vec::new()),
            Layer::Flatten => (vec![input.iter().product()], Vec::new()),
        };
        if values(&shape).is_none() {
            return Err(Mismatch {
                needs: format!("at most {ACTIVATIONS_MAX} values behind {}", layer.word()),
                got: format!("{shape:?} from {input:?}"),
            });
        }
        self.shapes.push(shape);
        Ok(parameters)
    }
}

/// How many values a shape has, where that is within bounds.
pub(super) fn values(shape: &[usize]) -> Option<usize> {
    product(shape).filter(|&values| values <= ACTIVATIONS_MAX)
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

fn picture(word: &str, input: &[usize]) -> Result<[usize; 3], Mismatch> {
    input.try_into().map_err(|_| Mismatch {
        needs: format!("an input of [channels, height, width] to {word}"),
        got: format!("{input:?}"),
    })
}

/// Output pixels along one side; `None` where not even one window fits.
fn windows(side: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    Some(side.checked_add(2 * padding)?.checked_sub(kernel)? / stride + 1)
}

fn conv2d(conv: &Conv2d, input: &[usize]) -> Result<(Vec<usize>, Parameters), Mismatch> {
    let [channels, height, width] = picture("conv2d", input)?;
    let Conv2d { out, kernel, stride, padding } = *conv;
    let side = |size| windows(size, kernel, stride, padding);
    let (Some(rows), Some(columns)) = (side(height), side(width)) else {
        return Err(Mismatch {
            needs: format!("a picture that with padding is at least {kernel} × {kernel} to conv2d"),
            got: format!("{input:?} and padding {padding}"),
        });
    };
    let patches = product(&[channels, kernel, kernel, rows, columns]);
    if patches.is_none_or(|patches| patches > PATCHES_MAX) {
        return Err(Mismatch {
            needs: format!("channels × kernel² × output pixels of at most {PATCHES_MAX} to conv2d"),
            got: format!("{channels} × {kernel}² × {rows} × {columns}"),
        });
    }
    let weight = vec![out, channels, kernel, kernel];
    Ok((vec![out, rows, columns], weighted("conv2d", weight, out)?))
}

fn max_pool2d(pool: &MaxPool2d, input: &[usize]) -> Result<Vec<usize>, Mismatch> {
    let [channels, height, width] = picture("max_pool2d", input)?;
    let side = |size| windows(size, pool.kernel, pool.stride, 0);
    let (Some(rows), Some(columns)) = (side(height), side(width)) else {
        let kernel = pool.kernel;
        return Err(Mismatch {
            needs: format!("a picture of at least {kernel} × {kernel} to max_pool2d"),
            got: format!("{input:?}"),
        });
    };
    Ok(vec![channels, rows, columns])
}

fn linear(out: usize, input: &[usize]) -> Result<(Vec<usize>, Parameters), Mismatch> {
    let &[features] = input else {
        return Err(Mismatch {
            needs: "an input of [features] (put \"flatten\" before it) to linear".to_owned(),
            got: format!("{input:?}"),
        });
    };
    Ok((vec![out], weighted("linear", vec![out, features], out)?))
}

fn weighted(word: &str, weight: Vec<usize>, out: usize) -> Result<Parameters, Mismatch> {
    if product(&weight).is_none_or(|values| values > PARAMETERS_MAX) {
        return Err(Mismatch {
            needs: format!("a weight of at most {PARAMETERS_MAX} values to {word}"),
            got: format!("{weight:?}"),
        });
    }
    Ok(vec![("weight", weight), ("bias", vec![out])])
}
