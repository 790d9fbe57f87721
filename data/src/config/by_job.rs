//! What a configuration leaves to the job.

use super::{Format, SourceConfig};
use crate::Wanted;
use crate::array::ArrayTarget;
use crate::label::LabelMap;
use crate::table::{Feature, TableTarget};
use crate::token::{TokenConfig, TokenList};

impl Format {
    /// Whether a job must say how the rows are read: their classes, vocabulary, steps or size.
    #[must_use]
    pub fn needs_job(&self) -> bool {
        let open = |tokens: &TokenConfig| {
            matches!(
                tokens,
                TokenConfig::Characters(TokenList::Job)
                    | TokenConfig::Words { list: TokenList::Job, .. }
            )
        };
        match self {
            Self::Idx { .. } | Self::Cifar { .. } => false,
            Self::Images { labels, size, .. } => *labels == LabelMap::Job || size.is_none(),
            Self::Table { columns, .. } => {
                matches!(&columns.target, TableTarget::Label(_, LabelMap::Job))
            }
            Self::TextRows(rows) => {
                let label = rows.columns.label.as_ref();
                open(&rows.tokens)
                    || rows.steps.is_none()
                    || label.is_some_and(|(_, map)| *map == LabelMap::Job)
            }
            Self::Text { tokens, steps, .. } => open(tokens) || steps.is_none(),
            Self::Arrays { parts, .. } => [&parts.train, &parts.evaluate]
                .into_iter()
                .flatten()
                .any(|arrays| matches!(&arrays.target, ArrayTarget::Labels(_, LabelMap::Job))),
            Self::Wav(config) => {
                config.labels == LabelMap::Job || config.steps.is_none() || config.layout.is_none()
            }
        }
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
    /// What this site decides by itself because the job says nothing of it. Where another site decides
    /// otherwise, the two read the same rows differently, and nobody can see it from outside.
    #[must_use]
    pub fn decides(&self, wanted: &Wanted) -> Vec<&'static str> {
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
        note(
            self.normalise.is_some() && wanted.normalise.is_none(),
            "constants in [data.normalise]",
        );
        match &self.format {
            Format::Table { columns, .. } => {
                let scaled = columns.features.iter().flatten().any(Feature::is_scaled);
                note(scaled, "`mean` and `deviation` of `features`");
                note(
                    columns.features.is_none(),
                    "the order of the columns, as there are no `features`",
                );
                if let TableTarget::Label(_, map) = &columns.target {
                    note(named(map), "the order of `class_names`");
                }
            }
            Format::TextRows(rows) => {
                let label = rows.columns.label.as_ref();
                note(label.is_some_and(|(_, map)| named(map)), "the order of `class_names`");
                note(listed(&rows.tokens), "the list in [data.tokens]");
            }
            Format::Text { tokens, .. } => note(listed(tokens), "the list in [data.tokens]"),
            Format::Images { labels, .. } => note(named(labels), "the order of `class_names`"),
            Format::Wav(config) => note(named(&config.labels), "the order of `class_names`"),
            Format::Arrays { parts, .. } => {
                let own = [&parts.train, &parts.evaluate].into_iter().flatten().any(
                    |arrays| matches!(&arrays.target, ArrayTarget::Labels(_, map) if named(map)),
                );
                note(own, "the order of `class_names`");
            }
            Format::Idx { .. } | Format::Cifar { .. } => {}
        }
        own
    }
}
