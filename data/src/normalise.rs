//! Normalisation by given constants: (value − mean) ⁄ deviation.
//!
//! The constants come from the job, from federated statistics or from the site's configuration;
//! they are never computed from one site's rows.

use super::DataError;

/// One mean and one deviation for each feature or channel; a single one holds for all.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalise {
    /// What is subtracted.
    pub mean: Vec<f64>,
    /// What is divided by; none is 0.
    pub deviation: Vec<f64>,
}

impl Normalise {
    /// Normalises rows of `shape` along their last axis (features).
    ///
    /// # Errors
    /// When the constants are not as many as the axis is long.
    pub fn apply_last(&self, values: &mut [f32], shape: &[usize]) -> Result<(), DataError> {
        let features = shape.last().copied().unwrap_or(1);
        self.check(features, shape)?;
        for row in values.chunks_exact_mut(features.max(1)) {
            for (at, value) in row.iter_mut().enumerate() {
                *value = self.of(at, *value);
            }
        }
        Ok(())
    }

    /// Normalises rows of `shape` along their first axis (channels).
    ///
    /// # Errors
    /// When the constants are not as many as the axis is long.
    pub fn apply_first(&self, values: &mut [f32], shape: &[usize]) -> Result<(), DataError> {
        let channels = shape.first().copied().unwrap_or(1);
        self.check(channels, shape)?;
        let plane: usize = shape.iter().skip(1).product();
        for (at, plane) in values.chunks_exact_mut(plane.max(1)).enumerate() {
            for value in plane {
                *value = self.of(at % channels.max(1), *value);
            }
        }
        Ok(())
    }

    fn of(&self, at: usize, value: f32) -> f32 {
        let pick = |list: &[f64]| list.get(at).or(list.first()).copied();
        let (mean, deviation) = (pick(&self.mean), pick(&self.deviation));
        ((f64::from(value) - mean.unwrap_or(0.0)) / deviation.unwrap_or(1.0)) as f32
    }

    fn check(&self, along: usize, shape: &[usize]) -> Result<(), DataError> {
        let fits = |list: &[f64]| list.len() == 1 || list.len() == along;
        let divides = self.deviation.iter().all(|value| value.is_finite() && *value != 0.0);
        if fits(&self.mean) && fits(&self.deviation) && divides {
            return Ok(());
        }
        Err(DataError::Unfit {
            what: "number of constants to normalise by",
            expected: format!("1 or {along} means and deviations (not 0) for rows of {shape:?}"),
            found: format!("{} means, {} deviations", self.mean.len(), self.deviation.len()),
            advice: "give one pair for each feature or channel".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Normalise;

    #[test]
    fn constants_follow_features_or_channels() {
        let by = Normalise { mean: vec![1.0, 2.0], deviation: vec![2.0, 4.0] };
        let mut rows = [3.0, 2.0, 1.0, 10.0];
        by.apply_last(&mut rows, &[2]).expect("two features");
        assert_eq!(rows, [1.0, 0.0, 0.0, 2.0]);
        let mut pictures = [3.0, 1.0, 2.0, 6.0];
        by.apply_first(&mut pictures, &[2, 1, 2]).expect("two channels");
        assert_eq!(pictures, [1.0, 0.0, 0.0, 1.0]);
        let one = Normalise { mean: vec![1.0], deviation: vec![0.0] };
        let message = one.apply_last(&mut rows, &[2]).expect_err("zero").to_string();
        assert!(message.contains("expected 1 or 2 means and deviations (not 0)"), "{message}");
    }
}
