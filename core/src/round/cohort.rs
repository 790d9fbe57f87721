//! The roster of a round, and the seeded draw of its cohort and of replacements.

use std::collections::BTreeSet;

use crate::digest::{Digest, Hasher};
use crate::name::ClientName;
use crate::prg::Prg;

/// One client that may take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its operator-given name.
    pub name: ClientName,
    /// How many rows it declares for training.
    pub train_examples: u64,
    /// How many rows it declares for evaluation alone.
    pub evaluate_examples: u64,
    /// Whether it was seen lately. Presence decides when to start, never who is drawn at first.
    pub present: bool,
}

/// Who is enrolled, not revoked, and bound to the job's data; sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster(Vec<Member>);

impl Roster {
    /// A roster of these members; sorted, and each name once (the first one counts).
    #[must_use]
    pub fn new(mut members: Vec<Member>) -> Self {
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members.dedup_by(|a, b| a.name == b.name);
        Self(members)
    }

    /// Those with rows to train on.
    pub fn trainers(&self) -> impl Iterator<Item = &Member> {
        self.0.iter().filter(|m| m.train_examples > 0)
    }

    /// Those with rows to evaluate on.
    pub fn evaluators(&self) -> impl Iterator<Item = &Member> {
        self.0.iter().filter(|m| m.evaluate_examples > 0)
    }

    /// The digest of the trainers' names and declared counts.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(b"tributary/roster/v1");
        for member in self.trainers() {
            hasher.field(member.name.as_str().as_bytes());
            hasher.update(&member.train_examples.to_le_bytes());
        }
        hasher.finish()
    }
}

/// Draws `count` clients without replacement: seeded by (job seed, round, attempt), over the sorted
/// names, without those in `taken`.
#[must_use]
pub fn draw(
    roster: &Roster,
    taken: &BTreeSet<ClientName>,
    count: usize,
    (seed, round, attempt): (u64, u32, u32),
) -> Vec<ClientName> {
    let candidates: Vec<&Member> = roster.trainers().filter(|m| !taken.contains(&m.name)).collect();
    let mut prg = Prg::for_round(seed, "cohort", round, attempt);
    prg.sample(candidates.len(), count).into_iter().map(|i| candidates[i].name.clone()).collect()
}

/// The order in which clients step in for lapsed ones, those present only: who is first and not
/// taken yet is next.
pub fn replacements(
    roster: &Roster,
    taken: &BTreeSet<ClientName>,
    (seed, round, attempt): (u64, u32, u32),
) -> Vec<ClientName> {
    let mut order: Vec<&Member> = roster.trainers().collect();
    Prg::for_round(seed, "replacement", round, attempt).shuffle(&mut order);
    order
        .into_iter()
        .filter(|m| m.present && !taken.contains(&m.name))
        .map(|m| m.name.clone())
        .collect()
}
