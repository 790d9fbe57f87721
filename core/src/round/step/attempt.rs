//! An attempt of a round while it selects and trains: the draw, lapsed leases, replacements.

use std::collections::BTreeSet;

use super::Moving;
use crate::name::{ClientName, TaskId};
use crate::round::cohort::{Roster, draw, replacements};
use crate::round::event::Effect;
use crate::round::state::{Phase, RoundState};
use crate::round::task::{DIVERGED, Task, TaskKind, TaskState};

impl Moving<'_> {
    pub(super) fn tick_selecting(&mut self, roster: Option<&Roster>) {
        let (Some(roster), Some(round)) = (roster, self.state.round.clone()) else { return };
        let cohort = &self.policy.cohort;
        let members = roster.trainers().count();
        let present = roster.trainers().filter(|m| m.present).count();
        if present < cohort.min_available_clients as usize
            || members < cohort.min_train_clients as usize
        {
            return;
        }
        let size = cohort.size(members);
        let accepted = self.accepted_clients();
        let seeds = (self.policy.seed, round.number, round.attempt);
        let wanted = cohort.asked(size.saturating_sub(accepted.len()));
        let drawn = draw(roster, &accepted, wanted, seeds);
        self.begin_training(round, roster, size, &drawn);
    }

    fn begin_training(
        &mut self,
        mut round: RoundState,
        roster: &Roster,
        size: usize,
        drawn: &[ClientName],
    ) {
        let now = self.state.clock_ms;
        round.phase = Phase::Training;
        round.roster = Some(roster.digest());
        round.cohort_size = u32::try_from(size).unwrap_or(u32::MAX);
        round.training_ms = Some(now);
        round.deadline_ms = (!self.policy.cohort.exact_replay)
            .then(|| now.saturating_add(self.policy.deadline_ms()));
        // The cap covers every declared count, and every update that an earlier attempt accepted.
        let declared = roster.trainers().map(|m| m.train_examples);
        let counted = self.state.tasks.values().filter_map(|t| t.accepted.as_ref());
        let most = declared.chain(counted.map(|a| a.examples)).max().unwrap_or(1);
        let most = most.min(self.policy.cohort.max_examples);
        round.cap_exponent = most.max(1).next_power_of_two().trailing_zeros() as u8;
        let names: Vec<&str> = drawn.iter().map(ClientName::as_str).collect();
        let detail = format!("cohort of {size}, offered to {}", names.join(" "));
        self.state.round = Some(round);
        for client in drawn {
            self.offer(client.clone());
        }
        self.record("cohort_drawn", detail);
        self.effects.push(Effect::WakeClients);
    }

    fn offer(&mut self, client: ClientName) {
        let Some(round) = &self.state.round else { return };
        let (number, attempt) = (round.number, round.attempt);
        let kind = TaskKind::Train;
        let id = TaskId::derive(&self.state.id, number, attempt, kind.word(), &client);
        let lease_until_ms = self.state.clock_ms.saturating_add(self.policy.lease_ms());
        let task = Task::offered(id.clone(), kind, (number, attempt), client, lease_until_ms);
        self.state.tasks.insert(id, task);
    }

    pub(super) fn tick_training(&mut self, roster: Option<&Roster>) {
        let exact = self.policy.cohort.exact_replay;
        if !exact {
            self.lapse();
        }
        if let Some(why) = self.diverging() {
            self.diverge(&why);
            return;
        }
        let accepted = self.accepted_clients().len();
        let Some(round) = &self.state.round else { return };
        let size = round.cohort_size as usize;
        let min_updates = self.policy.cohort.min_updates as usize;
        let overdue = round.deadline_ms.is_some_and(|deadline| self.state.clock_ms >= deadline);
        if accepted >= size && size > 0 {
            self.close("complete");
        } else if exact {
            // Only what a client says itself ends its place; then the attempt cannot become whole.
            if !self.train_tasks().any(|t| t.state.open()) {
                self.miss("client_failed");
            }
        } else if overdue && accepted >= min_updates {
            self.close("deadline");
        } else if overdue {
            self.miss("deadline");
        } else if let Some(roster) = roster {
            self.replace(roster, size - accepted);
            if self.nobody_left(roster) {
                if accepted >= min_updates {
                    self.close("nobody_left")
                } else {
                    self.miss("nobody_left")
                }
            }
        }
    }

    /// What they said, where more than half of a cohort could not train because the model runs away.
    /// One site that says so, or some, is replaced like any that cannot.
    fn diverging(&self) -> Option<String> {
        let round = self.state.round.as_ref()?;
        let (attempt, size) = (round.attempt, round.cohort_size as usize);
        let said = |t: &&Task| t.attempt == attempt && t.code.as_deref() == Some(DIVERGED);
        let diverged: Vec<&Task> = self.train_tasks().filter(said).collect();
        let first = diverged.first().filter(|_| diverged.len() > size / 2)?;
        let reason = first.reason.as_deref().unwrap_or("no reason");
        let count = diverged.len();
        Some(format!("training diverged at {count} of {size} clients; {}: {reason}", first.client))
    }

    fn lapse(&mut self) {
        let now = self.state.clock_ms;
        let lapsed: Vec<TaskId> = self
            .state
            .tasks
            .values()
            .filter(|t| t.kind == TaskKind::Train && t.state.open() && t.lease_until_ms <= now)
            .map(|t| t.id.clone())
            .collect();
        for id in lapsed {
            let Some(task) = self.state.tasks.get_mut(&id) else { continue };
            let was = task.state.word();
            task.state = TaskState::Lapsed;
            task.reason = Some("no_progress_within_lease".to_owned());
            let (client, progress) = (task.client.clone(), task.progress);
            let detail = format!("was {was}, {progress} of {} steps", task.progress_total);
            self.record_of("task_lapsed", Some(client), detail);
            self.effects.push(Effect::WakeClients);
        }
    }

    /// Fills the places of failed and lapsed tasks: first by clients that were not asked in this
    /// attempt, in seeded order; else by asking a lapsed one again that is back.
    fn replace(&mut self, roster: &Roster, missing: usize) {
        let Some(round) = &self.state.round else { return };
        let (number, attempt) = (round.number, round.attempt);
        let open = self.train_tasks().filter(|t| t.state.open()).count();
        let places = missing.saturating_sub(open);
        if places == 0 {
            return;
        }
        let fresh = replacements(roster, &self.asked(attempt), (self.policy.seed, number, attempt));
        let fresh: Vec<ClientName> = fresh.into_iter().take(places).collect();
        let rest = places - fresh.len();
        for client in fresh {
            self.record_of("replacement_offered", Some(client.clone()), String::new());
            self.offer(client);
            self.effects.push(Effect::WakeClients);
        }
        let present: BTreeSet<&ClientName> =
            roster.trainers().filter(|m| m.present).map(|m| &m.name).collect();
        let back: Vec<ClientName> = self
            .train_tasks()
            .filter(|t| t.attempt == attempt && t.state == TaskState::Lapsed)
            .filter(|t| present.contains(&t.client))
            .map(|t| t.client.clone())
            .take(rest)
            .collect();
        for client in back {
            self.record_of("offered_again", Some(client.clone()), String::new());
            self.offer(client);
            self.effects.push(Effect::WakeClients);
        }
    }

    /// Whether no client is left that could still bring an update in this attempt.
    fn nobody_left(&self, roster: &Roster) -> bool {
        let Some(round) = &self.state.round else { return false };
        let asked = self.asked(round.attempt);
        let waiting = |t: &Task| t.state.open() || t.state == TaskState::Lapsed;
        !self.train_tasks().any(|t| t.attempt == round.attempt && waiting(t))
            && roster.trainers().all(|m| asked.contains(&m.name))
    }

    fn train_tasks(&self) -> impl Iterator<Item = &Task> {
        self.state.tasks.values().filter(|t| t.kind == TaskKind::Train)
    }

    fn accepted_clients(&self) -> BTreeSet<ClientName> {
        let accepted = self.train_tasks().filter(|t| t.state == TaskState::Accepted);
        accepted.map(|t| t.client.clone()).collect()
    }

    /// Who has a task in this attempt, or brought an update in an earlier one.
    fn asked(&self, attempt: u32) -> BTreeSet<ClientName> {
        self.train_tasks()
            .filter(|t| t.attempt == attempt || t.state == TaskState::Accepted)
            .map(|t| t.client.clone())
            .collect()
    }
}
