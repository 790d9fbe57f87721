//! Holding rows out for validation: by seed, the same on every machine.

use tributary_core::prg::Prg;

use super::{DataError, Dataset};

/// Which rows are held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Validation {
    /// The part of the rows (or clients) that is held out, above 0 and below 1.
    pub fraction: f64,
    /// The seed of the draw.
    pub seed: u64,
    /// Whether whole clients are held out instead of rows.
    pub by_client: bool,
}

/// Cuts a data set in rows to train on and rows that are held out, both in their old order. At
/// least one row (or client) stays on each side.
///
/// The draw depends on the seed and on the number of rows (or the clients' numbers) alone.
///
/// # Errors
/// Where there are fewer than two rows or clients, or no clients are known.
pub fn split(data: &Dataset, how: &Validation) -> Result<(Dataset, Dataset), DataError> {
    let unfit = |what, expected: &str, found: String, advice: &'static str| DataError::Unfit {
        what,
        expected: expected.to_owned(),
        found,
        advice: advice.into(),
    };
    let held: Vec<bool> = if how.by_client {
        let writers = data.writers().ok_or_else(|| {
            let advice = "name a `client_column` or `group_file`, or hold out rows";
            unfit("number of clients", "rows with clients", "none".to_owned(), advice)
        })?;
        let mut distinct = writers.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < 2 {
            let advice = "hold out rows instead: `validation_by = \"rows\"`";
            let found = distinct.len().to_string();
            return Err(unfit("number of clients", "at least 2 to hold one out", found, advice));
        }
        let drawn = draw(distinct.len(), how, "clients");
        let at = |writer: &u32| distinct.binary_search(writer).unwrap_or_default();
        writers.iter().map(|writer| drawn[at(writer)]).collect()
    } else {
        if data.len() < 2 {
            let advice = "bind more rows, or leave `validation_fraction` out";
            let found = data.len().to_string();
            return Err(unfit("number of rows", "at least 2 to hold one out", found, advice));
        }
        draw(data.len(), how, "rows")
    };
    let side = |wanted: bool| -> Vec<usize> {
        held.iter().enumerate().filter(|(_, held)| **held == wanted).map(|(at, _)| at).collect()
    };
    Ok((data.subset(&side(false))?, data.subset(&side(true))?))
}

/// Which of `count` things are held out; at least one is and one is not.
fn draw(count: usize, how: &Validation, what: &str) -> Vec<bool> {
    // Counts are far below 2^53.
    let wanted = (count as f64 * how.fraction).round() as usize;
    let mut prg = Prg::for_name(how.seed, "validation", what);
    let mut held = vec![false; count];
    for at in prg.sample(count, wanted.clamp(1, count - 1)) {
        held[at] = true;
    }
    held
}

#[cfg(test)]
mod tests {
    use super::{Validation, split};
    use crate::Dataset;

    fn ten() -> Dataset {
        let labels = (0..10).map(|row| row % 2).collect();
        let inputs = (0..10_u8).map(f32::from).collect();
        let data = Dataset::from_f32(inputs, labels, &[1], 2).expect("data");
        data.with_writers(vec![5, 5, 5, 9, 9, 9, 2, 2, 2, 2]).expect("writers")
    }

    #[test]
    fn rows_are_held_out_by_seed() {
        let how = Validation { fraction: 0.3, seed: 7, by_client: false };
        let (train, held) = split(&ten(), &how).expect("split");
        assert_eq!((train.len(), held.len()), (7, 3));
        let inputs =
            |data: &Dataset| data.gather(&(0..data.len()).collect::<Vec<_>>()).expect("all");
        let (again, _) = split(&ten(), &how).expect("split");
        assert_eq!(inputs(&train), inputs(&again));
        let other = Validation { seed: 8, ..how };
        assert_ne!(inputs(&train), inputs(&split(&ten(), &other).expect("split").0));
        let least = Validation { fraction: 0.001, ..how };
        assert_eq!(split(&ten(), &least).expect("split").1.len(), 1);
    }

    #[test]
    fn whole_clients_are_held_out() {
        let how = Validation { fraction: 0.34, seed: 1, by_client: true };
        let (train, held) = split(&ten(), &how).expect("split");
        let held = held.writers().expect("writers");
        let train = train.writers().expect("writers");
        assert!(held.iter().all(|writer| *writer == held[0]));
        assert!(!train.contains(&held[0]) && train.len() + held.len() == 10);
        let nobody = Dataset::from_f32(vec![0.0; 4], vec![0; 4], &[1], 2).expect("data");
        let message = split(&nobody, &how).expect_err("no clients").to_string();
        assert!(message.contains("`client_column`"), "{message}");
    }
}
