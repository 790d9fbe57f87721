//! Log-mel features: frames of sound, a Hann window, the power spectrum, triangles on the mel scale,
//! the natural logarithm.
//!
//! The transform is written out in f64 over `libm`: the same recording gives the same features on
//! every machine, which a library that picks instructions at run time does not promise.

use std::f64::consts::PI;

/// Below this a filter's energy counts as silence: the logarithm stays finite.
const ENERGY_MIN: f64 = 1e-10;

/// Which features are computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MelConfig {
    /// Samples a second that recordings must have.
    pub sample_rate: u32,
    /// Length of a frame in milliseconds.
    pub frame_ms: f64,
    /// From the start of one frame to the next, in milliseconds.
    pub hop_ms: f64,
    /// Filters: features of a step.
    pub mels: usize,
    /// Lowest frequency in Hz.
    pub low_hz: f64,
    /// Highest frequency in Hz; at most half the sample rate.
    pub high_hz: f64,
}

impl MelConfig {
    /// Samples of a frame, at least two.
    #[must_use]
    pub fn frame(&self) -> usize {
        // The configuration bounds both factors; the product is far below 2^53.
        ((f64::from(self.sample_rate) * self.frame_ms / 1000.0).round() as usize).max(2)
    }

    /// Samples from a frame to the next, at least one.
    #[must_use]
    pub fn hop(&self) -> usize {
        ((f64::from(self.sample_rate) * self.hop_ms / 1000.0).round() as usize).max(1)
    }
}

/// Window, twiddle factors and filters, computed once.
pub(super) struct MelBank {
    frame: usize,
    hop: usize,
    window: Vec<f64>,
    twiddles: Vec<(f64, f64)>,
    /// For each filter its first bin and its weights.
    filters: Vec<(usize, Vec<f64>)>,
}

impl MelBank {
    pub(super) fn new(config: &MelConfig) -> Self {
        let frame = config.frame();
        let size = frame.next_power_of_two();
        let hann = |at: usize| 0.5 - 0.5 * libm::cos(2.0 * PI * at as f64 / frame as f64);
        let twiddle = |at: usize| {
            let angle = -2.0 * PI * at as f64 / size as f64;
            (libm::cos(angle), libm::sin(angle))
        };
        Self {
            frame,
            hop: config.hop(),
            window: (0..frame).map(hann).collect(),
            twiddles: (0..size / 2).map(twiddle).collect(),
            filters: filters(config, size),
        }
    }

    /// How many frames a recording has; a shorter one than a frame has one.
    pub(super) fn frames(&self, samples: usize) -> usize {
        1 + samples.saturating_sub(self.frame) / self.hop
    }

    /// How many samples the first `steps` frames have.
    pub(super) fn samples(&self, steps: usize) -> usize {
        self.frame.saturating_add(self.hop.saturating_mul(steps.saturating_sub(1)))
    }

    /// The features of at most `steps` frames, one frame behind the other.
    pub(super) fn features(&self, samples: &[f64], steps: usize) -> Vec<f32> {
        let size = 2 * self.twiddles.len();
        let frames = self.frames(samples.len()).min(steps);
        let mut features = Vec::with_capacity(frames * self.filters.len());
        let mut buffer = vec![(0.0, 0.0); size];
        for start in (0..frames).map(|frame| frame * self.hop) {
            buffer.fill((0.0, 0.0));
            let piece = samples.get(start..).unwrap_or_default();
            for ((slot, sample), weight) in buffer.iter_mut().zip(piece).zip(&self.window) {
                slot.0 = sample * weight;
            }
            transform(&mut buffer, &self.twiddles);
            for (first, weights) in &self.filters {
                let bins = buffer.iter().skip(*first).zip(weights);
                let energy: f64 = bins.map(|((re, im), w)| (re * re + im * im) * w).sum();
                features.push(libm::log(energy.max(ENERGY_MIN)) as f32);
            }
        }
        features
    }
}

fn mel(hz: f64) -> f64 {
    2595.0 * libm::log10(1.0 + hz / 700.0)
}

fn hertz(mel: f64) -> f64 {
    700.0 * (libm::pow(10.0, mel / 2595.0) - 1.0)
}

