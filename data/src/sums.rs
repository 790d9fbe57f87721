//! Statistics of a site's rows as sums that add up over sites: exact integers, so that any order
//! and any grouping of the sites gives the same bytes.
//!
//! A value x enters as q = rint(x · 2^20), and its square as q²; both are added in 128 bits. The
//! error of a mean is at most 2^-21, that of rounding each value.

use std::collections::BTreeMap;

use super::batch::Inputs;
use super::{DataError, Dataset};

mod raw;

pub use raw::{column_sums, label_counts, token_counts};

/// Bits behind the point of a value.
const FRACTION_BITS: u32 = 20;
const SCALE: f64 = (1_u64 << FRACTION_BITS) as f64;
/// Greatest magnitude of a value that is summed: q² stays below 2^100, so that 2^27 rows fit.
pub const VALUE_MAX: f64 = (1_u64 << 30) as f64;
/// Rows that are looked at together.
const ROWS_AT_ONCE: usize = 256;
/// Most different tokens that one site counts: a vocabulary of every language fits.
pub const TOKENS_MAX: usize = 1 << 22;

/// Count, sum and sum of squares of one feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumericSums {
    /// Values that were summed.
    pub count: u64,
    /// Values that were not: missing, not finite, or beyond [`VALUE_MAX`].
    pub left_out: u64,
    /// Σ q, in units of 2^-20.
    pub sum: i128,
    /// Σ q², in units of 2^-40.
    pub squares: i128,
    /// The least and the greatest q. They are values of single rows, so a site must agree to give
    /// them away.
    pub extremes: Option<(i64, i64)>,
}

impl NumericSums {
    /// Adds a value; its extremes are kept only where `with_extremes`.
    pub fn add(&mut self, value: f64, with_extremes: bool) {
        if !value.is_finite() || value.abs() > VALUE_MAX {
            self.left_out += 1;
            return;
        }
        // At most 2^50: exact in f64 and in i64.
        let q = (value * SCALE).round_ties_even() as i64;
        self.count += 1;
        self.sum += i128::from(q);
        self.squares += i128::from(q) * i128::from(q);
        if with_extremes {
            let (least, most) = self.extremes.unwrap_or((q, q));
            self.extremes = Some((least.min(q), most.max(q)));
        }
    }

    /// Adds another site's sums. Extremes stay only where both sides give them (or have no value).
    pub fn merge(&mut self, other: &Self) {
        self.extremes = match (self.extremes, other.extremes) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (None, b) if self.count == 0 => b,
            (a, None) if other.count == 0 => a,
            _ => None,
        };
        self.count = self.count.saturating_add(other.count);
        self.left_out = self.left_out.saturating_add(other.left_out);
        self.sum = self.sum.saturating_add(other.sum);
        self.squares = self.squares.saturating_add(other.squares);
    }

    /// The mean; none without values.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64 / SCALE)
    }

    /// The standard deviation (of the whole, not of a sample); none without values.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        let count = i128::from(self.count);
        if count == 0 {
            return None;
        }
        // n·Σq² − (Σq)² in integers loses nothing, unlike the difference of two means.
        let exact = count.checked_mul(self.squares).zip(self.sum.checked_mul(self.sum));
        let variance = match exact {
            Some((squares, square)) => (squares - square) as f64 / (count as f64 * count as f64),
            None => {
                let mean = self.sum as f64 / count as f64;
                self.squares as f64 / count as f64 - mean * mean
            }
        };
        Some(libm::sqrt(variance.max(0.0)) / SCALE)
    }
}

