//! Federated statistics: what sites are asked for before round 1, so that all of them read their rows
//! by one set of constants that no single site's rows decided.
//!
//! ```text
//! job ── Asked ──► site: SiteSums (rows, Σq, Σq², token counts, class names)
//!                      └── Pool of all sites ──► Constants (normalise, tokens, class_names)
//! ```
//!
//! Sums are integers, so any order of the sites gives the same bytes. Extremes are never asked for:
//! they are values of single rows.

use crate::spec::cohort::EXAMPLES_MAX;
use crate::spec::data::CLASSES_MAX;

mod encoding;
mod numbers;
mod pool;
#[cfg(test)]
mod tests;

pub use encoding::{DecodeError, decode_constants, encode_constants};
pub use numbers::{NUMERIC_BYTES, NumericSums, VALUE_MAX};
pub use pool::{Pool, PoolFault, pooled_result};

/// Most features that are normalised by pooled constants: both lists stay within half of
/// [`CONSTANTS_BYTES_MAX`].
pub const FEATURES_MAX: u32 = 1 << 15;
/// Most tokens of one site, the most frequent ones: a language's, and five megabytes at most.
pub const TOKENS_MAX: usize = 1 << 16;
/// Longest token: longer than any word, and short enough that a site's sums fit a message.
pub const TOKEN_BYTES_MAX: usize = 64;
/// Longest class name.
pub const NAME_BYTES_MAX: usize = 256;
/// Most bytes of a job's pooled constants: they travel with every task, as the spec does.
pub const CONSTANTS_BYTES_MAX: usize = 1 << 20;

/// How texts are cut in tokens that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAsk {
    /// In words, between white space, marks of punctuation alone.
    Words {
        /// Whether upper case is made lower case first.
        lowercase: bool,
    },
    /// In characters.
    Characters,
}

/// Which features are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureAsk {
    /// How many: the model input's last axis, or its channels where it is a picture.
    pub count: u32,
    /// How many values of each one row has.
    pub per_row: u64,
}

/// What a job asks of each site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Sums of each feature.
    pub features: Option<FeatureAsk>,
    /// Counts of tokens.
    pub tokens: Option<TokenAsk>,
    /// The names of the classes that the site has rows of.
    pub names: bool,
}

/// What one site's rows to train on sum to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteSums {
    /// How many rows there are.
    pub rows: u64,
    /// Each feature's sums, in order; nothing was summed where a position is no number (a category).
    pub features: Vec<NumericSums>,
    /// Tokens with their counts, in the order of their bytes.
    pub tokens: Vec<(String, u64)>,
    /// How often tokens come that are not told: too rare for the site, or beyond [`TOKENS_MAX`].
    pub left_out: u64,
    /// Class names, in the order of their bytes; how many rows each has is not told.
    pub names: Vec<String>,
}

/// A part of a site's sums that cannot be, or was not asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct SumsFault {
    /// Which part, as the wire names it.
    pub field: &'static str,
    /// What would have been right.
    pub expected: String,
    /// What came.
    pub found: String,
}

fn fault(field: &'static str, expected: impl Into<String>, found: impl Into<String>) -> SumsFault {
    SumsFault { field, expected: expected.into(), found: found.into() }
}

impl SiteSums {
    /// Takes the most frequent tokens that come at least `least` times, [`TOKENS_MAX`] at most; of
    /// equally frequent ones the first by their bytes. Those that are too long stay untold as well.
    pub fn tell_tokens(&mut self, counts: impl IntoIterator<Item = (String, u64)>, least: u64) {
        let (mut kept, rest): (Vec<_>, Vec<_>) = counts.into_iter().partition(|(token, count)| {
            *count >= least.max(1) && (1..=TOKEN_BYTES_MAX).contains(&token.len())
        });
        kept.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let beyond = kept.split_off(kept.len().min(TOKENS_MAX));
        for (_, count) in rest.into_iter().chain(beyond) {
            self.left_out = self.left_out.saturating_add(count);
        }
        kept.sort();
        self.tokens = kept;
    }

    /// The same sums without tokens that come less than `least` times.
    #[must_use]
    pub fn without_rare_tokens(mut self, least: u64) -> Self {
        let tokens = std::mem::take(&mut self.tokens);
        self.tell_tokens(tokens, least);
        self
    }

    /// Whether these sums answer what was asked, and can be sums of so many rows.
    ///
    /// # Errors
    /// On the first part that cannot be.
    pub fn check(&self, asked: &Asked) -> Result<(), SumsFault> {
        if !(1..=EXAMPLES_MAX).contains(&self.rows) {
            return Err(fault("sums.rows", format!("1 to {EXAMPLES_MAX}"), self.rows.to_string()));
        }
        let features = asked.features.unwrap_or(FeatureAsk { count: 0, per_row: 0 });
        if self.features.len() != features.count as usize {
            let (expected, found) = (features.count.to_string(), self.features.len().to_string());
            return Err(fault("sums.features", format!("{expected} features"), found));
        }
        let most = self.rows.saturating_mul(features.per_row);
        for (at, sums) in self.features.iter().enumerate() {
            sums.check(most).map_err(|(expected, found)| {
                fault("sums.features", format!("{expected} of feature {at}"), found)
            })?;
        }
        self.check_tokens(asked)?;
        self.check_names(asked)
    }

    fn check_tokens(&self, asked: &Asked) -> Result<(), SumsFault> {
        let most = if asked.tokens.is_some() { TOKENS_MAX } else { 0 };
        if self.tokens.len() > most {
            let found = self.tokens.len().to_string();
            return Err(fault("sums.tokens", format!("at most {most} tokens"), found));
        }
        if self.tokens.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(fault("sums.tokens", "each token once, in order of its bytes", "another"));
        }
        let sound = |token: &str| match asked.tokens {
            Some(TokenAsk::Characters) => token.chars().count() == 1,
            _ => !token.is_empty() && !token.chars().any(char::is_whitespace),
        };
        for (token, count) in &self.tokens {
            if *count == 0 {
                return Err(fault("sums.tokens", "counts of at least 1", "0"));
            }
            if token.len() > TOKEN_BYTES_MAX || !sound(token) {
                let expected = format!(
                    "words without white space, or single characters, of at most \
                     {TOKEN_BYTES_MAX} bytes"
                );
                return Err(fault("sums.tokens", expected, format!("{token:?}")));
            }
        }
        if asked.tokens.is_none() && self.left_out > 0 {
            return Err(fault("sums.left_out", "0 where no tokens are asked for", "more"));
        }
        Ok(())
    }

    fn check_names(&self, asked: &Asked) -> Result<(), SumsFault> {
        let most = if asked.names { CLASSES_MAX as usize } else { 0 };
        if self.names.len() > most {
            let found = self.names.len().to_string();
            return Err(fault("sums.names", format!("at most {most} names"), found));
        }
        if self.names.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(fault("sums.names", "each name once, in order of its bytes", "another"));
        }
        let sound = |name: &String| {
            (1..=NAME_BYTES_MAX).contains(&name.len())
                && name.trim() == name
                && !name.chars().any(char::is_control)
        };
        match self.names.iter().find(|name| !sound(name)) {
            None => Ok(()),
            Some(name) => {
                let expected = format!("printable names of 1 to {NAME_BYTES_MAX} bytes");
                Err(fault("sums.names", expected, format!("{name:?}")))
            }
        }
    }
}
