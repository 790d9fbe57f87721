//! Before round 1: every site that would train is asked for its sums, and those that came are pooled.

use super::Moving;
use crate::digest::Digest;
use crate::name::{ClientName, TaskId};
use crate::round::cohort::Roster;
use crate::round::event::Effect;
use crate::round::outcome::Outcome;
use crate::round::policy::StatisticsPolicy;
use crate::round::rejection::Rejection;
use crate::round::state::JobStatus;
use crate::round::task::{Task, TaskKind, TaskState};
use crate::statistics::pooled_result;

/// Round and attempt of a `statistics` task: it is before all rounds, and asked once.
const PLACE: (u32, u32) = (0, 1);

impl Moving<'_> {
    pub(super) fn tick_no_round(&mut self, roster: Option<&Roster>) {
        match self.policy.statistics {
            Some(statistics) if self.state.constants.is_none() => {
                if self.state.tasks.is_empty() {
                    self.open_statistics(roster, statistics);
                } else {
                    self.tick_statistics(roster, statistics);
                }
            }
            _ => self.open_attempt(1, 1),
        }
    }

    /// Everybody who would train is asked, present or not: who is away costs a lapsed lease.
    fn open_statistics(&mut self, roster: Option<&Roster>, statistics: StatisticsPolicy) {
        let Some(roster) = roster else { return };
        let present = roster.trainers().filter(|m| m.present).count();
        let wanted = self.policy.cohort.min_available_clients.max(statistics.min_clients);
        if present < wanted as usize {
            return;
        }
        let now = self.state.clock_ms;
        let clients: Vec<ClientName> = roster.trainers().map(|m| m.name.clone()).collect();
        let asked = clients.len();
        clients.into_iter().for_each(|client| self.ask(client));
        self.state.statistics_deadline_ms =
            statistics.deadline_ms.map(|deadline| now.saturating_add(deadline));
        self.record("statistics_opened", format!("asked of {asked} clients"));
        self.effects.push(Effect::WakeClients);
    }

    fn ask(&mut self, client: ClientName) {
        let kind = TaskKind::Statistics;
        let id = TaskId::derive(&self.state.id, PLACE.0, PLACE.1, kind.word(), &client);
        let lease_until_ms = self.state.clock_ms.saturating_add(self.policy.lease_ms());
        let task = Task::offered(id.clone(), kind, PLACE, client, lease_until_ms);
        self.state.tasks.insert(id, task);
    }

    fn tick_statistics(&mut self, roster: Option<&Roster>, statistics: StatisticsPolicy) {
        let now = self.state.clock_ms;
        let timed = statistics.deadline_ms.is_some();
        let overdue = self.state.statistics_deadline_ms.is_some_and(|deadline| now >= deadline);
        let mut open = 0;
        for task in self.state.tasks.values_mut().filter(|t| t.state.open()) {
            // Without a deadline everybody is waited for: only what a client says ends its place.
            if overdue || (timed && task.lease_until_ms <= now) {
                task.state = TaskState::Lapsed;
                task.reason = Some("no_progress_within_lease".to_owned());
            } else {
                open += 1;
            }
        }
        if open > 0 {
            return;
        }
        let (found, needed) = (self.sums().len(), statistics.min_clients);
        if found >= needed as usize {
            // Nothing is open, so what is pooled stays what it is.
            self.effects.push(Effect::Pool);
            return;
        }
        let lapsed: Vec<ClientName> = self
            .state
            .tasks
            .values()
            .filter(|t| t.state == TaskState::Lapsed)
            .map(|t| t.client.clone())
            .collect();
        if !overdue && !lapsed.is_empty() {
            let Some(roster) = roster else { return };
            let back =
                |client: &&ClientName| roster.trainers().any(|m| m.present && m.name == **client);
            for client in lapsed.iter().filter(back) {
                self.record_of("offered_again", Some(client.clone()), String::new());
                self.ask(client.clone());
                self.effects.push(Effect::WakeClients);
            }
            return;
        }
        let reasons = self.failures();
        let why = format!(
            "{found} sites sent their sums, data.statistics.min_clients is {needed}{reasons}"
        );
        self.fail("statistics_floor", &why);
    }

    /// (client, rows, digest) of the accepted sums, sorted by client.
    fn sums(&self) -> Vec<(ClientName, u64, Digest)> {
        let accepted = self.state.tasks.values().filter(|t| t.kind == TaskKind::Statistics);
        let mut sums: Vec<_> = accepted
            .filter_map(|t| t.accepted.as_ref().map(|a| (t.client.clone(), a.examples, a.digest)))
            .collect();
        sums.sort();
        sums
    }

    /// Pooling is due while nothing is open; a pause while it ran does not undo it.
    pub(super) fn expect_pool_due(&self) -> Result<(), Rejection> {
        self.expect_not_ended()?;
        let needed = self.policy.statistics.map_or(u32::MAX, |s| s.min_clients) as usize;
        let closed = !self.state.tasks.values().any(|t| t.state.open());
        let status = self.state.status;
        let held = matches!(status, JobStatus::Running | JobStatus::Paused);
        if held && self.state.pooling() && closed && self.sums().len() >= needed {
            return Ok(());
        }
        Err(self.wrong("pooling"))
    }

    pub(super) fn pooled(&mut self, constants: Digest, rows: u64) -> Result<(), Rejection> {
        self.expect_pool_due()?;
        let sums = self.sums();
        self.state.result = pooled_result(self.state.result, &sums, constants);
        self.state.constants = Some(constants);
        self.state.statistics_deadline_ms = None;
        self.state.settle(Outcome::Pooled);
        let detail = format!("{} clients, {rows} rows, {constants}", sums.len());
        self.record("statistics_pooled", detail);
        Ok(())
    }
}