/// The sums of each feature, as [`Normalise`](super::normalise::Normalise) takes them: along the
/// last axis of tables and series, along the first, the channels, of pictures.
///
/// # Errors
/// When the examples are texts.
pub fn feature_sums(data: &Dataset, with_extremes: bool) -> Result<Vec<NumericSums>, DataError> {
    let shape = data.shape();
    // How many values stand behind one another that are of one feature.
    let (features, run) = match *shape {
        [channels, rows, columns] => (channels.max(1), (rows * columns).max(1)),
        _ => (shape.last().copied().unwrap_or(1).max(1), 1),
    };
    let mut sums = vec![NumericSums::default(); features];
    let rows: Vec<usize> = (0..data.len()).collect();
    for some in rows.chunks(ROWS_AT_ONCE) {
        match data.gather(some)?.inputs {
            Inputs::Floats(values) => {
                for (at, &value) in values.iter().enumerate() {
                    sums[at / run % features].add(f64::from(value), with_extremes);
                }
            }
            Inputs::Tokens(_) => {
                return Err(DataError::Unfit {
                    what: "kind",
                    expected: "numbers to sum".to_owned(),
                    found: "tokens of texts".to_owned(),
                    advice: "count tokens instead".into(),
                });
            }
        }
    }
    Ok(sums)
}

/// Adds the sums of another site, feature by feature.
///
/// # Errors
/// When the other site has another number of features.
pub fn merge_features(into: &mut [NumericSums], from: &[NumericSums]) -> Result<(), DataError> {
    same_length("number of features", into.len(), from.len())?;
    into.iter_mut().zip(from).for_each(|(into, from)| into.merge(from));
    Ok(())
}

/// Rows of each class.
///
/// # Errors
/// When the examples have no classes.
pub fn class_counts(data: &Dataset) -> Result<Vec<u64>, DataError> {
    let labels = data.labels().ok_or_else(|| DataError::Unfit {
        what: "target",
        expected: "classes to count".to_owned(),
        found: "none".to_owned(),
        advice: "ask sites with labels".into(),
    })?;
    let mut counts = vec![0; data.classes() as usize];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    Ok(counts)
}

/// Adds the counts of another site, class by class.
///
/// # Errors
/// When the other site has another number of classes.
pub fn merge_counts(into: &mut [u64], from: &[u64]) -> Result<(), DataError> {
    same_length("number of classes", into.len(), from.len())?;
    into.iter_mut().zip(from).for_each(|(into, from)| *into = into.saturating_add(*from));
    Ok(())
}

fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), DataError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    let advice = "bind the same columns and classes at every site".into();
    Err(DataError::Unfit { what, expected, found, advice })
}

/// How often each token (a word, a character, a class name) comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenCounts {
    counts: BTreeMap<String, u64>,
    /// Tokens that found no room: the counts of new tokens beyond [`TOKENS_MAX`].
    pub left_out: u64,
}

impl TokenCounts {
    /// Counts the words of a text.
    pub fn add_words(&mut self, text: &str, lowercase: bool) {
        let lowered;
        let text = if lowercase {
            lowered = text.to_lowercase();
            &lowered
        } else {
            text
        };
        super::token::words_of(text).for_each(|word| self.add(word, 1));
    }

    /// Counts the characters of a text.
    pub fn add_characters(&mut self, text: &str) {
        let mut buffer = [0; 4];
        text.chars().for_each(|character| self.add(character.encode_utf8(&mut buffer), 1));
    }

    /// Adds to a token's count.
    pub fn add(&mut self, token: &str, count: u64) {
        if let Some(known) = self.counts.get_mut(token) {
            *known = known.saturating_add(count);
        } else if self.counts.len() < TOKENS_MAX {
            self.counts.insert(token.to_owned(), count);
        } else {
            self.left_out = self.left_out.saturating_add(count);
        }
    }

    /// Adds the counts of another site.
    pub fn merge(&mut self, other: &Self) {
        other.counts.iter().for_each(|(token, &count)| self.add(token, count));
        self.left_out = self.left_out.saturating_add(other.left_out);
    }

    /// The tokens with their counts, in the tokens' order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(token, &count)| (token.as_str(), count))
    }

    /// A vocabulary: at most `size` tokens that come at least `least` times, the most frequent
    /// first, equally frequent ones in the tokens' order.
    #[must_use]
    pub fn vocabulary(&self, size: usize, least: u64) -> Vec<String> {
        let mut tokens: Vec<(&String, &u64)> =
            self.counts.iter().filter(|(_, count)| **count >= least).collect();
        tokens.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        tokens.into_iter().take(size).map(|(token, _)| token.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
