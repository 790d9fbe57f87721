//! Synthetic(α, β): the rows of Li et al. 2020 (section 5.1, and the paper's own generator), drawn by seed.
//!
//! Each of 30 devices draws a linear model of its own and rows around a centre of its own. α spreads the
//! models and β the centres, both as standard deviations, as the paper's generator has them. Sizes follow a
//! power law, ⌊lognormal(4, 2)⌋ + 50, and the last tenth of a device's rows is for testing.

use anyhow::Context;
use tributary_core::prg::Prg;
use tributary_core::spec::data::DataKind;
use tributary_data::Dataset;

use crate::demo::data::{Share, Shares};

pub(super) const DEVICES: usize = 30;
pub(super) const FEATURES: usize = 60;
pub(super) const CLASSES: usize = 10;
/// The data set's name in jobs.
pub(super) const NAME: &str = "synthetic";
/// Fewest rows of a device.
const ROWS_MIN: usize = 50;
/// A draw above it comes once in 10¹² devices, and would not fit a bench.
const ROWS_MAX: f64 = 1e7;

/// The devices' rows, and all their test rows in one set.
pub(super) fn synthetic(alpha: f64, beta: f64, seed: u64) -> anyhow::Result<Shares> {
    let (mut train, mut test) = (Vec::with_capacity(DEVICES), Rows::default());
    for at in 1..=DEVICES {
        let site = format!("device-{at:02}");
        let mut device = Device::draw(alpha, beta, Prg::for_name(seed, NAME, &site));
        // The rows of a device are alike in law, so there is nothing to shuffle before the cut.
        let training = device.size * 9 / 10;
        let rows = device.rows(training).dataset()?;
        device.add_rows(device.size - training, &mut test);
        train.push(Share { site, rows });
    }
    Ok(Shares {
        train,
        held_out: Some(test.dataset().context("the test rows")?),
        kind: DataKind::Table,
        name: NAME.to_owned(),
        title: format!("Synthetic({alpha}, {beta})"),
        files: None,
    })
}

#[derive(Default)]
struct Rows {
    inputs: Vec<f32>,
    labels: Vec<u32>,
}

impl Rows {
    fn dataset(self) -> anyhow::Result<Dataset> {
        Ok(Dataset::from_f32(self.inputs, self.labels, &[FEATURES], CLASSES as u32)?)
    }
}

/// Standard normal numbers, one at a time.
struct Normals {
    prg: Prg,
    spare: Option<f64>,
}

impl Normals {
    fn next(&mut self) -> f64 {
        self.spare.take().unwrap_or_else(|| {
            let [first, second] = self.prg.normal_pair();
            self.spare = Some(second);
            first
        })
    }

    /// Around a mean, with deviation 1.
    fn around<const N: usize>(&mut self, mean: f64) -> [f64; N] {
        std::array::from_fn(|_| mean + self.next())
    }
}

/// What a device's rows are drawn from.
struct Device {
    size: usize,
    centre: [f64; FEATURES],
    weights: [[f64; FEATURES]; CLASSES],
    bias: [f64; CLASSES],
    normals: Normals,
}

impl Device {
    fn draw(alpha: f64, beta: f64, prg: Prg) -> Self {
        let mut normals = Normals { prg, spare: None };
        let lognormal = libm::exp(4.0 + 2.0 * normals.next()).min(ROWS_MAX);
        let model_mean = alpha * normals.next();
        let centre_mean = beta * normals.next();
        Self {
            size: lognormal as usize + ROWS_MIN,
            centre: normals.around(centre_mean),
            weights: std::array::from_fn(|_| normals.around(model_mean)),
            bias: normals.around(model_mean),
            normals,
        }
    }

    /// x ~ N(centre, diag(j^−1.2)), y = argmax(Wx + b).
    fn row(&mut self) -> ([f64; FEATURES], u32) {
        let x = std::array::from_fn(|j| {
            self.centre[j] + libm::pow(j as f64 + 1.0, -0.6) * self.normals.next()
        });
        let score = |class: usize| {
            self.weights[class].iter().zip(&x).fold(self.bias[class], |sum, (w, x)| sum + w * x)
        };
        let scores: [f64; CLASSES] = std::array::from_fn(score);
        let best =
            (0..CLASSES).fold(0, |best, at| if scores[at] > scores[best] { at } else { best });
        (x, best as u32)
    }

    fn rows(&mut self, count: usize) -> Rows {
        let mut rows = Rows::default();
        self.add_rows(count, &mut rows);
        rows
    }

