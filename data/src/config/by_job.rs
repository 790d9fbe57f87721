//! What a configuration leaves to the job.

use std::sync::Arc;

use tributary_core::spec::JobSpec;
use tributary_core::spec::features::FeatureSpec;

use super::{Format, Parts, SourceConfig};
use crate::array::ArrayTarget;
use crate::label::LabelMap;
use crate::table::TableTarget;
use crate::token::{TokenConfig, TokenList};
use crate::{DataError, Dataset, Opened, Wanted, open};

/// What of reading its rows a configuration leaves to a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// What the labels mean.
    pub classes: bool,
    /// The list of tokens.
    pub tokens: bool,
    /// The sizes of an example: of pictures, or the length of texts and recordings.
    pub sizes: bool,
    /// Which columns are features.
    pub columns: bool,
    /// Whether recordings are pictures or series.
    pub kind: bool,
}

impl Left {
    /// Whether there is anything.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// The parts in words.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let parts = [
            (self.kind, "kind"),
            (self.columns, "columns"),
            (self.classes, "classes"),
            (self.tokens, "vocabulary"),
            (self.sizes, "sizes"),
        ];
        parts.into_iter().filter_map(|(left, word)| left.then_some(word)).collect()
    }
}

impl Format {
    /// Whether a job must say how the rows are read.
    #[must_use]
    pub fn needs_job(&self) -> bool {
        self.left_to_job().any()
    }

    /// What a job must say before the rows can be read.
    #[must_use]
    pub fn left_to_job(&self) -> Left {
        let listed = |tokens: &TokenConfig| {
            matches!(
                tokens,
                TokenConfig::Characters(TokenList::Job)
                    | TokenConfig::Words { list: TokenList::Job, .. }
            )
        };
        let none = Left::default();
        match self {
            Self::Idx { .. } | Self::Cifar { .. } => none,
            Self::Images { labels, size, channels, .. } => Left {
                classes: *labels == LabelMap::Job,
                sizes: size.is_none() || channels.is_none(),
                ..none
            },
            Self::Table { columns, .. } => Left {
                classes: matches!(&columns.target, TableTarget::Label(_, LabelMap::Job)),
                columns: columns.by_job,
                ..none
            },
            Self::TextRows(rows) => {
                let label = rows.columns.label.as_ref();
                Left {
                    classes: label.is_some_and(|(_, map)| *map == LabelMap::Job),
                    tokens: listed(&rows.tokens),
                    sizes: rows.steps.is_none(),
                    ..none
                }
            }
            Self::Text { tokens, steps, .. } => {
                Left { tokens: listed(tokens), sizes: steps.is_none(), ..none }
            }
            Self::Arrays { parts, .. } => {
                let classes = [&parts.train, &parts.evaluate]
                    .into_iter()
                    .flatten()
                    .any(|arrays| matches!(&arrays.target, ArrayTarget::Labels(_, LabelMap::Job)));
                Left { classes, ..none }
            }
            Self::Wav(config) => Left {
                classes: config.labels == LabelMap::Job,
                sizes: config.steps.is_none() || config.layout.is_none(),
                kind: config.layout.is_none(),
                ..none
            },
        }
    }

    /// Whether the rows are arrays.
    pub(crate) fn is_arrays(&self) -> bool {
        matches!(self, Self::Arrays { .. })
    }

    /// How many classes the site's own configuration states; none where it does not.
    #[must_use]
    pub fn classes(&self) -> Option<u32> {
        let map = match self {
            Self::Idx { classes, .. } => return Some(*classes),
            Self::Images { labels, .. } => Some(labels),
            Self::Table { columns, .. } => match &columns.target {
                TableTarget::Label(_, map) => Some(map),
                TableTarget::Values(_) => None,
            },
            Self::TextRows(rows) => rows.columns.label.as_ref().map(|(_, map)| map),
            Self::Wav(config) => Some(&config.labels),
            Self::Cifar { .. } | Self::Text { .. } | Self::Arrays { .. } => None,
        };
        map.map(LabelMap::classes).filter(|&classes| classes > 0)
    }
}

impl SourceConfig {
    /// Reads the rows before the job has its constants from its sites' sums: to see whose they are and to
    /// deal them out, not to train on them.
    ///
    /// # Errors
    /// As [`open()`].
    pub fn open_as_written(&self, spec: &JobSpec) -> Result<Opened, DataError> {
        open(&self.listed(spec.constants.features.as_deref())?, &Wanted::as_written(spec))
    }

    /// The same files, for a site that has some of their rows alone: these to train on, those to score.
    /// A demo deals one set of files out to all its sites.
    #[must_use]
    pub fn only(&self, train: Option<&Dataset>, evaluate: Option<&Dataset>) -> Self {
        let places = |rows: &Dataset| Arc::new(rows.places().to_vec());
        let only = Parts { train: train.map(places), evaluate: evaluate.map(places) };
        Self { only: Some(only), ..self.clone() }
    }

