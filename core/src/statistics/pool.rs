//! All sites' sums together, and the constants that follow from them. The order of the sites does not
//! matter.

use std::collections::BTreeMap;

use super::{CONSTANTS_BYTES_MAX, NumericSums, SiteSums, encode_constants};
use crate::digest::{Digest, Hasher};
use crate::name::ClientName;
use crate::spec::JobSpec;
use crate::spec::constants::{Constants, RESERVED_TOKENS};
use crate::spec::data::Target;

/// Most different tokens of all sites together: about 400 MB, at worst.
const POOL_TOKENS_MAX: usize = 1 << 22;
/// Names that a sentence lists; the rest are a number.
const NAMED_MAX: usize = 12;

/// Why sums do not give constants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolFault {
    /// The sums of all sites are larger than 128 bits hold.
    #[error(
        "the sums of feature {feature} are too large to be added: look for a site with wild values"
    )]
    Overflow {
        /// The feature, from 0.
        feature: usize,
    },
    /// Sites have another number of features.
    #[error("expected {expected} features of every site, found {found}")]
    Features {
        /// Of the sites before.
        expected: usize,
        /// Of this one.
        found: usize,
    },
    /// A feature that too few sites measured would be normalised by those alone.
    #[error(
        "feature {feature} has values at {found} of {sites} sites, data.statistics.min_sites is \
         {expected}: leave the feature out, or ask more sites"
    )]
    Alone {
        /// The feature, from 0.
        feature: usize,
        /// How many sites it needs.
        expected: u32,
        /// How many have it.
        found: u32,
        /// Of how many.
        sites: u32,
    },
    /// The tokens of all sites are too many to be counted.
    #[error(
        "expected at most {POOL_TOKENS_MAX} different tokens of all sites, found more: let sites tell \
         fewer (policy.token_count_min)"
    )]
    Tokens,
    /// No token comes at enough sites.
    #[error(
        "none of {found} different tokens comes at {expected} sites (data.statistics.min_sites)"
    )]
    NoTokens {
        /// How many sites a token needs.
        expected: u32,
        /// Different tokens of all sites.
        found: usize,
    },
    /// Another number of classes than the spec says.
    #[error(
        "expected {expected} classes (data.classes), found {found} that at least {sites} sites have: \
         {names}"
    )]
    Classes {
        /// The spec's.
        expected: u32,
        /// The sites'.
        found: usize,
        /// How many sites a name needs.
        sites: u32,
        /// What they are.
        names: String,
    },
    /// The constants are too long to travel with every task.
    #[error(
        "expected at most {CONSTANTS_BYTES_MAX} bytes of constants, found {found}: lower \
         data.vocabulary"
    )]
    Long {
        /// Their length.
        found: usize,
    },
    /// The spec asks for nothing.
    #[error("expected a spec that asks for statistics, found one that does not")]
    Nothing,
}

/// Sums of sites, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    sites: u32,
    rows: u64,
    /// Each feature's sums, and at how many sites it has values.
    features: Vec<(NumericSums, u32)>,
    /// Each token's count, and at how many sites it comes.
    tokens: BTreeMap<String, (u64, u32)>,
    names: BTreeMap<String, u32>,
}

impl Pool {
    /// Rows of all sites.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds one site's sums, which have been checked.
    ///
    /// # Errors
    /// Where they cannot be added.
    pub fn merge(&mut self, site: &SiteSums) -> Result<(), PoolFault> {
        if self.sites == 0 {
            self.features = vec![Default::default(); site.features.len()];
        }
        if self.features.len() != site.features.len() {
            let (expected, found) = (self.features.len(), site.features.len());
            return Err(PoolFault::Features { expected, found });
        }
        for (feature, ((sums, sites), more)) in
            self.features.iter_mut().zip(&site.features).enumerate()
        {
            *sums = sums.merged(more).ok_or(PoolFault::Overflow { feature })?;
            *sites += u32::from(more.count > 0);
        }
        for (token, more) in &site.tokens {
            if let Some((count, sites)) = self.tokens.get_mut(token) {
                *count = count.saturating_add(*more);
                *sites += 1;
            } else if self.tokens.len() < POOL_TOKENS_MAX {
                self.tokens.insert(token.clone(), (*more, 1));
            } else {
                return Err(PoolFault::Tokens);
            }
        }
        for name in &site.names {
            *self.names.entry(name.clone()).or_default() += 1;
        }
        self.sites += 1;
        self.rows = self.rows.saturating_add(site.rows);
        Ok(())
    }

