//! One answer: any order, any cut, any instruction set, and the value that mathematics says.

use proptest::prelude::{any, proptest};

use super::{
    CONTRIBUTIONS_MAX, Engine, Scale, ScaleError, Weighting, finish, fold, fold_two,
    norm_of_square, square_norm,
};

/// A small generator for fixed cases: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In ±`size`.
    fn value(&mut self, size: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1 << 24) as f32;
        (unit * 2.0 - 1.0) * size
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

type Update = (Vec<f32>, u64);

fn updates(count: usize, len: usize, n_max: u64, size: f32, seed: u64) -> Vec<Update> {
    let mut numbers = Numbers(seed);
    let update = |_| {
        let values = (0..len).map(|_| numbers.value(size)).collect();
        (values, 1 + numbers.next() % n_max)
    };
    (0..count).map(update).collect()
}

/// The next values, one update a pass, in one piece.
fn mean(old: &[f32], updates: &[Update], scale: Scale) -> Vec<f32> {
    let mut acc = vec![0; old.len()];
    for (values, n) in updates {
        fold(&mut acc, values, *n, scale);
    }
    let mut out = vec![0.0; old.len()];
    finish(old, &acc, updates.iter().map(|(_, n)| n).sum(), scale, &mut out);
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn two_clients_weigh_as_their_examples() {
    let scale = Scale::for_roster(3, 6).expect("scale");
    let out = mean(&[0.0], &[(vec![0.0], 1), (vec![4.0], 3)], scale);
    assert_eq!(bits(&out), bits(&[3.0]));
}

/// The digest was computed with exact fractions, apart from this crate.
#[test]
fn a_fixed_case_keeps_its_bytes() {
    let scale = Scale::for_roster(1 << 20, 6).expect("scale");
    let out = mean(&[0.5; 1000], &updates(50, 1000, 1 << 20, 1.0, 7), scale);
    let bytes: Vec<u8> = out.iter().flat_map(|v| v.to_le_bytes()).collect();
    let digest = crate::digest::Digest::of(&bytes).hex();
    assert_eq!(digest, "e2883dd3df7a103a712c597a47132edde6f65b8573e6ab85d450545b52e9a64f");
}

#[test]
fn the_order_of_50_updates_changes_no_byte() {
    let scale = Scale::for_roster(1000, 6).expect("scale");
    let old = vec![0.125; 999];
    let mut updates = updates(50, 999, 1000, 2.0, 1);
    let expected = bits(&mean(&old, &updates, scale));
    for seed in 0..20 {
        Numbers(seed).shuffle(&mut updates);
        assert_eq!(bits(&mean(&old, &updates, scale)), expected);
    }
}

#[test]
fn the_mean_is_within_the_bound_of_an_f64_reference() {
    for (n_max, cap, size) in [(100, 1 << 20, 1.0), (1 << 20, 1 << 20, 64.0), (10, 10, 1e-7)] {
        let scale = Scale::for_roster(cap, 6).expect("scale");
        let updates = updates(40, 500, n_max, size, n_max);
        let total: u64 = updates.iter().map(|(_, n)| n).sum();
        let mut acc = vec![0; 500];
        updates.iter().for_each(|(values, n)| fold(&mut acc, values, *n, scale));
        let mean_n = total as f64 / updates.len() as f64;
        let bound = 2_f64.powi(-45) * scale.cap() as f64 / mean_n;
        for (i, &sum) in acc.iter().enumerate() {
            let exact: f64 = updates.iter().map(|(v, n)| f64::from(v[i]) * *n as f64).sum();
            let exact = exact / total as f64;
            let error = (sum as f64 / scale.denominator(total) - exact).abs();
            let rounding = exact.abs().max(f64::from(size)) * 1e-14;
            assert!(error <= bound + rounding, "{error} is above {bound}");
        }
    }
}

#[test]
fn a_weight_a_million_times_larger_does_not_drown_the_small_one() {
    let scale = Scale::for_roster(1_000_000, 6).expect("scale");
    let out = mean(&[0.0], &[(vec![1e-3], 1_000_000), (vec![50.0], 1)], scale);
    let exact = (1e-3_f32 as f64 * 1e6 + 50.0) / 1_000_001.0;
    assert!((f64::from(out[0]) - exact).abs() < 1e-10, "{}", out[0]);
}

#[test]
fn deltas_of_1e_minus_7_reach_the_weights() {
    let scale = Scale::for_roster(1 << 20, 6).expect("scale");
    let out = mean(&[0.0; 2], &[(vec![1e-7, -1e-7], 60), (vec![3e-7, -3e-7], 60)], scale);
    // 60 examples under a cap of 2^20 leave a step of about 2^-30: the bound is half of it.
    for (value, exact) in out.iter().zip([2e-7, -2e-7]) {
        assert!((f64::from(*value) - exact).abs() < 5.1e-10, "{value}");
    }
}

#[test]
fn negative_zeros_add_nothing() {
    let scale = Scale::for_roster(8, 6).expect("scale");
    let mut acc = vec![0; 2];
    fold(&mut acc, &[-0.0, 0.0], 8, scale);
    assert_eq!(acc, [0, 0]);
    let mut out = [1.0; 2];
    finish(&[-0.0, 5.0], &acc, 8, scale, &mut out);
    assert_eq!(bits(&out), bits(&[0.0, 5.0]));
}

#[test]
fn the_largest_round_does_not_overflow() {
    for x in [0, 6, 16] {
        let scale = Scale::for_roster(1 << 29, x).expect("scale");
        let (max, n) = (scale.max_abs(), scale.cap());
        let mut acc = vec![0; 2];
        for _ in 0..CONTRIBUTIONS_MAX / 2 {
            fold_two(&mut acc, [(&[max, -max], n), (&[max, -max], n)], scale);
        }
        assert_eq!(acc, [1 << 62, -(1 << 62)]);
        let mut out = [0.0; 2];
        finish(&[0.0; 2], &acc, n * CONTRIBUTIONS_MAX as u64, scale, &mut out);
        assert_eq!(out, [max, -max]);
    }
}

#[test]
fn a_scale_is_the_least_that_holds_the_roster() {
    let exponent = |n| Scale::for_roster(n, 6).map(Scale::cap_exponent);
    assert_eq!([0, 1, 2, 3, 4, 5].map(exponent), [0, 0, 1, 2, 2, 3].map(Ok));
    assert_eq!(exponent(1 << 29), Ok(29));
    assert_eq!(exponent((1 << 29) + 1), Err(ScaleError::Examples((1 << 29) + 1)));
    assert_eq!(exponent(u64::MAX), Err(ScaleError::Examples(u64::MAX)));
    assert_eq!(Scale::new(30, 6), Err(ScaleError::Cap(30)));
    assert_eq!(Scale::new(0, 17), Err(ScaleError::MaxAbs(17)));
    let scale = Scale::new(20, 6).expect("scale");
    assert_eq!((scale.cap(), scale.max_abs(), scale.fraction_bits()), (1 << 20, 64.0, 44));
    assert_eq!(Weighting::Examples.weight(7), 7);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "never checked")]
