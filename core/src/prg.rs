//! Seeded randomness: one generator, fixed for ever, so that a seed means the same bytes everywhere.
//!
//! xoshiro256++ (Blackman and Vigna 2019, public domain), seeded from a SHA-256 digest of what the
//! draw is for. It is fast and reproducible; it is *not* for keys, masks or privacy noise.

use crate::digest::Digest;
use crate::name::ClientName;

/// A deterministic generator of uniform numbers.
#[derive(Debug, Clone)]
pub struct Prg([u64; 4]);

impl Prg {
    /// A generator for one purpose of a job, such as `"cohort"`; `round` and `attempt` are part of
    /// the seed.
    #[must_use]
    pub fn for_round(job_seed: u64, purpose: &str, round: u32, attempt: u32) -> Self {
        Self::from_digest(Digest::of_fields(
            "tributary/seed/round/v1",
            [
                job_seed.to_le_bytes().as_slice(),
                purpose.as_bytes(),
                &round.to_le_bytes(),
                &attempt.to_le_bytes(),
            ],
        ))
    }

    /// A generator for a client's work in a round: no attempt, task id or time is in the seed, so a
    /// repeated task draws the same numbers.
    #[must_use]
    pub fn for_client(job_seed: u64, round: u32, client: &ClientName, purpose: &str) -> Self {
        Self::from_digest(Digest::of_fields(
            "tributary/seed/client/v1",
            [
                job_seed.to_le_bytes().as_slice(),
                &round.to_le_bytes(),
                client.as_str().as_bytes(),
                purpose.as_bytes(),
            ],
        ))
    }

    /// A generator for a named thing of a job, such as the initial values of one tensor.
    #[must_use]
    pub fn for_name(job_seed: u64, purpose: &str, name: &str) -> Self {
        Self::from_digest(Digest::of_fields(
            "tributary/seed/name/v1",
            [job_seed.to_le_bytes().as_slice(), purpose.as_bytes(), name.as_bytes()],
        ))
    }

    fn from_digest(digest: Digest) -> Self {
        let bytes = digest.as_bytes();
        let mut state = [0; 4];
        for (word, chunk) in state.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.iter().rev().fold(0, |acc, &b| (acc << 8) | u64::from(b));
        }
        // The all-zero state is the one that the generator cannot leave.
        if state == [0; 4] {
            state[0] = 1;
        }
        Self(state)
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A uniform integer below `bound`, without bias (Lemire 2019); 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            if (wide as u64) >= threshold {
                return (wide >> 64) as u64;
            }
        }
    }

    /// A uniform number in [0, 1) with 24 bits, exact in f32.
    pub fn unit_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// A uniform number in [0, 1) with 53 bits.
    pub fn unit_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Two independent standard normal numbers (Box and Muller 1958), by the `libm` crate: the same bits
    /// everywhere.
    pub fn normal_pair(&mut self) -> [f64; 2] {
        // 1 − u is in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - self.unit_f64())).sqrt();
        let angle = 2.0 * std::f64::consts::PI * self.unit_f64();
        [radius * libm::cos(angle), radius * libm::sin(angle)]
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// `count` distinct indices below `total`, in drawn order; all of them where `count ≥ total`.
    pub fn sample(&mut self, total: usize, count: usize) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..total).collect();
        let count = count.min(total);
        for i in 0..count {
            let j = i + self.below((total - i) as u64) as usize;
            indices.swap(i, j);
        }
        indices.truncate(count);
        indices
    }
}

#[cfg(test)]
mod tests {
    use super::Prg;

    #[test]
    fn the_generator_is_xoshiro256_plus_plus() {
        // The reference implementation from state {1, 2, 3, 4}.
        let mut prg = Prg([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| prg.next_u64()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn samples_are_distinct_and_every_index_is_drawn() {
        let mut prg = Prg::for_round(7, "cohort", 1, 1);
        let mut counts = [0_u32; 10];
        for _ in 0..1000 {
            let drawn = prg.sample(10, 3);
            assert_eq!(drawn.len(), 3);
            assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
            for i in drawn {
                counts[i] += 1;
            }
        }
        assert!(counts.iter().all(|&c| (230..370).contains(&c)), "{counts:?}");
        assert_eq!(prg.sample(3, 9).len(), 3);
    }

    #[test]
    fn purposes_do_not_share_a_stream() {
        let a = Prg::for_round(7, "cohort", 1, 1).next_u64();
        assert_eq!(a, Prg::for_round(7, "cohort", 1, 1).next_u64());
        assert_ne!(a, Prg::for_round(7, "cohort", 1, 2).next_u64());
        assert_ne!(a, Prg::for_round(7, "replacement", 1, 1).next_u64());
        assert_ne!(a, Prg::for_round(8, "cohort", 1, 1).next_u64());
    }
}
