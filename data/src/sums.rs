//! What a site contributes to a job's constants: sums over the rows that it would train on, and over
//! nothing else. Rows that are held out, left out or another client's do not count.
//!
//! The site's files are opened as for training, but for the constants that are still to come: the
//! list of tokens, or of class names, is the site's own for once, and what is missing is told from
//! what fills its place.

use tributary_core::spec::JobSpec;
use tributary_core::spec::features::{Encoding, Missing};
use tributary_core::statistics::{NumericSums, SiteSums, TokenAsk};

use super::batch::{Inputs, NO_TOKEN, Targets};
use super::config::{Format, SourceConfig, WavConfig};
use super::label::LabelMap;
use super::open::wav_frame;
use super::table::{TableColumns, TableTarget};
use super::token::{RESERVED, TokenConfig, TokenList};
use super::wav::Layout;
use super::{DataError, Dataset, Wanted, open};

mod features;
mod listed;

pub use listed::{TokenCounts, label_counts, token_counts};

/// The sums of a site's rows that a job asks for.
///
/// # Errors
/// On everything that is wrong with the files, and where the site states constants of its own that
/// the job leaves to all sites.
pub fn site_sums(config: &SourceConfig, spec: &JobSpec) -> Result<SiteSums, DataError> {
    let asked = match &spec.statistics {
        Some(statistics) => statistics.asked,
        None => return Ok(SiteSums::default()),
    };
    let config = &config.listed(spec.constants.features.as_deref())?;
    let mut view = config.clone();
    let mut wanted = Wanted::as_written(spec);
    if asked.features.is_some() {
        refuse_own_constants(config)?;
        features::tell_missing(&mut view.format, spec.model.input());
    }
    let mut words = Vec::new();
    if let Some(ask) = asked.tokens {
        refuse_own_tokens(&config.format, ask)?;
        words = token_counts(config)?.into_tokens();
        wanted.tokens = Some(words.clone());
    }
    let mut names = Vec::new();
    if asked.names {
        names = label_counts(config)?.into_tokens();
        names.retain(|name| !name.is_empty());
        name_labels(&mut view.format, &names)?;
    }
    if matches!(view.format, Format::Table { .. } | Format::Wav(_)) {
        // Flags beside what may be missing, and recordings step by step: not the model's shape.
        (wanted.shape, wanted.kind) = (None, None);
    }
    let opened = open(&view, &wanted)?;
    let train = opened.train.filter(|train| !train.is_empty());
    let train = train.ok_or_else(|| {
        unfit("number of rows", "rows to train on", "none", "name files to train on")
    })?;
    let mut sums = SiteSums { rows: train.len() as u64, ..SiteSums::default() };
    if let Some(ask) = asked.features {
        sums.features = features::sums(&train, &config.format, &view.format, ask.count as usize)?;
    }
    if asked.tokens.is_some() {
        let counts = token_sums(&train, words.len())?;
        let told = words.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        sums.tell_tokens(told, 1);
    }
    if asked.names {
        let counts = class_counts(&train)?;
        let told = names.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        sums.names = told.map(|(name, _)| name).collect();
    }
    Ok(sums)
}

fn unfit(what: &'static str, expected: &str, found: &str, advice: &'static str) -> DataError {
    let (expected, found) = (expected.to_owned(), found.to_owned());
    DataError::Unfit { what, expected, found, advice: advice.into() }
}

/// Constants of the site's own would be applied before or beside those of all sites.
fn refuse_own_constants(config: &SourceConfig) -> Result<(), DataError> {
    let scaled = match &config.format {
        Format::Table { columns, .. } => {
            columns.features.iter().flatten().any(|feature| feature.reading.is_scaled())
        }
        _ => false,
    };
    if config.normalise.is_none() && !scaled {
        return Ok(());
    }
    let expected = "none of the site's own: the job leaves it to all sites' sums";
    let advice = "take `normalise`, `mean` and `deviation` out of [data]";
    Err(unfit("normalisation", expected, "constants in [data]", advice))
}

/// The site must cut its texts as the job says, and have no list of its own.
fn refuse_own_tokens(format: &Format, ask: TokenAsk) -> Result<(), DataError> {
    let tokens = match format {
        Format::TextRows(rows) => &rows.tokens,
        Format::Text { tokens, .. } => tokens,
        _ => return Err(unfit("format", "texts to count", "none", "bind a data set of texts")),
    };
    let fits = match (tokens, ask) {
        (
            TokenConfig::Words { list: TokenList::Job, lowercase },
            TokenAsk::Words { lowercase: as_job },
        ) => *lowercase == as_job,
        (TokenConfig::Characters(TokenList::Job), TokenAsk::Characters) => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let expected = match ask {
        TokenAsk::Words { lowercase } => format!("words without a list, lowercase = {lowercase}"),
        TokenAsk::Characters => "characters without a list".to_owned(),
    };
    let advice = "cut texts in [data.tokens] as the job does, and take the list out";
    Err(unfit("list of tokens", &expected, "other [data.tokens]", advice))
}

/// Labels are these names, where the site leaves them to the job.
fn name_labels(format: &mut Format, names: &[String]) -> Result<(), DataError> {
    let map = match format {
        Format::Table { columns, .. } => match &mut columns.target {
            TableTarget::Label(_, map) => Some(map),
            TableTarget::Values(_) => None,
        },
        Format::TextRows(rows) => rows.columns.label.as_mut().map(|(_, map)| map),
        Format::Images { labels, .. } => Some(labels),
        Format::Wav(config) => Some(&mut config.labels),
        Format::Idx { .. } | Format::Cifar { .. } | Format::Text { .. } | Format::Arrays { .. } => {
            None
        }
    };
    match map {
        Some(map @ LabelMap::Job) => *map = LabelMap::Names(names.to_vec()),
        // The site's own list may be what all sites together come to.
        Some(LabelMap::Names(own)) => *own = names.to_vec(),
        _ => {
            let advice = "take `classes`, `first_label` and `label_above` out of [data]";
            return Err(unfit("list of classes", "labels by name", "numbers", advice));
        }
    }
    Ok(())
}

/// How often each token of the list comes in the rows: as inputs of a class, or as what follows.
fn token_sums(train: &Dataset, tokens: usize) -> Result<Vec<u64>, DataError> {
    let mut counts = vec![0_u64; tokens];
    let mut count = |token: u32| {
        let at = token.checked_sub(RESERVED).map(|at| at as usize);
        if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
            *count += 1;
        }
    };
    let rows: Vec<usize> = (0..train.len()).collect();
    for some in rows.chunks(features::ROWS_AT_ONCE) {
        let batch = train.gather(some)?;
        match (batch.targets, batch.inputs) {
            // Windows overlap by a token, which is predicted once: what follows is counted.
            (Targets::Tokens(tokens), _) => {
                tokens.into_iter().filter(|token| *token != NO_TOKEN).for_each(&mut count);
            }
            (_, Inputs::Tokens(tokens)) => tokens.into_iter().for_each(&mut count),
            (_, Inputs::Floats(_)) => {}
        }
    }
    Ok(counts)
}

/// Rows of each class.
///
/// # Errors
/// When the examples have no classes.
pub fn class_counts(data: &Dataset) -> Result<Vec<u64>, DataError> {
    let none = || unfit("target", "classes to count", "none", "ask sites with labels");
    let labels = data.labels().ok_or_else(none)?;
    let mut counts = vec![0; data.classes() as usize];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    Ok(counts)
}

#[cfg(test)]
mod tests;
