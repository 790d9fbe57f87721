//! What a configuration leaves to the job.

use super::Format;
use crate::array::ArrayTarget;
use crate::label::LabelMap;
use crate::table::TableTarget;
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
