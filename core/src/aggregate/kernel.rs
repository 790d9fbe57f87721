//! The loops of the sum, compiled once for each instruction set; the only unsafe code of the crate.
//!
//! There is one source for each loop, in safe scalar Rust that the compiler vectorises. The
//! variants differ in the instructions that it may use, never in the arithmetic: Rust neither
//! contracts nor reorders floating-point operations, so all variants give the same bytes.

/// An f32 as it stands in memory or in a stored blob.
pub trait Value: Copy + Send + Sync {
    /// The number.
    fn get(self) -> f32;
    /// From the number.
    fn put(value: f32) -> Self;
}

impl Value for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }
    #[inline(always)]
    fn put(value: f32) -> Self {
        value
    }
}

/// Little-endian bytes, so that a blob is folded where it was read.
impl Value for [u8; 4] {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_le_bytes(self)
    }
    #[inline(always)]
    fn put(value: f32) -> Self {
        value.to_le_bytes()
    }
}

/// 1.5 · 2^52: adding it leaves the nearest integer in the low bits of the sum, ties to even, for
/// magnitudes up to 2^51.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Its bits, which are taken off again.
const ROUND_BITS: i64 = ROUND.to_bits().cast_signed();

/// The integer of one value at one weight, still with the bits of [`ROUND`] on it. Additions wrap
/// because those bits do; once they are off, the sum is exact.
#[inline(always)]
fn raw<V: Value>(value: V, weight: f64) -> i64 {
    (f64::from(value.get()) * weight + ROUND).to_bits().cast_signed()
}

#[inline(always)]
fn fold_loop<V: Value>(acc: &mut [i64], update: &[V], weight: f64) {
    for (sum, &value) in acc.iter_mut().zip(update) {
        *sum = sum.wrapping_add(raw(value, weight).wrapping_sub(ROUND_BITS));
    }
}

#[inline(always)]
fn fold_two_loop<V: Value>(acc: &mut [i64], [(a, wa), (b, wb)]: [(&[V], f64); 2]) {
    for ((sum, &a), &b) in acc.iter_mut().zip(a).zip(b) {
        let both = raw(a, wa).wrapping_add(raw(b, wb));
        *sum = sum.wrapping_add(both.wrapping_sub(ROUND_BITS.wrapping_mul(2)));
    }
}

#[inline(always)]
fn finish_loop<V: Value>(old: &[V], acc: &[i64], denominator: f64, out: &mut [V]) {
    for ((out, &old), &sum) in out.iter_mut().zip(old).zip(acc) {
        *out = V::put((f64::from(old.get()) + sum as f64 / denominator) as f32);
    }
}

/// Binary places of a mean in [`norm_loop`]: what is below 2^-33 counts as nothing.
const NORM_BITS: u32 = 32;
/// 2^[`NORM_BITS`].
const NORM_UNIT: f64 = (1_u64 << NORM_BITS) as f64;
/// Means at a time: so many squares of halves stay within a u64.
const NORM_RUN: usize = 1 << 12;
/// Where a mean's magnitude is cut in two, so that its square is three products of 32-bit numbers,
/// which every instruction set has.
const NORM_HALF: u32 = 24;

/// Σ rint(|mean| · 2^32)²: a sum of integers, so it is the same in any cut and order. A mean is at
/// most 2^16, its halves are below 2^25, and 2^30 squares fit the 128 bits with room.
#[inline(always)]
fn norm_loop(acc: &[i64], denominator: f64) -> u128 {
    let mut norm = 0;
    for run in acc.chunks(NORM_RUN) {
        let (mut high, mut mixed, mut low) = (0_u64, 0_u64, 0_u64);
        for &sum in run {
            let mean = (sum as f64 / denominator).abs();
            let bits = (mean * NORM_UNIT + ROUND).to_bits().cast_signed().wrapping_sub(ROUND_BITS);
            let (h, l) = ((bits >> NORM_HALF) & 0x1ff_ffff, bits & 0xff_ffff);
            let (h, l) = (h.cast_unsigned(), l.cast_unsigned());
            high += h * h;
            mixed += h * l;
            low += l * l;
        }
        norm += (u128::from(high) << (2 * NORM_HALF))
            + (u128::from(mixed) << (NORM_HALF + 1))
            + u128::from(low);
    }
    norm
}

#[inline(always)]
fn plain_add_loop<V: Value>(acc: &mut [f32], update: &[V]) {
    for (sum, &value) in acc.iter_mut().zip(update) {
        *sum += value.get();
    }
}

