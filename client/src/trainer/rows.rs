//! The rows of a trainer: as they were given, or read from the site's files in the way that each job
//! wants them. One job's rows of each data set are held at a time, and read again where a file changed.

use std::sync::{Arc, Mutex, PoisonError};

use tributary_core::binding::Binding;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::SiteSums;
use tributary_data::sums::site_sums;
use tributary_data::wanted::Wanted;
use tributary_data::{DataError, Dataset, Opened, open};

use super::TrainerError;
use crate::config::DataConfig;

/// Where a trainer has its rows from.
#[derive(Clone)]
pub(super) enum Rows {
    /// They are what they are.
    Held(Arc<Opened>),
    /// They are read again where a job wants them in another way, or a file changed.
    Files(Arc<Files>),
}

/// A site's files.
pub(super) struct Files {
    config: DataConfig,
    /// Most rows to train on and to score: what the coordinator heard.
    announced: (u64, u64),
    last: Mutex<Option<(Wanted, Arc<Opened>)>>,
}

impl Rows {
    /// Reads a site's files once: to say what they are and that they are sound. Rows that a job must
    /// say how to read are only counted.
    pub(super) fn open(config: &DataConfig) -> Result<(Vec<Binding>, Self), DataError> {
        let format = &config.source.format;
        let (bindings, last) = if format.needs_job() {
            (open(&config.source, &Wanted::count())?.open_bindings(&config.name, format), None)
        } else {
            let opened = open(&config.source, &Wanted::default())?;
            (vec![opened.binding(&config.name)], Some((Wanted::default(), Arc::new(opened))))
        };
        let announced = |of: fn(&Binding) -> u64| bindings.iter().map(of).max().unwrap_or(0);
        let announced = (announced(|b| b.train_examples), announced(|b| b.evaluate_examples));
        let files = Files { config: config.clone(), announced, last: Mutex::new(last) };
        Ok((bindings, Self::Files(Arc::new(files))))
    }

    /// The sums that a job asks for, of the files as they are now.
    pub(super) fn sums(&self, spec: &JobSpec) -> Result<SiteSums, TrainerError> {
        match self {
            Self::Held(_) => Err(held()),
            Self::Files(files) => site_sums(&files.config.source, spec)
                .map_err(|error| refused(&files.config, &error)),
        }
    }

    /// The rows as a job wants them.
    pub(super) fn of(&self, spec: &JobSpec) -> Result<Arc<Opened>, TrainerError> {
        match self {
            Self::Held(_) if spec.statistics.is_some() => Err(held()),
            Self::Held(opened) => Ok(opened.clone()),
            Self::Files(_) if spec.lacks_constants() => {
                let text = "the job's constants come from its sites' sums, and are not here";
                Err(TrainerError::Unable(text.to_owned()))
            }
            Self::Files(files) => files.of(&Wanted::by_job(spec)),
        }
    }
}

impl Files {
    fn of(&self, wanted: &Wanted) -> Result<Arc<Opened>, TrainerError> {
        let refused = |error: DataError| refused(&self.config, &error);
        self.config.source.check_shared(wanted).map_err(refused)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((how, opened)) = last.as_ref()
            && (how == wanted || *how == Wanted::default() && wanted.is_plain(opened))
        {
            match opened.verify() {
                Ok(()) => return Ok(opened.clone()),
                Err(error) => tracing::warn!(
                    data = %self.config.name, %error, "the data are read again for the next task"
                ),
            }
        }
        // What was read before goes first: both may not fit in memory.
        *last = None;
        for what in self.config.source.decides(wanted) {
            tracing::warn!(data = %self.config.name, what, "the job does not say it: sites may differ");
        }
        let opened = open(&self.config.source, wanted).map_err(refused)?;
        self.check_counts(&opened)?;
        let opened = Arc::new(opened);
        *last = Some((wanted.clone(), opened.clone()));
        Ok(opened)
    }

    /// An update of more rows than were announced is refused by the coordinator, every time.
    fn check_counts(&self, opened: &Opened) -> Result<(), TrainerError> {
        let rows = |data: &Option<Dataset>| data.as_ref().map_or(0, |data| data.len() as u64);
        let found = (rows(&opened.train), rows(&opened.evaluate));
        if found.0 <= self.announced.0 && found.1 <= self.announced.1 {
            return Ok(());
        }
        Err(TrainerError::Unable(format!(
            "the data set {:?} of this site grew: expected at most {} rows to train on and {} to \
             score, as the client announced when it started, found {} and {}; restart the client",
            self.config.name, self.announced.0, self.announced.1, found.0, found.1
        )))
    }
}

/// Rows in memory are read already: nobody can tell what fills a gap in them, or read them otherwise.
fn held() -> TrainerError {
    let text = "this site holds rows that were read before, and the job's constants are not";
    TrainerError::Unfit(text.to_owned())
}

/// What does not fit will not fit in the next round either; a file that is away may come back. The
/// whole error, which names files and repeats what stands in them, stays in the site's log.
fn refused(config: &DataConfig, error: &DataError) -> TrainerError {
    tracing::warn!(data = %config.name, %error, "the data do not serve this job");
    let name = &config.name;
    match error.difference() {
        Some(difference) => TrainerError::Unfit(format!(
            "the data set {name:?} of this site does not serve: {difference}"
        )),
        None => TrainerError::Unable(format!(
            "the data set {name:?} of this site cannot be read now: its log says which file and why"
        )),
    }
}

#[cfg(test)]
mod tests;
