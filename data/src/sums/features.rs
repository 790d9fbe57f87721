//! Sums of each feature, where [`Normalise`](crate::normalise::Normalise) will apply the constants:
//! along the last axis of tables and series, along the first, the channels, of pictures.

use super::{
    DataError, Dataset, Encoding, Format, Inputs, Layout, Missing, NumericSums, TableColumns,
    WavConfig, unfit, wav_frame,
};

/// Rows that are looked at together.
pub(super) const ROWS_AT_ONCE: usize = 256;

/// Changes how a format is read, so that what is no measurement can be told: a flag stands beside a
/// value that fills a gap, and recordings come step by step with their lengths.
pub(super) fn tell_missing(format: &mut Format, input: &[usize]) {
    match format {
        Format::Table { columns, .. } => {
            let flagged = |missing: &mut Missing| {
                if let Missing::Constant(fill) = *missing {
                    *missing = Missing::Flag(fill);
                }
            };
            flagged(&mut columns.missing);
            for feature in columns.features.iter_mut().flatten() {
                flagged(&mut feature.reading.missing);
            }
        }
        Format::Wav(config) => {
            let (_, steps) = wav_frame(config, Some(input));
            let WavConfig { layout, steps: own, .. } = &mut **config;
            (*layout, *own) = (Some(Layout::Steps), steps);
        }
        _ => {}
    }
}

/// The sums of so many features; `own` is the site's format, `view` what [`tell_missing`] made of it.
pub(super) fn sums(
    train: &Dataset,
    own: &Format,
    view: &Format,
    count: usize,
) -> Result<Vec<NumericSums>, DataError> {
    let found = match (own, view) {
        (Format::Table { columns: own, .. }, Format::Table { columns: view, .. }) => {
            table_sums(train, own, view)?
        }
        // One pair of constants, for the grey picture that a recording becomes.
        (Format::Wav(_), _) if count == 1 => merged(&feature_sums(train)?),
        _ => feature_sums(train)?,
    };
    if found.len() == count {
        return Ok(found);
    }
    let advice = "check the columns, `size` or `steps` in [data], or the model's input";
    Err(unfit("number of features", &count.to_string(), &found.len().to_string(), advice))
}

fn merged(sums: &[NumericSums]) -> Vec<NumericSums> {
    let all = sums.iter().try_fold(NumericSums::default(), |all, more| all.merged(more));
    // What is in memory adds up far below 128 bits.
    vec![all.unwrap_or_default()]
}

/// The sums of each feature of a data set.
///
/// # Errors
/// When the examples are texts.
pub(super) fn feature_sums(data: &Dataset) -> Result<Vec<NumericSums>, DataError> {
    let shape = data.shape();
    // How many values stand behind one another that are of one feature.
    let (features, run) = match *shape {
        [channels, rows, columns] => (channels.max(1), (rows * columns).max(1)),
        _ => (shape.last().copied().unwrap_or(1).max(1), 1),
    };
    let size: usize = shape.iter().product::<usize>().max(1);
    let mut sums = vec![NumericSums::default(); features];
    each_batch(data, |values, lengths| {
        for (row, values) in values.chunks_exact(size).enumerate() {
            // Steps behind a row's length are padding.
            let real = lengths.get(row).map_or(size, |&length| length as usize * features);
            for (at, &value) in values.iter().take(real).enumerate() {
                sums[at / run % features].add(f64::from(value));
            }
        }
    })?;
    Ok(sums)
}

/// The sums of a table's columns: `own` says which positions an example has, `view` those that were
/// read. Categories and flags are no measurements; nothing is summed there.
fn table_sums(
    train: &Dataset,
    own: &TableColumns,
    view: &TableColumns,
) -> Result<Vec<NumericSums>, DataError> {
    let flag = |missing: Missing| matches!(missing, Missing::Flag(_));
    let width = train.shape().first().copied().unwrap_or(0);
    // For each position of an example: where its value, and whether it is missing, was read.
    let mut places: Vec<Option<(usize, Option<usize>)>> = Vec::new();
    match (&own.features, &view.features) {
        (Some(own), Some(view)) => {
            let mut at = 0;
            for (own, view) in own.iter().zip(view) {
                match &own.reading.encoding {
                    Encoding::Number { .. } => {
                        places.push(Some((at, flag(view.reading.missing).then_some(at + 1))));
                    }
                    Encoding::OneHot(categories) => places.extend(categories.iter().map(|_| None)),
                }
                places.extend(flag(own.reading.missing).then_some(None));
                at += view.reading.width();
            }
        }
        // All other columns, as plain numbers.
        _ => {
            let step = 1 + usize::from(flag(view.missing));
            for at in (0..width).step_by(step) {
                places.push(Some((at, (step == 2).then_some(at + 1))));
                places.extend(flag(own.missing).then_some(None));
            }
        }
    }
    let mut sums = vec![NumericSums::default(); places.len()];
    each_batch(train, |values, _| {
        for row in values.chunks_exact(width.max(1)) {
            for (sums, place) in sums.iter_mut().zip(&places) {
                let Some((value, missing)) = *place else { continue };
                if missing.is_some_and(|missing| row[missing] != 0.0) {
                    sums.left_out += 1;
                } else {
                    sums.add(f64::from(row[value]));
                }
            }
        }
    })?;
    Ok(sums)
}

/// Hands on the values and lengths of some rows at a time.
fn each_batch(data: &Dataset, mut take: impl FnMut(&[f32], &[u32])) -> Result<(), DataError> {
    let rows: Vec<usize> = (0..data.len()).collect();
    for some in rows.chunks(ROWS_AT_ONCE) {
        let batch = data.gather(some)?;
        match batch.inputs {
            Inputs::Floats(values) => take(&values, &batch.lengths),
            Inputs::Tokens(_) => {
                let advice = "count tokens instead";
                return Err(unfit("kind", "numbers to sum", "tokens of texts", advice));
            }
        }
    }
    Ok(())
}
