//! What a job asks of its sites before round 1, and what it takes to pool it.

use crate::document::Section;
use crate::statistics::{Asked, CONSTANTS_BYTES_MAX, FEATURES_MAX, FeatureAsk, TokenAsk};
use crate::statistics::{DecodeError, decode_constants};

use super::JobSpec;
use super::cohort::{COHORT_MAX, CohortSpec};
use super::constants::{Constants, RESERVED_TOKENS};
use super::data::{DataKind, DataSpec, Target};

/// The constants that `[data]` leaves to the sites' sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Federated {
    pub(super) tokens: Option<TokenAsk>,
    pub(super) names: bool,
    pub(super) normalise: bool,
}

/// What is asked of each site, and how many must answer.
///
/// ```toml
/// [data]
/// normalise = "federated"
/// [data.statistics]
/// min_clients = 3      # fewer sites' sums are never pooled
/// min_sites = 2        # a word or a class name comes in where so many sites have it
/// deadline_s = 600
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsSpec {
    /// What.
    pub asked: Asked,
    /// Sums of fewer sites are never pooled.
    pub min_clients: u32,
    /// A token, class name or feature counts only where so many sites have it.
    pub min_sites: u32,
    /// How long sums are collected, in seconds; without meaning where the job waits for everybody.
    pub deadline_s: u32,
}

/// Why bytes are not the constants that a spec asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstantsError {
    /// They are too many.
    #[error("expected at most {CONSTANTS_BYTES_MAX} bytes of constants, found {0}")]
    Long(usize),
    /// They are no constants.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// They are others than were asked for.
    #[error("constants: expected {expected}, found {found}")]
    Other {
        /// What the spec asks for.
        expected: String,
        /// What came.
        found: String,
    },
}

/// A section that has been read before the model's input was known.
pub(super) struct Draft {
    federated: Federated,
    min_clients: u32,
    min_sites: u32,
    deadline_s: u32,
    timed: bool,
}

impl Draft {
    /// Reads `[data.statistics]`; none where nothing is left to the sites.
    pub(super) fn read(
        section: &mut Section,
        federated: Federated,
        data: &DataSpec,
    ) -> Option<Self> {
        let inner = section.optional_section("statistics");
        if federated == Federated::default() {
            if inner.is_some() {
                let expected = "nothing, where `words`, `alphabet`, `class_names` and `normalise` \
                                are not federated";
                section.fault("statistics", expected, "a table");
            }
            return None;
        }
        let text = data.kind == DataKind::Text;
        if federated.tokens.is_some() && !text {
            section.fault("words", "a vocabulary only where kind = \"text\"", "one");
        }
        if federated.normalise && text {
            section.fault("normalise", "nothing where kind = \"text\"", "\"federated\"");
        }
        if federated.names && !matches!(data.target, Target::Classes(_)) {
            section.fault("classes", "the number of classes of `class_names`", "nothing");
        }
        if federated.tokens.is_some() && (1..=RESERVED_TOKENS).contains(&data.vocabulary) {
            let expected = format!("more than {RESERVED_TOKENS}, which are reserved");
            section.fault("vocabulary", expected, data.vocabulary.to_string());
        }
        let mut inner = inner.unwrap_or_else(|| section.section("statistics"));
        let timed = inner.has("deadline_s");
        let min_clients = inner.count("min_clients", 2..=COHORT_MAX, Some(3));
        let min_sites = inner.count("min_sites", 1..=COHORT_MAX, Some(2));
        let deadline_s = inner.count("deadline_s", 1..=31_536_000, Some(600));
        if min_sites > min_clients {
            let expected = format!("at most min_clients ({min_clients})");
            inner.fault("min_sites", expected, min_sites.to_string());
        }
        inner.finish();
        Some(Self { federated, min_clients, min_sites, deadline_s, timed })
    }