    fn add_rows(&mut self, count: usize, rows: &mut Rows) {
        for _ in 0..count {
            let (x, label) = self.row();
            rows.inputs.extend(x.map(|value| value as f32));
            rows.labels.push(label);
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_core::prg::Prg;

    use super::{CLASSES, DEVICES, Device, FEATURES, synthetic};

    fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        (mean, (squares / values.len() as f64).sqrt())
    }

    fn devices(alpha: f64, beta: f64) -> Vec<Device> {
        let draw = |at| Device::draw(alpha, beta, Prg::for_name(at, "test", "device"));
        (0..2000).map(draw).collect()
    }

    #[test]
    fn devices_are_spread_as_the_paper_has_them() {
        let near = |found: f64, expected: f64| (found - expected).abs() < 0.1;
        let devices = devices(0.5, 2.0);
        // Of large ones, ⌊lognormal⌋ + 50 is the lognormal itself but for less than one in 55.
        let sizes: Vec<f64> = devices.iter().map(|d| ((d.size - 50) as f64 + 0.5).ln()).collect();
        let (mean, deviation) = mean_and_deviation(&sizes);
        assert!(near(mean, 4.0) && near(deviation, 2.0), "{mean} {deviation}");
        let mean_of = |values: &[f64]| mean_and_deviation(values).0;
        // A mean of 60 adds 1 ⁄ 60 to the variance of what it is around.
        let centres: Vec<f64> = devices.iter().map(|d| mean_of(&d.centre)).collect();
        assert!(near(mean_and_deviation(&centres).1, 2.0), "β");
        let models: Vec<f64> = devices.iter().map(|d| mean_of(d.weights.as_flattened())).collect();
        assert!(near(mean_and_deviation(&models).1, 0.5), "α");
        let biases: Vec<f64> = devices.iter().map(|d| mean_of(&d.bias)).collect();
        let apart: Vec<f64> = models.iter().zip(&biases).map(|(w, b)| w - b).collect();
        assert!(near(mean_and_deviation(&apart).1, (0.1_f64 + 1.0 / 600.0).sqrt()), "one mean");
        let spread = |d: &Device| mean_and_deviation(d.weights.as_flattened()).1;
        assert!(near(mean_of(&devices.iter().map(spread).collect::<Vec<_>>()), 1.0), "W");
    }

    #[test]
    fn rows_vary_less_from_feature_to_feature_and_have_the_device_s_classes() {
        let mut device = Device::draw(1.0, 1.0, Prg::for_name(1, "test", "rows"));
        let rows: Vec<_> = (0..4000).map(|_| device.row()).collect();
        for j in [0, 1, 9, FEATURES - 1] {
            let column: Vec<f64> = rows.iter().map(|(x, _)| x[j]).collect();
            let (mean, deviation) = mean_and_deviation(&column);
            let expected = ((j + 1) as f64).powf(-1.2).sqrt();
            assert!((deviation / expected - 1.0).abs() < 0.05, "feature {j}: {deviation}");
            assert!((mean - device.centre[j]).abs() < 0.1 * expected, "feature {j}: {mean}");
        }
        for (x, label) in &rows {
            let score = |class: usize| {
                let dot: f64 = x.iter().zip(&device.weights[class]).map(|(x, w)| x * w).sum();
                dot + device.bias[class]
            };
            let best = score(*label as usize);
            assert!((0..CLASSES).all(|class| score(class) <= best + 1e-9));
        }
    }

    #[test]
    fn a_seed_is_a_data_set_and_a_tenth_of_each_device_is_held_out() {
        let shares = synthetic(1.0, 1.0, 1).expect("rows");
        assert_eq!(shares.train.len(), DEVICES);
        let train: Vec<usize> = shares.train.iter().map(|share| share.rows.len()).collect();
        assert!(train.iter().all(|&rows| rows >= 45), "{train:?}");
        let held_out = shares.held_out.expect("rows").len();
        // n = train + test with train = ⌊0.9 n⌋: the test rows of each are ⌈train ⁄ 9⌉ or one more.
        let least: usize = train.iter().map(|rows| rows.div_ceil(9)).sum();
        assert!((least..=least + DEVICES).contains(&held_out), "{held_out} of {train:?}");
        let sizes = |seed| -> Vec<usize> {
            let shares = synthetic(1.0, 1.0, seed).expect("rows");
            shares.train.iter().map(|share| share.rows.len()).collect()
        };
        assert_eq!(sizes(1), train);
        assert_ne!(sizes(2), train);
    }
}
