//! The final evaluation: `evaluate` tasks on the last checkpoint; it never gates the checkpoint.

use super::Moving;
use crate::name::TaskId;
use crate::round::cohort::Roster;
use crate::round::event::Effect;
use crate::round::task::{Task, TaskKind, TaskState};

impl Moving<'_> {
    pub(super) fn open_evaluation(&mut self, roster: &Roster) {
        let number = self.state.round.as_ref().map_or(0, |r| r.number);
        let now = self.state.clock_ms;
        let lease_until_ms = now.saturating_add(self.policy.lease_ms());
        let kind = TaskKind::Evaluate;
        for member in roster.evaluators() {
            let client = member.name.clone();
            let id = TaskId::derive(&self.state.id, number, 0, kind.word(), &client);
            let task = Task::offered(id.clone(), kind, (number, 0), client, lease_until_ms);
            self.state.tasks.insert(id, task);
        }
        let offered = self.state.tasks.values().filter(|t| t.kind == kind).count();
        if offered == 0 {
            self.complete();
            return;
        }
        self.state.evaluation_deadline_ms = Some(now.saturating_add(self.policy.deadline_ms()));
        self.record("evaluation_opened", format!("offered to {offered} clients"));
        self.effects.push(Effect::WakeClients);
    }

    pub(super) fn tick_evaluation(&mut self) {
        let now = self.state.clock_ms;
        let overdue = self.state.evaluation_deadline_ms.is_some_and(|deadline| now >= deadline);
        let tasks = self.state.tasks.values_mut().filter(|t| t.kind == TaskKind::Evaluate);
        let mut open = 0;
        for task in tasks.filter(|t| t.state.open()) {
            if overdue || task.lease_until_ms <= now {
                task.state = TaskState::Lapsed;
                task.reason = Some("no_progress_within_lease".to_owned());
            } else {
                open += 1;
            }
        }
        if open == 0 {
            self.complete();
        }
    }
}
