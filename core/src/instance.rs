//! A client's process as it names itself: `COPY-START`. COPY is its state folder's own and stays over
//! restarts; START ascends from start to start. So a restart is told from a second agent: the same copy
//! that started later takes over at once, anything else has to wait until the first has fallen silent.

use std::fmt;

/// Digits of the copy's part: 128 bits.
const COPY_DIGITS: usize = 32;
/// Digits of the start's part.
const START_DIGITS: usize = 16;

/// A process of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    copy: String,
    start: u64,
}

/// What a process is to the one that was heard before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// That very process.
    Same,
    /// The same agent, started again.
    Restarted,
    /// Another agent, or an earlier process of the same one that is still there.
    Other,
}

impl Instance {
    /// A process of the copy with this number, which nobody else has, started at `start`: later than
    /// any of its starts before.
    #[must_use]
    pub fn new(copy: u128, start: u64) -> Self {
        Self { copy: format!("{copy:032x}"), start }
    }

    /// The process in a text; `None` where it is named in another way.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (copy, start) = text.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let shaped = copy.len() == COPY_DIGITS && start.len() == START_DIGITS;
        if !shaped || !digits(copy) || !digits(start) {
            return None;
        }
        Some(Self { copy: copy.to_owned(), start: u64::from_str_radix(start, 16).ok()? })
    }

    /// Which copy it is a process of.
    #[must_use]
    pub fn copy(&self) -> u128 {
        u128::from_str_radix(&self.copy, 16).unwrap_or(0)
    }

    /// When it started.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.copy, self.start)
    }
}

/// What the process `new` is to the process `held`, which was heard before.
#[must_use]
pub fn relation(held: &str, new: &str) -> Relation {
    if held == new {
        return Relation::Same;
    }
    match (Instance::parse(held), Instance::parse(new)) {
        (Some(held), Some(new)) if held.copy == new.copy && new.start > held.start => {
            Relation::Restarted
        }
        _ => Relation::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Instance, Relation, relation};

    #[test]
    fn a_restart_is_told_from_another_agent() {
        let text = |copy, start| Instance::new(copy, start).to_string();
        let held = text(7, 100);
        for (new, expected) in [
            (text(7, 100), Relation::Same),
            (text(7, 101), Relation::Restarted),
            (text(7, 99), Relation::Other),
            (text(8, 101), Relation::Other),
            ("site-a-process".to_owned(), Relation::Other),
        ] {
            assert_eq!(relation(&held, &new), expected, "{new}");
        }
        assert_eq!(relation("a", "a"), Relation::Same, "however it is named");
        assert_eq!(relation("a", &held), Relation::Other);
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let instance = Instance::new(u128::MAX - 1, u64::MAX);
        assert_eq!(Instance::parse(&instance.to_string()), Some(instance.clone()));
        assert_eq!((instance.copy(), instance.start()), (u128::MAX - 1, u64::MAX));
        assert_eq!(instance.to_string().len(), 49);
        for text in ["", "-", "a-b", &format!("{:032x}", 1), &format!("{:032X}-{:016x}", 10, 1)] {
            assert_eq!(Instance::parse(text), None, "{text}");
        }
    }
}
