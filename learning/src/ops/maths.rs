//! Elementwise maths that the compiler turns into vectors: no branches, no libm, no contraction, so
//! the bits are the same with every instruction set.

use pulp::Arch;
use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use super::pieces::ELEMENTS;

/// Lanes of a sum: two AVX-512 registers' worth, so that additions overlap.
pub(super) const LANES: usize = 32;

/// Runs work with the widest vectors that the CPU has. The work is a closure that is inlined whatever
/// its size: it has a copy for each instruction set, which one that stays a function of its own would
/// not have. What it calls must be `#[inline(always)]` for the same reason.
macro_rules! vectorised {
    ($work:expr) => {
        $crate::ops::dispatch(
            #[inline(always)]
            || $work,
        )
    };
}
pub(crate) use vectorised;

/// See [`vectorised`].
#[inline(always)]
pub(crate) fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// eˣ, right to about 1e-7 relative; inputs are clamped to where f32 has a normal result.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // ln 2 in two parts: the first has few bits, so n × it is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    const SHIFT: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * HIGH - n * LOW;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // The integer stands in the low bits of the shifted value: no conversion is needed.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * scale
}

/// 1 ⁄ (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, right to 4e-7 relative: a rational function of x², fitted over |x| ≤ 9, where
/// ±1 is reached. One division and no exponential; a NaN stays one.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    const REACH: f32 = 9.0;
    let x = x.clamp(-REACH, REACH);
    let square = x * x;
    let p = -8.488_566e-14_f32;
    let p = p * square + 5.277_894e-11;
    let p = p * square - 2.022_511_7e-8;
    let p = p * square + 1.115_428_2e-5;
    let p = p * square + 3.103_953_7e-3;
    let p = p * square + 0.130_840_08;
    let p = p * square + 1.0;
    let q = 2.546_141_5e-4_f32;
    let q = q * square + 0.024_495_168;
    let q = q * square + 0.464_173_36;
    let q = q * square + 1.0;
    (x * p / q).clamp(-1.0, 1.0)
}

/// Φ(x) and its derivative, the density: Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4_f32;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let bell = exp(-z * z);
    let tail = 0.5 * p * t * bell;
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    (below, bell * 0.398_942_3)
}

/// max(x, 0). A NaN stays a NaN, so that a diverged model is seen.
#[inline(always)]
pub(super) fn rectified(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// A sum in a fixed number of lanes.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    fold(values, |lane, value| lane + value, 0.0, |a, b| a + b)
}

/// The sum of products, in a fixed number of lanes.
#[inline(always)]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (a, b) in left.iter().zip(right) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    halve(lanes, |a, b| a + b) + rest
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    fold(values, larger, f32::NEG_INFINITY, larger)
}

#[inline(always)]
fn fold(
    values: &[f32],
    add: impl Fn(f32, f32) -> f32,
    zero: f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [zero; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = add(lanes[lane], chunk[lane]);
        }
    }
    let rest = rest.iter().fold(zero, |sum, value| add(sum, *value));
    join(halve(lanes, &join), rest)
}

/// Joins lanes in halves: the same order everywhere.
#[inline(always)]
fn halve(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Turns scores into their softmax, in place; `-∞` is a score that is not there.
#[inline(always)]
pub(super) fn softmax(row: &mut [f32]) {
    let top = largest(row);
    for value in row.iter_mut() {
        *value = exp_or_zero(*value - top);
    }
    let scale = 1.0 / sum(row);
    row.iter_mut().for_each(|value| *value *= scale);
}

/// eˣ, and 0 where x is far below what f32 could tell from nothing.
#[inline(always)]
fn exp_or_zero(x: f32) -> f32 {
    let value = exp(x);
    if x < -87.0 { 0.0 } else { value }
}

/// ln Σ eˣ of a row; `powers` gets e^(x − largest), whose sum is the second result.
#[inline(always)]
pub(crate) fn log_sum_exp(row: &[f32], powers: &mut [f32]) -> (f64, f32) {
    let top = largest(row);
    for (power, value) in powers.iter_mut().zip(row) {
        *power = exp_or_zero(*value - top);
    }
    let total = sum(powers);
    (f64::from(top) + libm::log(f64::from(total)), total)
}

/// Adds one list to another.
#[inline(always)]
pub(super) fn add_to(target: &mut [f32], more: &[f32]) {
    target.iter_mut().zip(more).for_each(|(target, more)| *target += *more);
}

/// Changes every value of a large buffer, in blocks over the threads; the change gets a block's first
/// index, and the block. It is inlined as [`vectorised`] work is.
macro_rules! in_blocks {
    ($values:expr, |$start:pat_param, $block:pat_param| $change:expr) => {
        $crate::ops::maths::over_blocks(
            $values,
            #[inline(always)]
            |$start, $block| $change,
        )
    };
}
pub(super) use in_blocks;

/// See [`in_blocks`].
pub(super) fn over_blocks(values: &mut [f32], change: impl Fn(usize, &mut [f32]) + Sync) {
    if values.len() <= ELEMENTS {
        vectorised!(change(0, values));
        return;
    }
    values.par_chunks_mut(ELEMENTS).enumerate().for_each(|(index, block)| {
        vectorised!(change(index * ELEMENTS, block));
    });
}

#[cfg(test)]
mod tests {
    use super::{exp, normal, sigmoid, tanh};

    #[test]
    fn the_functions_are_those_of_libm() {
        for step in -8000..=8000 {
            let x = step as f32 / 100.0;
            let wide = f64::from(x);
            let relative = |found: f32, right: f64| (f64::from(found) - right).abs() / right.abs();
            assert!(relative(exp(x), libm::exp(wide)) < 3e-7, "exp {x}: {}", exp(x));
            assert!(relative(sigmoid(x), 1.0 / (1.0 + libm::exp(-wide))) < 4e-7, "sigmoid {x}");
            if x != 0.0 {
                assert!(relative(tanh(x), libm::tanh(wide)) < 4e-7, "tanh {x}: {}", tanh(x));
            }
            let below = 0.5 * libm::erfc(-wide * std::f64::consts::FRAC_1_SQRT_2);
            assert!((f64::from(normal(x).0) - below).abs() < 4e-7, "normal {x}");
        }
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!((tanh(0.0), tanh(40.0), tanh(-40.0)), (0.0, 1.0, -1.0));
    }
}