/// An instruction set to run the loops with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Engine {
    /// What every machine of this architecture has.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// All that this machine can run, the widest last.
    #[must_use]
    pub fn all() -> Vec<Self> {
        // Only here do the other kinds come into being, and only where the machine has them: the
        // unsafe blocks below rest on that.
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut all = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                all.push(Self(Kind::Avx2));
            }
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512dq")
            {
                all.push(Self(Kind::Avx512));
            }
        }
        all
    }

    /// The widest that this machine can run, found once.
    #[must_use]
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::all().last().copied().unwrap_or(Self::PORTABLE))
    }

    /// Its name, for logs and benches.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// [`super::fold`] at a weight of [`super::Scale::weight`].
    #[allow(unsafe_code)]
    pub fn fold<V: Value>(self, acc: &mut [i64], update: &[V], weight: f64) {
        check_fold(acc, update, weight);
        match self.0 {
            Kind::Portable => fold_loop(acc, update, weight),
            // SAFETY: `all` made this engine after it had found AVX2 on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::fold_avx2(acc, update, weight) },
            // SAFETY: `all` made this engine after it had found AVX-512 F and DQ on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { x86::fold_avx512(acc, update, weight) },
        }
    }

    /// [`super::fold_two`] at weights of [`super::Scale::weight`].
    #[allow(unsafe_code)]
    pub fn fold_two<V: Value>(self, acc: &mut [i64], updates: [(&[V], f64); 2]) {
        for (update, weight) in updates {
            check_fold(acc, update, weight);
        }
        match self.0 {
            Kind::Portable => fold_two_loop(acc, updates),
            // SAFETY: `all` made this engine after it had found AVX2 on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::fold_two_avx2(acc, updates) },
            // SAFETY: `all` made this engine after it had found AVX-512 F and DQ on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { x86::fold_two_avx512(acc, updates) },
        }
    }

    /// [`super::finish`] with a denominator of [`super::Scale::denominator`].
    #[allow(unsafe_code)]
    pub fn finish<V: Value>(self, old: &[V], acc: &[i64], denominator: f64, out: &mut [V]) {
        assert!(old.len() == acc.len() && acc.len() == out.len(), "lengths differ");
        match self.0 {
            Kind::Portable => finish_loop(old, acc, denominator, out),
            // SAFETY: `all` made this engine after it had found AVX2 on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::finish_avx2(old, acc, denominator, out) },
            // SAFETY: `all` made this engine after it had found AVX-512 F and DQ on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { x86::finish_avx512(old, acc, denominator, out) },
        }
    }

    /// [`super::square_norm`] with a denominator of [`super::Scale::denominator`].
    #[allow(unsafe_code)]
    #[must_use]
    pub fn square_norm(self, acc: &[i64], denominator: f64) -> u128 {
        match self.0 {
            Kind::Portable => norm_loop(acc, denominator),
            // SAFETY: `all` made this engine after it had found AVX2 on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::norm_avx2(acc, denominator) },
            // SAFETY: `all` made this engine after it had found AVX-512 F and DQ on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { x86::norm_avx512(acc, denominator) },
        }
    }

    /// The plain in-place f32 add: the yardstick of benches, with the same instructions. Its result
    /// depends on the order of updates, so no fold uses it.
    #[allow(unsafe_code)]
    pub fn plain_add<V: Value>(self, acc: &mut [f32], update: &[V]) {
        assert!(acc.len() == update.len(), "lengths differ");
        match self.0 {
            Kind::Portable => plain_add_loop(acc, update),
            // SAFETY: `all` made this engine after it had found AVX2 on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::plain_add_avx2(acc, update) },
            // SAFETY: `all` made this engine after it had found AVX-512 F and DQ on this machine.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { x86::plain_add_avx512(acc, update) },
        }
    }
}

/// The contract of a fold. A wrong length is a wrong model and stops in every build; the values
/// are looked at in debug builds alone.
fn check_fold<V: Value>(acc: &[i64], update: &[V], weight: f64) {
    assert!(acc.len() == update.len(), "lengths differ");
    debug_assert!(
        update.iter().all(|v| (f64::from(v.get()) * weight).abs() <= 1_125_899_906_842_624.0),
        "a value is not finite or above max_abs: it was never checked"
    );
}

/// The loops again, with the instructions of each set allowed. The functions are safe in themselves;
/// calling one on a machine without the set is what is not.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Value, finish_loop, fold_loop, fold_two_loop, norm_loop, plain_add_loop};

    macro_rules! variants {
        ($features:literal, $fold:ident, $fold_two:ident, $finish:ident, $norm:ident,
            $plain_add:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $fold<V: Value>(acc: &mut [i64], update: &[V], weight: f64) {
                fold_loop(acc, update, weight);
            }

            #[target_feature(enable = $features)]
            pub(super) fn $fold_two<V: Value>(acc: &mut [i64], updates: [(&[V], f64); 2]) {
                fold_two_loop(acc, updates);
            }

            #[target_feature(enable = $features)]
            pub(super) fn $finish<V: Value>(old: &[V], acc: &[i64], by: f64, out: &mut [V]) {
                finish_loop(old, acc, by, out);
            }

            #[target_feature(enable = $features)]
            pub(super) fn $norm(acc: &[i64], by: f64) -> u128 {
                norm_loop(acc, by)
            }

            #[target_feature(enable = $features)]
            pub(super) fn $plain_add<V: Value>(acc: &mut [f32], update: &[V]) {
                plain_add_loop(acc, update);
            }
        };
    }

    variants!("avx2", fold_avx2, fold_two_avx2, finish_avx2, norm_avx2, plain_add_avx2);
    variants!(
        "avx512f,avx512dq",
        fold_avx512,
        fold_two_avx512,
        finish_avx512,
        norm_avx512,
        plain_add_avx512
    );
}