fn a_value_that_nobody_checked_stops_a_debug_build() {
    let scale = Scale::for_roster(1, 6).expect("scale");
    fold(&mut [0], &[f32::NAN], 1, scale);
}

/// Ties and neighbours of ties: where an engine that rounds otherwise would show.
fn rounding_traps() -> Vec<f32> {
    let mut values: Vec<f32> = (-40..40).map(|i| i as f32 * 2_f32.powi(-45)).collect();
    values.extend([0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, 64.0, -64.0]);
    values
}

#[test]
fn all_instruction_sets_give_the_same_bytes() {
    let scale = Scale::for_roster(1 << 20, 6).expect("scale");
    let mut values = rounding_traps();
    let mut numbers = Numbers(3);
    values.extend((0..1013).map(|_| numbers.value(64.0)));
    for n in [0, 1, 3, 1_048_575, 1 << 20] {
        let run = |engine: Engine| {
            let mut acc: Vec<i64> = values.iter().map(|_| 0).collect();
            let bytes: Vec<[u8; 4]> = values.iter().map(|v| v.to_le_bytes()).collect();
            engine.fold(&mut acc, &values, scale.weight(n));
            engine.fold_two(&mut acc, [(&values, scale.weight(1)), (&values, scale.weight(n))]);
            engine.fold(&mut acc, &bytes, scale.weight(n));
            let mut out = vec![0.0; values.len()];
            engine.finish(&values, &acc, scale.denominator(3 * n + 1), &mut out);
            (acc, bits(&out))
        };
        let portable = run(Engine::PORTABLE);
        for (&sum, &x) in portable.0.iter().zip(&values) {
            let q = |n| (f64::from(x) * scale.weight(n)).round_ties_even() as i64;
            assert_eq!(sum, 3 * q(n) + q(1), "{x}");
        }
        for engine in Engine::all() {
            assert_eq!(run(engine), portable, "{}", engine.name());
        }
    }
}

