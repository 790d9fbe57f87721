//! The trainer: what turns a checkpoint and private rows into an update. A trait, because our own is
//! not the only one: an external program of the site's own, or none at all in a benchmark.

mod bases;
mod local;
mod rows;

pub use bases::Bases;
pub use local::LocalTrainer;

use tributary_core::binding::Binding;
use tributary_core::metrics::Statistics;
use tributary_core::name::ClientName;
use tributary_core::params::ParameterSet;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::SiteSums;

/// Follows a trainer, and tells it to stop.
pub trait Control: Sync {
    /// The trainer has done so many steps (batches) of so many.
    fn progress(&self, done: u64, total: u64);
    /// Whether the work is no longer wanted.
    fn cancelled(&self) -> bool;
}

/// What is asked of a trainer.
pub struct Order<'a> {
    /// The job's spec, checked.
    pub spec: &'a JobSpec,
    /// The round, which seeds shuffling.
    pub round: u32,
    /// The client, which seeds shuffling.
    pub client: &'a ClientName,
    /// Where to start.
    pub checkpoint: &'a ParameterSet,
    /// The data set to read, by its name; the first that serves the spec where none is named.
    pub data: Option<&'a str>,
}

/// What a trainer gives.
pub struct Trained {
    /// The difference to the checkpoint, flat, in the schema's order.
    pub update: Vec<f32>,
    /// n: the rows that it trained on.
    pub examples: u64,
    /// Of the last local epoch.
    pub statistics: Statistics,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// It was told to stop.
    #[error("the work is no longer wanted")]
    Cancelled,
    /// It cannot do this task.
    #[error("{0}")]
    Unable(String),
    /// Training ran away: the loss or the parameters are no numbers.
    #[error("{0}")]
    Diverged(String),
    /// The site's data are not what the job wants: it cannot do any task of this job.
    #[error("{0}")]
    Unfit(String),
}

/// Trains and evaluates on the site's own rows.
pub trait Trainer: Send + Sync {
    /// The data sets, as the coordinator may know them.
    fn bindings(&self) -> Vec<Binding>;

    /// Trains from a checkpoint.
    ///
    /// # Errors
    /// When told to stop, or when it cannot.
    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError>;

    /// Sums the rows to train on (of `data`, where the site says which set), as a job asks for them
    /// before its first round.
    ///
    /// # Errors
    /// When told to stop, or when it cannot.
    fn statistics(
        &self,
        spec: &JobSpec,
        data: Option<&str>,
        control: &dyn Control,
    ) -> Result<SiteSums, TrainerError> {
        let _ = (spec, data, control);
        Err(TrainerError::Unfit("this site's trainer has no sums to give".to_owned()))
    }

    /// Scores a checkpoint on held-out rows.
    ///
    /// # Errors
    /// When told to stop, or when it cannot.
    fn evaluate(
        &self,
        order: &Order<'_>,
        control: &dyn Control,
    ) -> Result<Statistics, TrainerError>;
}
