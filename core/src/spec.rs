//! The job spec: the TOML document that says everything about a job. It is read whole, judged whole,
//! hashed, and never changes once submitted. Unknown keys are faults; all faults come at once.

pub mod cohort;
pub mod constants;
pub mod data;
pub mod features;
pub mod statistics;
pub mod strategy;
pub mod train;

use crate::digest::Digest;
use crate::document::{Section, read_document};
use crate::fault::Faults;
use crate::model::ModelSpec;
use crate::name::{ClientName, JobId, NameError};

use cohort::CohortSpec;
use constants::Constants;
use data::DataSpec;
use statistics::{Draft, StatisticsSpec};
use strategy::StrategySpec;
use train::TrainSpec;

/// Longest spec document: a model of tens of thousands of layers fits; a data set does not.
pub const SPEC_BYTES_MAX: usize = 1 << 20;
/// Most rounds of one job.
pub const ROUNDS_MAX: u32 = 1_000_000;
/// Longest job name: the id adds a dash and eight digits within the limit for names.
const JOB_NAME_CHARS_MAX: usize = 48;

/// Everything about a job, checked.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// The operator's name for the job.
    pub name: String,
    /// How many rounds it runs.
    pub rounds: u32,
    /// The seed of the first checkpoint, the cohorts and the clients' draws.
    pub seed: u64,
    /// The checkpoint to start from, by the digest of its file; drawn from the seed where none is named.
    pub init: Option<Digest>,
    /// The model.
    pub model: ModelSpec,
    /// What a client must be able to bind.
    pub data: DataSpec,
    /// What all clients read their rows with.
    pub constants: Constants,
    /// What the sites are asked before round 1; none where the spec states all constants.
    pub statistics: Option<StatisticsSpec>,
    /// How a client trains.
    pub train: TrainSpec,
    /// How updates become the next checkpoint.
    pub strategy: StrategySpec,
    /// Who takes part, and when a round closes.
    pub cohort: CohortSpec,
    /// Whether the last checkpoint is scored by clients with held-out data.
    pub final_evaluation: bool,
    /// The digest of the document's bytes.
    pub digest: Digest,
}

impl JobSpec {
    /// Reads and judges a spec document.
    ///
    /// # Errors
    /// All its faults, each with path, expectation and what was found.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        let digest = Digest::of(text.as_bytes());
        let spec = read_document(text, SPEC_BYTES_MAX, |root| Self::read(root, digest))?;
        // A model that could not be built has left a fault, so it is there when none was left.
        spec.ok_or_else(|| {
            let mut faults = Faults::default();
            faults.add("model", "a model", "nothing");
            faults
        })
    }

    fn read(root: &mut Section, digest: Digest) -> Option<Self> {
        let mut job = root.section("job");
        let name = read_name(&mut job);
        let rounds = job.count("rounds", 1..=ROUNDS_MAX, None);
        let seed = job.integer("seed", 0..=i64::MAX as u64, Some(0));
        job.finish();
        let init = read_init(root);

        let mut section = root.section("data");
        let (constants, federated) = Constants::read(&mut section);
        let data = DataSpec::read(&mut section, &constants);
        let statistics = Draft::read(&mut section, federated, &data);
        constants.check_features(&section, &data, federated);
        section.finish();
        let mut section = root.section("model");
        let model = ModelSpec::read(&mut section, &data);
        section.finish();
        let mut section = root.section("train");
        let train = TrainSpec::read(&mut section);
        section.finish();
        let mut section = root.section("strategy");
        let strategy = StrategySpec::read(&mut section);
        section.finish();
        let mut section = root.section("cohort");
        let cohort = CohortSpec::read(&mut section);
        section.finish();
        let mut section = root.section("evaluation");
        let final_evaluation = section.boolean("final", Some(true));
        section.finish();
        let model = model?;
        constants.check_width(root, model.input());
        let statistics = statistics.map(|draft| draft.whole(root, model.input(), &cohort));
        Some(Self {
            name,
            rounds,
            seed,
            init,
            model,
            data,
            constants,
            statistics,
            train,
            strategy,
            cohort,
            final_evaluation,
            digest,
        })
    }

    /// The id of a job of this spec; `suffix` makes it unique.
    ///
    /// # Errors
    /// When name and suffix do not make a name together.
    pub fn job_id(&self, suffix: u32) -> Result<JobId, NameError> {
        format!("{}-{suffix:08x}", self.name).parse()
    }
}

/// `[init] checkpoint`: what a job starts from instead of its seed's draw.
fn read_init(root: &mut Section) -> Option<Digest> {
    let mut section = root.optional_section("init")?;
    let checkpoint = section.parsed("checkpoint");
    section.finish();
    checkpoint
}

fn read_name(job: &mut Section) -> String {
    let expected = format!(
        "a name of at most {JOB_NAME_CHARS_MAX} characters of a-z, 0-9, `-`, `_`, `.`, \
         beginning with a letter or digit"
    );
    if !job.has("name") {
        job.fault("name", expected, "nothing");
        let _ = job.take("name");
        return String::new();
    }
    let name = job.text("name", Some(""));
    let long = name.len() > JOB_NAME_CHARS_MAX;
    if long || name.parse::<ClientName>().is_err() {
        job.fault("name", expected, format!("{name:?}"));
    }
    name
}

#[cfg(test)]
mod tests;
