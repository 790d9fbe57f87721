//! Rows as the wire shows them to operators.

use tributary_core::round::divergence::norm_of;
use tributary_core::round::{JobStatus, Phase, RoundState, Task, TaskKind, TaskState};
use tributary_proto::convert::{kind_to_wire, metrics_to_wire};
use tributary_proto::v1;

use crate::specs::Spec;
use crate::store::{EventRow, JobRow, RefusalRow, RejectionRow, RoundRow};

pub(super) fn job_to_wire(row: &JobRow, spec: &Spec) -> v1::Job {
    let (number, attempt, phase) = row.current.unwrap_or((0, 0, Phase::Selecting));
    let committed = if phase == Phase::Committed { number } else { number.saturating_sub(1) };
    let phase = match row.current {
        _ if row.evaluating => "evaluating",
        Some((_, _, phase)) => phase.word(),
        None if row.status == JobStatus::Running => "statistics",
        None => "",
    };
    v1::Job {
        job_id: row.id.to_string(),
        name: row.name.clone(),
        status: row.status.word().to_owned(),
        reason: row.reason.clone().unwrap_or_default(),
        rounds: spec.parsed.rounds,
        rounds_committed: committed,
        phase: phase.to_owned(),
        attempt,
        spec_digest: row.spec_digest.to_string(),
        checkpoint_digest: row.checkpoint.to_string(),
        result_digest: row.result.to_string(),
        parameters: spec.parsed.model.schema().len() as u64,
        evaluation: row.evaluation.as_ref().and_then(metrics_to_wire),
        created_at_us: row.created_at_us,
        updated_at_us: row.updated_at_us,
        spec: spec.text.clone(),
        submitted_by: row.submitted_by.clone(),
        refusals: Vec::new(),
        constants_digest: row.constants.map(|digest| digest.to_string()).unwrap_or_default(),
    }
}

pub(super) fn round_to_wire(job: &str, row: &RoundRow, tasks: &[Task]) -> v1::Round {
    let state = &row.state;
    let facts = state.facts.as_ref();
    let times = Times::of(state);
    let so_far = tasks.iter().filter(|t| is_counted(t)).count();
    let updates = if state.accepted.is_empty() { so_far } else { state.accepted.len() };
    let text = |digest: Option<_>| {
        digest.map(|d: tributary_core::digest::Digest| d.to_string()).unwrap_or_default()
    };
    v1::Round {
        job_id: job.to_owned(),
        number: state.number,
        attempt: state.attempt,
        phase: state.phase.word().to_owned(),
        cohort_size: state.cohort_size,
        updates: u32::try_from(updates).unwrap_or(u32::MAX),
        examples: facts.map_or(0, |f| f.examples),
        train_metrics: facts.and_then(|f| metrics_to_wire(&f.statistics)),
        bytes_up: facts.map_or(0, |f| f.bytes_up),
        bytes_down: facts.map_or(0, |f| f.bytes_down),
        selecting_ms: times.selecting,
        training_ms: times.training,
        aggregating_ms: times.aggregating,
        total_ms: times.selecting + times.training + times.aggregating,
        checkpoint_in: state.checkpoint_in.to_string(),
        checkpoint_out: text(facts.map(|f| f.checkpoint_out)),
        roster_digest: text(state.roster),
        result_digest: text(state.result),
        created_at_us: row.created_at_us,
        updated_at_us: row.updated_at_us,
        tasks: tasks.iter().map(task_to_wire).collect(),
        reason: state.reason.clone().unwrap_or_default(),
        update_norm: facts.map_or(0.0, |f| norm_of(f.update_norm)),
    }
}

fn is_counted(task: &Task) -> bool {
    task.kind == TaskKind::Train && task.state == TaskState::Accepted
}

/// How long each phase took, in job time.
struct Times {
    selecting: u64,
    training: u64,
    aggregating: u64,
}

impl Times {
    fn of(state: &RoundState) -> Self {
        let span = |from: Option<u64>, to: Option<u64>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_sub(from),
            _ => 0,
        };
        Self {
            selecting: span(Some(state.opened_ms), state.training_ms.or(state.closed_ms)),
            training: span(state.training_ms, state.closed_ms),
            aggregating: span(state.closed_ms, state.committed_ms),
        }
    }
}

fn task_to_wire(task: &Task) -> v1::TaskInfo {
    v1::TaskInfo {
        task_id: task.id.to_string(),
        kind: kind_to_wire(task.kind).into(),
        client: task.client.to_string(),
        attempt: task.attempt,
        state: task.state.word().to_owned(),
        code: task.code.clone().unwrap_or_default(),
        progress: task.progress,
        progress_total: task.progress_total,
        reason: task.reason.clone().unwrap_or_default(),
        update_digest: task.accepted.as_ref().map(|a| a.digest.to_string()).unwrap_or_default(),
        examples: task.accepted.as_ref().map_or(0, |a| a.examples),
        outcome: task.outcome.map_or_else(String::new, |outcome| outcome.word().to_owned()),
    }
}

pub(super) fn event_to_wire(row: EventRow) -> v1::JobEvent {
    v1::JobEvent {
        sequence: row.sequence,
        kind: row.kind,
        round: row.round,
        attempt: row.attempt,
        client: row.client.map(String::from).unwrap_or_default(),
        detail: row.detail,
        at_us: row.at_us,
        digest: row.digest.to_string(),
    }
}

pub(super) fn rejection_to_wire(row: RejectionRow) -> v1::RejectedInput {
    v1::RejectedInput {
        round: row.round,
        client: row.client.to_string(),
        code: row.code,
        detail: row.detail,
        at_us: row.at_us,
    }
}

pub(super) fn refusal_to_wire(row: RefusalRow) -> v1::SiteRefusal {
    v1::SiteRefusal { client: row.client.to_string(), reason: row.reason, at_us: row.at_us }
}
