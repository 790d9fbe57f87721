//! Names that operators give and that end up in keys, paths and seeds: jobs, clients, tasks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Longest name: it must fit a DNS label and a file name with room for a suffix.
pub const NAME_CHARS_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 1 to 63 characters of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit, found `{0}`"
)]
pub struct NameError(String);

fn check(text: &str) -> Result<(), NameError> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let first_ok = text.chars().next().is_some_and(ok);
    let rest_ok = text.chars().all(|c| ok(c) || matches!(c, '-' | '_' | '.'));
    if first_ok && rest_ok && text.len() <= NAME_CHARS_MAX && !text.contains("..") {
        Ok(())
    } else {
        Err(NameError(text.chars().take(NAME_CHARS_MAX + 1).collect()))
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name_type! {
    /// A client's operator-given name, unique in its federation. Seeds and orders go by it.
    ClientName
}
name_type! {
    /// A federation's own name: the authority part of its members' identities.
    FederationName
}
name_type! {
    /// A job's identity: its spec's name and a suffix, such as `digits-cnn-7f3a2b1c`.
    JobId
}
name_type! {
    /// A task's identity, a function of what the task is (see [`TaskId::derive`]).
    TaskId
}

impl TaskId {
    /// The id of one client's task: the same facts give the same id on every replica and in every
    /// replay, so nothing random needs to be stored before it is used.
    #[must_use]
    pub fn derive(job: &JobId, round: u32, attempt: u32, kind: &str, client: &ClientName) -> Self {
        let digest = Digest::of_fields(
            "tributary/task/v1",
            [
                job.as_str().as_bytes(),
                &round.to_le_bytes(),
                &attempt.to_le_bytes(),
                kind.as_bytes(),
                client.as_str().as_bytes(),
            ],
        );
        Self(digest.hex()[..32].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::ClientName;

    #[test]
    fn names_are_safe_in_paths_and_keys() {
        for good in ["a", "hospital-a", "0site_1.east", &"x".repeat(63)] {
            assert!(good.parse::<ClientName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "A", "a b", "-a", "a..b", "é", "a\0", &"x".repeat(64)] {
            assert!(bad.parse::<ClientName>().is_err(), "{bad:?}");
        }
    }
}