    /// The rows that are kept; all where nothing else is said.
    pub(crate) fn kept(
        &self,
        train: Option<Dataset>,
        evaluate: Option<Dataset>,
    ) -> Result<(Option<Dataset>, Option<Dataset>), DataError> {
        let Some(only) = &self.only else { return Ok((train, evaluate)) };
        let keep = |data: Option<Dataset>, places: &Option<Arc<Vec<u32>>>| {
            data.zip(places.as_ref()).map(|(data, places)| data.at(places)).transpose()
        };
        Ok((keep(train, &only.train)?, keep(evaluate, &only.evaluate)?))
    }

    /// This configuration with a job's features in place of what it leaves to the job.
    pub(crate) fn listed(&self, features: Option<&[FeatureSpec]>) -> Result<Self, DataError> {
        let mut config = self.clone();
        if let Format::Table { columns, .. } = &mut config.format {
            *columns = columns.listed(features)?;
        }
        Ok(config)
    }

    /// What this site decides by itself because the job says nothing of it, and the data alone may make
    /// right: where another site's columns stand in another order, the two read the same rows
    /// differently, and nobody can see it from outside.
    #[must_use]
    pub fn decides(&self, wanted: &Wanted) -> Vec<&'static str> {
        let ordered = match &self.format {
            Format::Table { columns, .. } => columns.features.is_some() || columns.by_job,
            _ => true,
        };
        let told = ordered || wanted.features.is_some();
        (!told)
            .then_some("the order of the columns, as there are no `features`")
            .into_iter()
            .collect()
    }

    /// Whether all that must be alike at every site comes from the job, which may have it from all sites'
    /// sums: constants, the order of classes, vocabularies. What one site alone decides would be averaged
    /// with what another decided.
    ///
    /// # Errors
    /// On the first of them that stands here alone; never for what no job wants.
    pub fn check_shared(&self, wanted: &Wanted) -> Result<(), DataError> {
        match self.alone(wanted).first().filter(|_| wanted.of_job) {
            None => Ok(()),
            Some((own, advice)) => Err(DataError::Unfit {
                what: "source of what all sites must share",
                expected: "the job, which says nothing of it".to_owned(),
                found: (*own).to_owned(),
                advice: (*advice).into(),
            }),
        }
    }

    fn alone(&self, wanted: &Wanted) -> Vec<(&'static str, &'static str)> {
        let names = wanted.class_names.is_none();
        let named = |map: &LabelMap| names && matches!(map, LabelMap::Names(_));
        let listed = |tokens: &TokenConfig| {
            let (TokenConfig::Characters(list) | TokenConfig::Words { list, .. }) = tokens else {
                return false;
            };
            wanted.tokens.is_none() && *list != TokenList::Job
        };
        let mut own = Vec::new();
        let mut note = |is_own: bool, what| own.extend(is_own.then_some(what));
        let constants = (
            "constants in [data.normalise]",
            "state them in the job's [data.normalise], and take them out of [data] here",
        );
        let scaled = (
            "`mean` and `deviation` of `features`",
            "state them in the job's [[data.features]] or [data.normalise]",
        );
        let classes = (
            "the order of `class_names`",
            "state `class_names` in the job, and take them out of [data] here",
        );
        let tokens = (
            "the list in [data.tokens]",
            "state `words` or `alphabet` in the job, and take the list out of [data.tokens] here",
        );
        note(self.normalise.is_some() && wanted.normalise.is_none(), constants);
        match &self.format {
            Format::Table { columns, .. } => {
                let own = columns.features.iter().flatten();
                let is_scaled = own.into_iter().any(|feature| feature.reading.is_scaled());
                note(is_scaled && wanted.features.is_none(), scaled);
                if let TableTarget::Label(_, map) = &columns.target {
                    note(named(map), classes);
                }
            }
            Format::TextRows(rows) => {
                let label = rows.columns.label.as_ref();
                note(label.is_some_and(|(_, map)| named(map)), classes);
                note(listed(&rows.tokens), tokens);
            }
            Format::Text { tokens: own, .. } => note(listed(own), tokens),
            Format::Images { labels, .. } => note(named(labels), classes),
            Format::Wav(config) => note(named(&config.labels), classes),
            Format::Arrays { parts, .. } => {
                let own = [&parts.train, &parts.evaluate].into_iter().flatten().any(
                    |arrays| matches!(&arrays.target, ArrayTarget::Labels(_, map) if named(map)),
                );
                note(own, classes);
            }
            Format::Idx { .. } | Format::Cifar { .. } => {}
        }
        own
    }
}