    /// The whole, now that the model's input is known.
    pub(super) fn whole(
        self,
        root: &Section,
        input: &[usize],
        cohort: &CohortSpec,
    ) -> StatisticsSpec {
        if self.timed && cohort.exact_replay {
            let expected = "nothing with cohort.exact_replay, which waits for every site";
            root.fault_at("data.statistics.deadline_s", expected, self.deadline_s.to_string());
        }
        let along = match *input {
            [channels, _, _] => channels,
            _ => input.last().copied().unwrap_or(1),
        };
        let (all, along) = (input.iter().product::<usize>(), along.max(1));
        // The grammar bounds sizes far below u32.
        let count = u32::try_from(along).unwrap_or(u32::MAX);
        if self.federated.normalise && count > FEATURES_MAX {
            let expected = format!("a model's input of at most {FEATURES_MAX} features");
            root.fault_at("data.normalise", expected, count.to_string());
        }
        let features = FeatureAsk { count, per_row: (all / along) as u64 };
        StatisticsSpec {
            asked: Asked {
                features: self.federated.normalise.then_some(features),
                tokens: self.federated.tokens,
                names: self.federated.names,
            },
            min_clients: self.min_clients,
            min_sites: self.min_sites,
            deadline_s: self.deadline_s,
        }
    }
}

impl JobSpec {
    /// Whether constants are still to come from the sites' sums.
    #[must_use]
    pub fn lacks_constants(&self) -> bool {
        self.statistics.as_ref().is_some_and(|statistics| {
            let (asked, known) = (&statistics.asked, &self.constants);
            (asked.features.is_some() && known.normalise.is_none())
                || (asked.tokens.is_some() && known.tokens.is_none())
                || (asked.names && known.class_names.is_none())
        })
    }

    /// The same spec with the constants that its sites' sums gave.
    ///
    /// # Errors
    /// Where the bytes are not exactly the constants that it asks for.
    pub fn with_constants(mut self, bytes: &[u8]) -> Result<Self, ConstantsError> {
        if bytes.len() > CONSTANTS_BYTES_MAX {
            return Err(ConstantsError::Long(bytes.len()));
        }
        let pooled = decode_constants(bytes)?;
        self.check_constants(&pooled)?;
        let own = &mut self.constants;
        own.class_names = pooled.class_names.or(own.class_names.take());
        own.tokens = pooled.tokens.or(own.tokens.take());
        own.normalise = pooled.normalise.or(own.normalise.take());
        Ok(self)
    }

    fn check_constants(&self, pooled: &Constants) -> Result<(), ConstantsError> {
        let other =
            |expected: String, found: String| Err(ConstantsError::Other { expected, found });
        let asked = self.statistics.as_ref().map(|statistics| statistics.asked);
        let (features, tokens, names) = asked.map_or((None, false, false), |asked| {
            (asked.features.map(|ask| ask.count as usize), asked.tokens.is_some(), asked.names)
        });
        let found = pooled.normalise.as_ref().map(|(means, _)| means.len());
        let fits = pooled.normalise.as_ref().is_none_or(|(means, deviations)| {
            means.len() == deviations.len()
                && means.iter().all(|value| value.is_finite())
                && deviations.iter().all(|value| value.is_finite() && *value > 0.0)
        });
        if found != features || !fits {
            let expected = format!("means and deviations (above 0) of {features:?} features");
            return other(expected, format!("{found:?}"));
        }
        let most = self.data.vocabulary.saturating_sub(RESERVED_TOKENS) as usize;
        let found = pooled.tokens.as_ref().map(Vec::len);
        if found.is_some() != tokens || found.is_some_and(|found| !(1..=most).contains(&found)) {
            let expected = format!("{} tokens", if tokens { most } else { 0 });
            return other(format!("at most {expected}"), format!("{found:?}"));
        }
        let classes = match self.data.target {
            Target::Classes(classes) if names => Some(classes as usize),
            _ => None,
        };
        let found = pooled.class_names.as_ref().map(Vec::len);
        if found != classes {
            return other(format!("{classes:?} class names"), format!("{found:?}"));
        }
        Ok(())
    }
}
