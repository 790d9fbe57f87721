//! What is to be predicted of a row, read from a cell: a class by number, by name or above a
//! threshold.

use tributary_core::spec::data::Target;

use super::error::{excerpt, listed};
use super::rows::{Cell, Column, Spot};
use super::{DataError, Wanted};

/// How a label's cell becomes a class.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelMap {
    /// Labels are whole numbers from `first`; class 0 is the first.
    Numbers {
        /// How many classes.
        classes: u32,
        /// The number of class 0.
        first: i64,
    },
    /// Labels are names; the class is the position in this list.
    Names(Vec<String>),
    /// Two classes: 1 for a number above this, else 0.
    Above(f64),
    /// Whole numbers from 0, of so many classes: the job says how many and has no names for them.
    Counted(u32),
    /// As the job says: its class names, or whole numbers from 0.
    Job,
    /// Whatever stands there is class 0: rows are only counted.
    Any,
}

impl LabelMap {
    /// How many classes there are.
    #[must_use]
    pub fn classes(&self) -> u32 {
        match self {
            Self::Numbers { classes, .. } | Self::Counted(classes) => *classes,
            // Configurations bound the list far below u32.
            Self::Names(names) => u32::try_from(names.len()).unwrap_or(u32::MAX),
            Self::Above(_) | Self::Any => 2,
            Self::Job => 0,
        }
    }

    /// This map, or the one that the job's class names or number of classes give.
    ///
    /// # Errors
    /// Where neither the configuration nor the job says what the classes are.
    pub(crate) fn resolved(&self, wanted: &Wanted) -> Result<Self, DataError> {
        if wanted.counting && *self == Self::Job {
            return Ok(Self::Any);
        }
        if let (Self::Names(own), Some(names)) = (self, &wanted.class_names)
            && own != names
        {
            return Err(DataError::Unfit {
                what: "list of classes",
                expected: listed(names),
                // The site's own words stay with the site.
                found: format!("another list, of {} names", own.len()),
                advice: "take `class_names` out of [data], so that the job's are used".into(),
            });
        }
        if *self != Self::Job {
            if let Some(Target::Classes(classes)) = wanted.target
                && classes != self.classes()
            {
                return Err(DataError::Unfit {
                    what: "number of classes",
                    expected: classes.to_string(),
                    found: self.classes().to_string(),
                    advice: "bind labels of the job's classes, or correct [data]".into(),
                });
            }
            return Ok(self.clone());
        }
        match (&wanted.class_names, wanted.target) {
            (Some(names), _) => Ok(Self::Names(names.clone())),
            (None, Some(Target::Classes(classes))) => Ok(Self::Counted(classes)),
            (None, other) => Err(DataError::Unfit {
                what: "target",
                expected: other.map_or_else(|| "classes".to_owned(), Target::phrase),
                found: "labels of no known classes".to_owned(),
                advice: "give `classes`, `class_names` or `label_above` in [data]".into(),
            }),
        }
    }

    /// The class of a whole number, where there is one.
    pub(crate) fn class_of_number(&self, number: i64) -> Option<u32> {
        match self {
            Self::Numbers { classes, first } => {
                let class = u32::try_from(number.checked_sub(*first)?).ok()?;
                (class < *classes).then_some(class)
            }
            Self::Counted(classes) => u32::try_from(number).ok().filter(|class| class < classes),
            Self::Names(names) => self.class_of_name(&number.to_string(), names),
            Self::Above(threshold) => Some(u32::from(number as f64 > *threshold)),
            Self::Any => Some(0),
            Self::Job => None,
        }
    }

    /// The class of a text, where there is one.
    pub(crate) fn class_of_text(&self, text: &str) -> Option<u32> {
        let text = text.trim();
        match self {
            Self::Names(names) => self.class_of_name(text, names),
            Self::Numbers { .. } | Self::Counted(_) => {
                self.class_of_number(whole(text.parse().ok()?)?)
            }
            Self::Above(threshold) => {
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
                Some(u32::from(number > *threshold))
            }
            Self::Any => (!text.is_empty()).then_some(0),
            Self::Job => None,
        }
    }

    fn class_of_name(&self, name: &str, names: &[String]) -> Option<u32> {
        names.iter().position(|known| known == name).map(|at| at as u32)
    }

    /// That the first label is a word where the job has no names: then all of them are words, and no
    /// file is at fault. A word further on is that row's mistake.
    pub(crate) fn check_first(&self, text: &str) -> Result<(), DataError> {
        match self {
            Self::Counted(classes) if is_word(text) => Err(DataError::Unfit {
                what: "kind of labels",
                expected: format!(
                    "whole numbers from 0 to {}, as the job has no names",
                    classes.saturating_sub(1)
                ),
                // The site's own words stay with the site.
                found: "words".to_owned(),
                advice:
                    "state `class_names` in the job's [data]: a list, or \"federated\" to have \
                         them from all sites"
                        .into(),
            }),
            _ => Ok(()),
        }
    }

    /// The class of a cell; `before` counts the labels that were read already.
    pub(crate) fn class(
        &self,
        spot: Spot<'_>,
        column: &Column,
        cell: Cell<'_>,
        before: usize,
    ) -> Result<u32, DataError> {
        if before == 0 {
            self.check_first(&cell.text())?;
        }
        let class = match cell {
            Cell::Missing => None,
            Cell::Text(text) => self.class_of_text(text),
            Cell::Number(_) => self.class_of_text(&cell.text()),
        };
        class.ok_or_else(|| {
            let advice = "correct the label, or the classes in the configuration";
            spot.wrong(column, self.expected(), cell.shown(), advice)
        })
    }

    /// What a label must be, in words.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Numbers { classes, first } => {
                format!("a label from {first} to {}", first + i64::from(*classes) - 1)
            }
            Self::Counted(classes) => format!("a label from 0 to {}", classes.saturating_sub(1)),
            Self::Names(names) => {
                let names: Vec<String> = names.iter().map(|name| excerpt(name)).collect();
                format!("one of the classes {}", listed(&names))
            }
            Self::Above(threshold) => format!("a number, to compare with {threshold}"),
            Self::Job | Self::Any => "a class of the job".to_owned(),
        }
    }
}

fn is_word(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.parse::<f64>().is_err()
}

/// A number without a fraction, as an integer.
pub(crate) fn whole(number: f64) -> Option<i64> {
    // Within ±2^53 every whole number is exact.
    (number.fract() == 0.0 && number.abs() <= 9.0e15).then_some(number as i64)
}
