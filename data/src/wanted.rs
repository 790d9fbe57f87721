//! What a job or a site wants of data, as far as it is known.

use tributary_core::digest::Digest;
use tributary_core::spec::JobSpec;
use tributary_core::spec::data::{DataKind, Target};
use tributary_core::spec::features::FeatureSpec;

use super::normalise::Normalise;
use super::open::Opened;
use super::{DataError, Dataset};

/// What data must be; what is none may be anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The kind of rows.
    pub kind: Option<DataKind>,
    /// The shape of one example: the model's input, `[steps]` for texts. Pictures are resized to
    /// it, texts and recordings cut and padded.
    pub shape: Option<Vec<usize>>,
    /// What is predicted.
    pub target: Option<Target>,
    /// Tokens are below this.
    pub vocabulary: Option<u32>,
    /// The classes' names in order, for labels that are names.
    pub class_names: Option<Vec<String>>,
    /// The words, or characters, of the vocabulary in order.
    pub tokens: Option<Vec<String>>,
    /// The digest of the `tokenizer.json` that cuts texts.
    pub tokenizer: Option<Digest>,
    /// Constants to normalise by.
    pub normalise: Option<Normalise>,
    /// The columns of a table in order, by the job's names.
    pub features: Option<Vec<FeatureSpec>>,
    /// A federation's job wants them: what all sites must share must come from it.
    pub(crate) of_job: bool,
    /// Rows are only to be counted: what a job would give (classes, a vocabulary) stands open.
    pub(crate) counting: bool,
}

impl Wanted {
    /// What a job wants: its `[data]` section and the shape of its model's input.
    #[must_use]
    pub fn by_job(spec: &JobSpec) -> Self {
        let (data, constants) = (&spec.data, spec.constants.clone());
        let normalise = constants.normalise;
        Self {
            kind: Some(data.kind),
            shape: Some(spec.model.input().to_vec()),
            target: Some(data.target),
            vocabulary: (data.kind == DataKind::Text).then_some(data.vocabulary),
            class_names: constants.class_names,
            tokens: constants.tokens,
            tokenizer: constants.tokenizer,
            normalise: normalise.map(|(mean, deviation)| Normalise { mean, deviation }),
            features: constants.features,
            of_job: true,
            counting: false,
        }
    }

    /// What a job's rows are before it has its constants: labels and tokens stand open. Its features are
    /// in the configuration already ([`SourceConfig::listed`](super::SourceConfig::listed)).
    #[must_use]
    pub(crate) fn as_written(spec: &JobSpec) -> Self {
        Self {
            target: None,
            vocabulary: None,
            class_names: None,
            normalise: None,
            features: None,
            of_job: false,
            counting: true,
            ..Self::by_job(spec)
        }
    }

    /// Nothing but the number of rows, where a job must say how they are read: see
    /// [`Format::needs_job`](super::config::Format::needs_job).
    #[must_use]
    pub fn count() -> Self {
        Self { tokens: Some(Vec::new()), counting: true, ..Self::default() }
    }

    /// Whether data that were read for nobody in particular are what would be read for this.
    #[must_use]
    pub fn is_plain(&self, opened: &Opened) -> bool {
        let given = self.normalise.is_some()
            || self.tokens.is_some()
            || self.tokenizer.is_some()
            || self.class_names.is_some()
            || self.features.is_some();
        let same = |data: &Dataset| {
            self.shape.as_deref().is_none_or(|shape| shape == data.shape())
                && self.target.is_none_or(|target| target == target_of(data))
                && self.vocabulary.is_none_or(|vocabulary| vocabulary == data.vocabulary())
        };
        !given
            && self.kind.is_none_or(|kind| kind == opened.kind)
            && [&opened.train, &opened.evaluate].into_iter().flatten().all(same)
    }

    /// Whether data are what is wanted.
    ///
    /// # Errors
    /// On the first difference.
    pub(crate) fn check(&self, kind: DataKind, data: &Dataset) -> Result<(), DataError> {
        let unfit = |what, expected: String, found: String, advice: &'static str| {
            Err(DataError::Unfit { what, expected, found, advice: advice.into() })
        };
        if let Some(wanted) = self.kind
            && wanted != kind
        {
            let advice = "bind another data set, or correct its `format`, `kind` or `layout`";
            return unfit("kind", wanted.word().to_owned(), kind.word().to_owned(), advice);
        }
        if let Some(shape) = &self.shape
            && shape != data.shape()
        {
            let (expected, found) = (format!("{shape:?}"), format!("{:?}", data.shape()));
            let advice = "check the columns, `size` or `steps` in [data], or the model's input";
            return unfit("shape", expected, found, advice);
        }
        let found = target_of(data);
        match self.target {
            Some(wanted) if wanted != found => {
                let advice = "check the labels or targets in [data]";
                unfit("target", wanted.phrase(), found.phrase(), advice)
            }
            _ => Ok(()),
        }
    }
}

/// What is predicted of the examples.
#[must_use]
pub fn target_of(data: &Dataset) -> Target {
    match (data.classes(), data.width()) {
        (0, 0) => Target::NextToken,
        // Widths come from configurations, which bound them.
        (0, width) => Target::Values(u32::try_from(width).unwrap_or(u32::MAX)),
        (classes, _) => Target::Classes(classes),
    }
}