#[test]
fn a_norm_is_exact_in_any_cut_and_instruction_set() {
    let scale = Scale::for_roster(3, 6).expect("scale");
    let mut acc = vec![0; 4];
    fold(&mut acc, &[3.0, -4.0, 0.0, 12.0], 3, scale);
    assert_eq!(norm_of_square(square_norm(&acc, 3, scale)), 13 << 32, "3² + 4² + 12² = 13²");
    assert_eq!(norm_of_square(0), 0);
    // Values of a thousandth of a millionth still count; the largest of all fit.
    let mut small = vec![0; 10_000];
    fold(&mut small, &vec![1e-9; 10_000], 3, scale);
    let norm = norm_of_square(square_norm(&small, 3, scale)) as f64 / (1_u64 << 32) as f64;
    assert!((norm - 1e-7).abs() < 1e-8, "{norm}");
    let widest = Scale::for_roster(1, 16).expect("scale");
    let mut large = vec![0; 9000];
    fold(&mut large, &vec![-65_536.0; 9000], 1, widest);
    let expected = 9000 * (1_u128 << 48) * (1_u128 << 48);
    assert_eq!(square_norm(&large, 1, widest), expected);

    let mut numbers = Numbers(3);
    let values: Vec<f32> = (0..20_000).map(|_| numbers.value(60.0)).collect();
    let mut acc = vec![0; values.len()];
    fold(&mut acc, &values, 2, scale);
    let whole = square_norm(&acc, 2, scale);
    for engine in Engine::all() {
        for cut in [1, 7, 4096, 4097, 20_000] {
            let parts = acc.chunks(cut).map(|part| engine.square_norm(part, scale.denominator(2)));
            assert_eq!(parts.sum::<u128>(), whole, "{} in parts of {cut}", engine.name());
        }
    }
}

#[test]
fn large_sums_become_the_same_floats_everywhere() {
    let mut numbers = Numbers(9);
    let acc: Vec<i64> = (0..1001).map(|i| (numbers.next() as i64) >> (1 + i % 40)).collect();
    let old: Vec<f32> = acc.iter().map(|_| numbers.value(1.0)).collect();
    let run = |engine: Engine| {
        let mut out = vec![0.0; acc.len()];
        engine.finish(&old, &acc, 12_345.0 * 1024.0, &mut out);
        bits(&out)
    };
    for engine in Engine::all() {
        assert_eq!(run(engine), run(Engine::PORTABLE), "{}", engine.name());
    }
}

proptest! {
    #[test]
    fn order_pairs_and_cuts_change_no_byte(
        seed in any::<u64>(),
        count in 1..30_usize,
        len in 1..200_usize,
        cut in 1..200_usize,
        n_max in 1_u64..1 << 20,
    ) {
        let scale = Scale::for_roster(1 << 20, 6).expect("scale");
        let mut updates = updates(count, len, n_max, 64.0, seed);
        let mut plain = vec![0; len];
        updates.iter().for_each(|(values, n)| fold(&mut plain, values, *n, scale));
        Numbers(seed).shuffle(&mut updates);
        let mut cut_up = vec![0; len];
        for (chunk, acc) in cut_up.chunks_mut(cut).enumerate() {
            let range = chunk * cut..chunk * cut + acc.len();
            let part = |u: usize| (&updates[u].0[range.clone()], updates[u].1);
            for u in (0..count - 1).step_by(2) {
                fold_two(acc, [part(u), part(u + 1)], scale);
            }
            if count % 2 == 1 {
                let (values, n) = part(count - 1);
                fold(acc, values, n, scale);
            }
        }
        assert_eq!(cut_up, plain);
    }
}
