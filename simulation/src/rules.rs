//! What must hold at every moment of a run, checked at each commit and each receipt.
//!
//! - A job has one driver: whoever took its lease last, and only once an earlier lease had passed, was
//!   handed back, or was the same replica's. Nobody else writes what drivers write.
//! - A round is committed once, and makes one checkpoint.
//! - An update is accepted once, while its round trains.
//! - Whoever has a receipt finds what it is for among what was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tributary_coordinator::simulation::Statement;

use crate::chance::Chance;

/// A driver's lease.
struct Lease {
    owner: String,
    token: String,
    until_us: i64,
}

#[derive(Default)]
struct Seen {
    leases: BTreeMap<String, Lease>,
    /// The phase of each attempt, by job and round.
    phases: BTreeMap<(String, String), (String, String)>,
    /// Job and round.
    committed: BTreeSet<(String, String)>,
    /// Task and digest.
    accepted: BTreeMap<String, String>,
    broken: Option<String>,
}

/// What was seen, and the first rule that did not hold.
#[derive(Default)]
pub(crate) struct Rules(Mutex<Seen>);

/// Statements that only a driver has a reason for, and where their job stands.
const DRIVERS: &[(&str, usize)] = &[
    ("store.save.clock", 0),
    ("store.save.insert_round", 0),
    ("store.save.insert_task", 1),
    ("store.history.insert_checkpoint", 0),
];

impl Rules {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first rule that did not hold.
    pub(crate) fn broken(&self) -> Option<String> {
        self.seen().broken.clone()
    }

    /// A rule does not hold.
    pub(crate) fn fault(&self, chance: &Chance, text: String) {
        chance.note(&format!("RULE {text}"));
        self.seen().broken.get_or_insert(text);
    }

    /// A client holds a receipt.
    pub(crate) fn receipt(&self, chance: &Chance, client: &str, digest: &str) {
        let known = self.seen().accepted.values().any(|accepted| accepted == digest);
        if !known {
            self.fault(chance, format!("{client} has a receipt for {digest}, which nobody holds"));
        }
    }

    /// A transaction of a replica's is kept.
    pub(crate) fn committed(&self, chance: &Chance, replica: &str, statements: &[Statement]) {
        let creates = statements.iter().any(|statement| statement.name == "store.jobs.create");
        for statement in statements {
            let values: Vec<&str> =
                statement.values.iter().map(|v| v.as_deref().unwrap_or("-")).collect();
            chance.note(&format!("{replica} {} {values:?} = {}", statement.name, statement.rows));
            let fault = self.seen().statement(
                chance.now_us(),
                replica,
                creates,
                statement.name,
                &values,
                statement.rows,
            );
            if let Some(fault) = fault {
                self.fault(chance, fault);
            }
        }
    }
}

impl Seen {
    fn statement(
        &mut self,
        now_us: i64,
        replica: &str,
        creates: bool,
        name: &str,
        values: &[&str],
        rows: u64,
    ) -> Option<String> {
        let at = |index: usize| values.get(index).copied().unwrap_or("-").to_owned();
        let lasting = |index: usize| now_us + at(index).parse::<i64>().unwrap_or(0);
        match name {
            "store.leases.acquire" if rows == 1 => {
                let new = Lease { owner: at(1), token: at(2), until_us: lasting(3) };
                let earlier = self.leases.insert(at(0), new)?;
                let taken = earlier.until_us >= now_us && earlier.owner != at(1);
                taken.then(|| format!("{} took {} from {}", at(1), at(0), earlier.owner))
            }
            "store.leases.renew" if rows == 1 => {
                let lease = self.leases.get_mut(&at(0))?;
                lease.until_us = lasting(2);
                (lease.token != at(1)).then(|| format!("a lost lease of {} was renewed", at(0)))
            }
            "store.leases.release" if rows == 1 => {
                self.leases.remove(&at(0));
                None
            }
            "store.save.insert_round" | "store.save.update_round" => self.round(at),
            "store.tasks.insert_update" if rows == 1 => self.update(at),
            _ => None,
        }
        .or_else(|| if creates { None } else { self.driver(replica, name, at) })
    }

    fn driver(&self, replica: &str, name: &str, at: impl Fn(usize) -> String) -> Option<String> {
        let job = at(DRIVERS.iter().find(|(driver, _)| *driver == name)?.1);
        let holder = self.leases.get(&job).map(|lease| lease.owner.as_str());
        let owner = holder.unwrap_or("nobody");
        (owner != replica).then(|| format!("{replica} wrote {name} of {job}, which {owner} drives"))
    }

    fn round(&mut self, at: impl Fn(usize) -> String) -> Option<String> {
        let (job, number, attempt, phase) = (at(0), at(1), at(2), at(3));
        let key = (job, number);
        let before = self.phases.insert(key.clone(), (attempt.clone(), phase.clone()));
        let again = before.is_some_and(|(a, p)| (a, p.as_str()) == (attempt, "committed"));
        let twice = phase == "committed" && (again || !self.committed.insert(key.clone()));
        twice.then(|| format!("round {} of {} was committed twice", key.1, key.0))
    }

    fn update(&mut self, at: impl Fn(usize) -> String) -> Option<String> {
        let (task, job, kind, round, digest) = (at(0), at(1), at(2), at(3), at(5));
        if self.accepted.insert(task.clone(), digest).is_some() {
            return Some(format!("task {task} was accepted twice"));
        }
        let phase = self.phases.get(&(job, round)).map_or("none", |(_, phase)| phase.as_str());
        let closed = kind == "train" && phase != "training";
        closed.then(|| format!("task {task} was accepted while its round was {phase}"))
    }
}
