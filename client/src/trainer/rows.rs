//! The rows of a trainer: in memory as they were given, or read from the site's files in the way
//! that each job wants them. One job's rows of each data set are in memory at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tributary_core::binding::Binding;
use tributary_core::spec::JobSpec;
use tributary_data::open::{Opened, open};
use tributary_data::wanted::Wanted;
use tributary_data::{DataError, Dataset};

use super::TrainerError;
use crate::config::DataConfig;

/// Rows to train on and rows to score.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) train: Option<Dataset>,
    pub(super) evaluate: Option<Dataset>,
}

/// Where a trainer has its rows from.
#[derive(Clone)]
pub(super) enum Rows {
    /// They are what they are.
    Held(Arc<Parts>),
    /// They are read again where a job wants them in another way.
    Files { config: Box<DataConfig>, last: Arc<Mutex<Option<(Wanted, Arc<Parts>)>>> },
}

impl Rows {
    /// Reads a site's files once: to say what they are and that they are sound. Rows that a job must
    /// say how to read are only counted.
    pub(super) fn open(config: &DataConfig) -> Result<(Binding, Self), DataError> {
        let format = &config.source.format;
        let (binding, last) = if format.needs_job() {
            (open(&config.source, &Wanted::count())?.open_binding(&config.name, format), None)
        } else {
            let opened = open(&config.source, &Wanted::default())?;
            (opened.binding(&config.name), Some((Wanted::default(), Arc::new(parts(opened)))))
        };
        let last = Arc::new(Mutex::new(last));
        Ok((binding, Self::Files { config: Box::new(config.clone()), last }))
    }

    /// The rows as a job wants them.
    pub(super) fn of(&self, spec: &JobSpec) -> Result<Arc<Parts>, TrainerError> {
        let (config, last) = match self {
            Self::Held(parts) => return Ok(parts.clone()),
            Self::Files { config, last } => (config, last),
        };
        let wanted = Wanted::by_job(spec);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((how, parts)) = last.as_ref()
            && (*how == wanted || *how == Wanted::default() && wanted.is_plain(parts.any()))
        {
            return Ok(parts.clone());
        }
        // What was read for another job goes first: both may not fit in memory.
        *last = None;
        let opened = open(&config.source, &wanted).map_err(|error| refused(config, &error))?;
        let parts = Arc::new(parts(opened));
        *last = Some((wanted, parts.clone()));
        Ok(parts)
    }
}

impl Parts {
    fn any(&self) -> Option<&Dataset> {
        self.train.as_ref().or(self.evaluate.as_ref())
    }
}

fn parts(opened: Opened) -> Parts {
    Parts { train: opened.train, evaluate: opened.evaluate }
}

/// What does not fit will not fit in the next round either; a file that is away may come back. The
/// whole error, which names files and repeats what stands in them, stays in the site's log.
fn refused(config: &DataConfig, error: &DataError) -> TrainerError {
    tracing::warn!(data = %config.name, %error, "the data do not serve this job");
    let name = &config.name;
    match unfit(error) {
        Some(difference) => TrainerError::Unfit(format!(
            "the data set {name:?} of this site does not serve: {difference}"
        )),
        None => TrainerError::Unable(format!(
            "the data set {name:?} of this site cannot be read now: its log says which file and why"
        )),
    }
}

/// The difference between data and job, without the file's name.
fn unfit(error: &DataError) -> Option<&DataError> {
    match error {
        DataError::Unfit { .. } => Some(error),
        DataError::Held { source, .. } => unfit(source),
        _ => None,
    }
}
