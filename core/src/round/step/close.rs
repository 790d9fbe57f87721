//! The end of an attempt: the accepted set is fixed and folded, or the deadline was missed.

use super::Moving;
use crate::digest::Digest;
use crate::name::ClientName;
use crate::round::event::{Effect, FoldFacts};
use crate::round::outcome::Outcome;
use crate::round::rejection::Rejection;
use crate::round::result::{RoundFacts, result_digest};
use crate::round::state::{JobStatus, Phase, RoundState};
use crate::round::task::{Task, TaskKind, TaskState};

impl Moving<'_> {
    /// Fixes the accepted set, sorted by client name; from here on nothing else is read.
    pub(super) fn close(&mut self, why: &'static str) {
        let mut accepted: Vec<&Task> = self
            .state
            .tasks
            .values()
            .filter(|t| t.kind == TaskKind::Train && t.state == TaskState::Accepted)
            .collect();
        accepted.sort_by(|a, b| a.client.cmp(&b.client));
        let ids: Vec<_> = accepted.iter().map(|t| t.id.clone()).collect();
        let detail = format!("{why}, {} updates", ids.len());
        self.abandon_open("round_closed");
        if let Some(round) = &mut self.state.round {
            round.phase = Phase::Aggregating;
            round.reason = Some(why.to_owned());
            round.accepted = ids;
            round.closed_ms = Some(self.state.clock_ms);
        }
        self.record("round_closed", detail);
        self.effects.push(Effect::WakeClients);
    }

    pub(super) fn miss(&mut self, why: &'static str) {
        let accepted = self.state.tasks.values().filter(|t| t.state == TaskState::Accepted).count();
        let needed = self.policy.cohort.min_updates;
        self.abandon_open("attempt_missed");
        if let Some(round) = &mut self.state.round {
            round.phase = Phase::Missed;
            round.reason = Some(why.to_owned());
            round.closed_ms = Some(self.state.clock_ms);
        }
        self.record("attempt_missed", format!("{why}, {accepted} updates, {needed} needed"));
        self.effects.push(Effect::WakeClients);
    }

    /// The next attempt starts from the same checkpoint and keeps what was accepted.
    pub(super) fn after_missed(&mut self) {
        let Some(round) = &self.state.round else { return };
        let (number, attempt) = (round.number, round.attempt);
        if attempt < self.policy.cohort.max_attempts {
            self.open_attempt(number, attempt + 1);
        } else {
            let reasons = self.failures();
            let why = format!(
                "round {number} missed min_updates ({}) in {attempt} attempts{reasons}",
                self.policy.cohort.min_updates
            );
            self.fail("max_attempts", &why);
        }
    }

    /// What the clients said, so that `status` can show why a job failed.
    pub(super) fn failures(&self) -> String {
        let failed = self.state.tasks.values().filter(|t| t.state == TaskState::Failed);
        let said: Vec<String> = failed
            .take(3)
            .map(|t| format!("{}: {}", t.client, t.reason.as_deref().unwrap_or("no reason")))
            .collect();
        if said.is_empty() { String::new() } else { format!("; {}", said.join("; ")) }
    }

    pub(super) fn commit(&mut self, facts: FoldFacts) -> Result<(), Rejection> {
        self.expect_phase(Phase::Aggregating)?;
        // A pause while the fold ran does not undo it.
        let status = self.state.status;
        if !matches!(status, JobStatus::Running | JobStatus::Paused) {
            return Err(self.wrong("running"));
        }
        let (norm, loss) = (facts.update_norm, facts.median_loss);
        if let Some(why) = self.state.course.judge(self.policy.divergence, norm, loss) {
            self.diverge(&why);
            return Ok(());
        }
        let Some(mut round) = self.state.round.take() else { return Err(self.wrong("running")) };
        let result = self.result_of(&round, &facts);
        round.phase = Phase::Committed;
        round.committed_ms = Some(self.state.clock_ms);
        round.result = Some(result);
        self.state.checkpoint = facts.checkpoint_out;
        self.state.result = result;
        self.state.course = self.state.course.after(&facts);
        let detail = format!("{} {result}", facts.checkpoint_out);
        round.facts = Some(facts);
        self.state.round = Some(round);
        // The close left nothing open: all that was accepted is in the accepted set.
        self.state.settle(Outcome::Folded);
        self.record("round_committed", detail);
        Ok(())
    }

    fn result_of(&self, round: &RoundState, facts: &FoldFacts) -> Digest {
        let accepted: Vec<(ClientName, u64, Digest)> = round
            .accepted
            .iter()
            .filter_map(|id| self.state.tasks.get(id))
            .filter_map(|t| t.accepted.as_ref().map(|a| (t.client.clone(), a.examples, a.digest)))
            .collect();
        result_digest(&RoundFacts {
            previous: self.state.result,
            spec: self.policy.spec,
            // A round that closed has drawn its cohort from a roster.
            roster: round.roster.unwrap_or(self.policy.spec),
            checkpoint_in: round.checkpoint_in,
            accepted: &accepted,
            optimizer: None,
            checkpoint_out: facts.checkpoint_out,
        })
    }
}