/// Triangles between neighbouring points that are equally far apart in mel.
fn filters(config: &MelConfig, size: usize) -> Vec<(usize, Vec<f64>)> {
    let (low, high) = (mel(config.low_hz), mel(config.high_hz));
    let point = |at: usize| hertz(low + (high - low) * at as f64 / (config.mels + 1) as f64);
    let hz_of_bin = f64::from(config.sample_rate) / size as f64;
    let triangle = |at: usize| {
        let (left, middle, right) = (point(at), point(at + 1), point(at + 2));
        let weight = |bin: usize| {
            let hz = bin as f64 * hz_of_bin;
            let up = (hz - left) / (middle - left);
            let down = (right - hz) / (right - middle);
            up.min(down).max(0.0)
        };
        let mut bins = (0..=size / 2).filter(|&bin| weight(bin) > 0.0);
        // A triangle between two bins takes the nearer one, so that no feature is always silent.
        let nearest = ((middle / hz_of_bin).round() as usize).min(size / 2);
        let Some(first) = bins.next() else { return (nearest, vec![1.0]) };
        let last = bins.next_back().unwrap_or(first);
        (first, (first..=last).map(weight).collect())
    };
    (0..config.mels).map(triangle).collect()
}

/// The discrete Fourier transform in place, of a power of two (Cooley and Tukey 1965).
fn transform(values: &mut [(f64, f64)], twiddles: &[(f64, f64)]) {
    let size = values.len();
    let bits = size.trailing_zeros();
    for at in 0..size {
        let other = at.reverse_bits() >> (usize::BITS - bits);
        if at < other {
            values.swap(at, other);
        }
    }
    let mut half = 1;
    while half < size {
        let stride = size / (2 * half);
        for block in values.chunks_exact_mut(2 * half) {
            let (left, right) = block.split_at_mut(half);
            for (at, (a, b)) in left.iter_mut().zip(right).enumerate() {
                let (wr, wi) = twiddles[at * stride];
                let turned = (b.0 * wr - b.1 * wi, b.0 * wi + b.1 * wr);
                *b = (a.0 - turned.0, a.1 - turned.1);
                *a = (a.0 + turned.0, a.1 + turned.1);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::{MelBank, MelConfig, transform};

    #[test]
    fn the_transform_is_the_sum_that_defines_it() {
        let size = 16;
        let angle = |k: usize| -2.0 * PI * k as f64 / size as f64;
        let twiddles: Vec<_> = (0..size / 2).map(|k| (angle(k).cos(), angle(k).sin())).collect();
        let input: Vec<(f64, f64)> =
            (0..size).map(|k| ((k * k % 7) as f64, (k % 3) as f64)).collect();
        let mut fast = input.clone();
        transform(&mut fast, &twiddles);
        for (bin, &(re, im)) in fast.iter().enumerate() {
            let mut slow = (0.0, 0.0);
            for (at, &(x, y)) in input.iter().enumerate() {
                let (c, s) = (angle(at * bin).cos(), angle(at * bin).sin());
                slow = (slow.0 + x * c - y * s, slow.1 + x * s + y * c);
            }
            assert!((re - slow.0).abs() < 1e-9 && (im - slow.1).abs() < 1e-9, "bin {bin}");
        }
    }

    #[test]
    fn a_tone_is_loudest_in_its_filter() {
        let config = MelConfig {
            sample_rate: 8000,
            frame_ms: 32.0,
            hop_ms: 10.0,
            mels: 20,
            low_hz: 0.0,
            high_hz: 4000.0,
        };
        let bank = MelBank::new(&config);
        let loudest = |hz: f64| {
            let tone = |at: usize| (2.0 * PI * hz * at as f64 / 8000.0).sin();
            let samples: Vec<f64> = (0..800).map(tone).collect();
            let features = bank.features(&samples, 1);
            let best = (0..20).max_by(|&a, &b| features[a].total_cmp(&features[b]));
            best.expect("twenty filters")
        };
        assert!(loudest(300.0) < loudest(1000.0) && loudest(1000.0) < loudest(3000.0));
        assert_eq!(bank.frames(800), 1 + (800 - 256) / 80);
        assert_eq!(bank.frames(3), 1);
        let silent = bank.features(&[0.0; 256], 5);
        assert!(silent.iter().all(|value| (f64::from(*value) - 1e-10_f64.ln()).abs() < 1e-5));
    }
}
