//! Order-free sums: each update is turned into integers on its own, and integers are added.
//!
//! Float addition depends on its order; integer addition does not. A contribution of n examples
//! turns each value x into `q = rint(f64(x) · (f64(n) · 2^(F−c)))`, an i64; the sum S of all q is
//! the same for any order, chunk, thread count or instruction set, and
//! `new = f32(f64(old) + f64(S) / (f64(Σn) · 2^(F−c)))` is rounded once.
//!
//! - `cap = 2^c` bounds every n, `2^X` every |x|, F = 50 − X ([`Scale`]).
//! - The product is exact: 24 bits of x and at most 30 of n (30 only for n = 2^c, a power of two,
//!   which costs none), so 53 suffice; fused, unfused and SIMD agree.
//! - |x · n · 2^(F−c)| ≤ 2^50, so adding 1.5·2^52 rounds to the nearest integer (ties to even) and
//!   leaves it in the low bits; [`CONTRIBUTIONS_MAX`] = 2^12 of them stay within 2^62.
//! - The mean is off by at most `2^-(F+1) · cap / mean(n)`, and the roundings of f64.

mod kernel;
mod scale;
#[cfg(test)]
mod tests;

pub use kernel::{Engine, Value};
pub use scale::{CAP_EXPONENT_MAX, CONTRIBUTIONS_MAX, MAX_ABS_EXPONENT_MAX, Scale, ScaleError};

/// How much an update counts in the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weighting {
    /// As much as it has examples (`FedAvg`: McMahan et al. 2017, algorithm 1).
    #[default]
    Examples,
}

impl Weighting {
    /// The integer weight of an update of this many examples, at most `scale.cap()` where that is.
    #[must_use]
    pub fn weight(self, examples: u64) -> u64 {
        match self {
            Self::Examples => examples,
        }
    }
}

/// Adds one update of weight `n` to the sums, one accumulator a value.
///
/// Contract: lengths agree, `n ≤ scale.cap()`, every value is finite and at most 2^X in magnitude
/// ([`crate::codec::check_part`] sees to that when an update is accepted), and at most
/// [`CONTRIBUTIONS_MAX`] updates come to one accumulator. Debug builds assert it; a release build
/// that is handed other values computes a wrong sum and nothing worse.
pub fn fold<V: Value>(acc: &mut [i64], update: &[V], n: u64, scale: Scale) {
    Engine::best().fold(acc, update, scale.weight(n));
}

/// Adds two updates in one pass: the accumulators are loaded and stored half as often. The sums are
/// those of two [`fold`]s, and the contract is theirs.
pub fn fold_two<V: Value>(acc: &mut [i64], updates: [(&[V], u64); 2], scale: Scale) {
    let updates = updates.map(|(update, n)| (update, scale.weight(n)));
    Engine::best().fold_two(acc, updates);
}

/// The new values: `out = f32(f64(old) + f64(S) / (f64(Σn) · 2^(F−c)))`.
///
/// Contract: lengths agree and `total_n`, the sum of all weights, is not 0.
pub fn finish<V: Value>(old: &[V], acc: &[i64], total_n: u64, scale: Scale, out: &mut [V]) {
    Engine::best().finish(old, acc, scale.denominator(total_n), out);
}

/// Σ rint(|mean| · 2^32)² over coordinates whose sums these are: what the parts of an update add up to
/// is the square of its norm, whatever the parts. [`norm_of_square`] makes a norm of it.
#[must_use]
pub fn square_norm(acc: &[i64], total_n: u64, scale: Scale) -> u128 {
    Engine::best().square_norm(acc, scale.denominator(total_n))
}

/// The norm of a square, in units of 2^-32, rounded down; an integer that a database holds.
#[must_use]
pub fn norm_of_square(square: u128) -> u64 {
    u64::try_from(square.isqrt()).unwrap_or(u64::MAX).min(i64::MAX as u64)
}