    /// What the sums give of the constants that a spec asks for, and nothing else.
    ///
    /// # Errors
    /// Where they do not give it.
    pub fn constants(&self, spec: &JobSpec) -> Result<Constants, PoolFault> {
        let statistics = spec.statistics.as_ref().ok_or(PoolFault::Nothing)?;
        let (asked, min_sites) = (&statistics.asked, statistics.min_sites);
        let normalise = asked.features.map(|_| self.normalise(min_sites)).transpose()?;
        let most = spec.data.vocabulary.saturating_sub(RESERVED_TOKENS) as usize;
        let tokens = asked.tokens.map(|_| self.vocabulary(most, min_sites)).transpose()?;
        let class_names = match (asked.names, spec.data.target) {
            (true, Target::Classes(classes)) => Some(self.class_names(classes, min_sites)?),
            _ => None,
        };
        let constants = Constants { class_names, tokens, normalise, ..Constants::default() };
        let found = encode_constants(&constants).len();
        if found > CONSTANTS_BYTES_MAX {
            return Err(PoolFault::Long { found });
        }
        Ok(constants)
    }

    /// A position that no site summed (a category, a flag) is left as it is, and so is the scale of
    /// one that never varies.
    fn normalise(&self, min_sites: u32) -> Result<(Vec<f64>, Vec<f64>), PoolFault> {
        // Never from one site, whatever is enough for a word.
        let expected = min_sites.max(2);
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        for (feature, (sums, found)) in self.features.iter().enumerate() {
            if (1..expected).contains(found) {
                let (found, sites) = (*found, self.sites);
                return Err(PoolFault::Alone { feature, expected, found, sites });
            }
            means.push(sums.mean().unwrap_or(0.0));
            deviations.push(sums.deviation().filter(|value| *value > 0.0).unwrap_or(1.0));
        }
        Ok((means, deviations))
    }

    /// The most frequent tokens first, equally frequent ones by their bytes.
    fn vocabulary(&self, most: usize, min_sites: u32) -> Result<Vec<String>, PoolFault> {
        let enough = self.tokens.iter().filter(|(_, (_, sites))| *sites >= min_sites);
        let mut tokens: Vec<(&String, u64)> = enough.map(|(t, (count, _))| (t, *count)).collect();
        if tokens.is_empty() {
            let found = self.tokens.len();
            return Err(PoolFault::NoTokens { expected: min_sites, found });
        }
        tokens.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        Ok(tokens.into_iter().take(most).map(|(token, _)| token.clone()).collect())
    }

    fn class_names(&self, classes: u32, min_sites: u32) -> Result<Vec<String>, PoolFault> {
        let enough = self.names.iter().filter(|(_, sites)| **sites >= min_sites);
        let names: Vec<String> = enough.map(|(name, _)| name.clone()).collect();
        if names.len() == classes as usize {
            return Ok(names);
        }
        let mut listed: Vec<String> =
            names.iter().take(NAMED_MAX).map(|name| format!("{name:?}")).collect();
        if names.len() > NAMED_MAX {
            listed.push(format!("{} more", names.len() - NAMED_MAX));
        }
        Err(PoolFault::Classes {
            expected: classes,
            found: names.len(),
            sites: min_sites,
            names: if listed.is_empty() { "none".to_owned() } else { listed.join(", ") },
        })
    }
}

/// The result before round 1 of a job whose constants were pooled: every round's covers it. `sums` are
/// (client, rows, digest), sorted by client.
#[must_use]
pub fn pooled_result(
    genesis: Digest,
    sums: &[(ClientName, u64, Digest)],
    constants: Digest,
) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(b"tributary/result/statistics/v1");
    hasher.update(genesis.as_bytes());
    hasher.update(&(sums.len() as u64).to_le_bytes());
    for (client, rows, digest) in sums {
        hasher.field(client.as_str().as_bytes());
        hasher.update(&rows.to_le_bytes());
        hasher.update(digest.as_bytes());
    }
    hasher.update(constants.as_bytes());
    hasher.finish()
}
