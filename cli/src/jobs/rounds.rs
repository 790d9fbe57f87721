//! `tributary rounds` and `tributary round`: the history.

use anyhow::Context;
use tributary_proto::v1;

use crate::args::Output;
use crate::connect::{rounds, said};
use crate::jobs::print_json;
use crate::scores::{self, headline};
use crate::table::{Align, Table, bytes, ratio, seconds, short};

/// The columns, with those of the scores that the rounds have.
fn columns(rounds: &[v1::Round]) -> [(&'static str, Align); 12] {
    let [first, second] = scores::headings(rounds.iter().map(|round| round.train_metrics.as_ref()));
    [
        ("ROUND", Align::Right),
        ("PHASE", Align::Left),
        ("CLOSED BY", Align::Left),
        ("UPDATES", Align::Right),
        ("EXAMPLES", Align::Right),
        ("NORM", Align::Right),
        ("LOSS", Align::Right),
        (first, Align::Right),
        (second, Align::Right),
        ("UP", Align::Right),
        ("DOWN", Align::Right),
        ("SECONDS", Align::Right),
    ]
}

pub(crate) async fn list(at: &str, job: &str, out: Output) -> anyhow::Result<()> {
    let mut client = rounds(at).await?;
    let mut listed = Vec::new();
    let mut after_number = 0;
    loop {
        let request = v1::ListRoundsRequest { job: job.to_owned(), after_number, page_size: 1000 };
        let page = client.list_rounds(request).await.map_err(said)?.into_inner();
        listed.extend(page.rounds);
        after_number = page.next_after_number;
        if after_number == 0 {
            break;
        }
    }
    if out == Output::Json {
        return print_json(&listed);
    }
    println!("{}", table(&listed));
    println!(
        "norm: of the mean update; loss and scores: the clients' own, over their last local epoch"
    );
    Ok(())
}

/// Rounds in a table.
pub(crate) fn table(rounds: &[v1::Round]) -> String {
    let mut table = Table::new(&columns(rounds));
    for round in rounds {
        table.row(cells(round));
    }
    table.render()
}

fn cells(round: &v1::Round) -> Vec<String> {
    let metrics = round.train_metrics.as_ref();
    let scores = metrics.map(headline);
    let number = match round.attempt {
        0 | 1 => round.number.to_string(),
        attempt => format!("{}.{attempt}", round.number),
    };
    vec![
        number,
        round.phase.clone(),
        round.reason.clone(),
        format!("{}/{}", round.updates, round.cohort_size),
        round.examples.to_string(),
        ratio((round.update_norm > 0.0).then_some(round.update_norm)),
        ratio(metrics.map(|m| m.loss)),
        ratio(scores.map(|[(_, value), _]| value)),
        ratio(scores.map(|[_, (_, value)]| value)),
        bytes(round.bytes_up),
        bytes(round.bytes_down),
        seconds(round.total_ms),
    ]
}

pub(crate) async fn show(at: &str, job: &str, number: u32, out: Output) -> anyhow::Result<()> {
    let request = v1::GetRoundRequest { job: job.to_owned(), number };
    let answer = rounds(at).await?.get_round(request).await.map_err(said)?.into_inner();
    let round = answer.round.context("the coordinator's answer was empty")?;
    if out == Output::Json {
        return print_json(&round);
    }
    let attempts: Vec<v1::Round> = answer.missed.into_iter().chain([round.clone()]).collect();
    println!("{}", table(&attempts));
    println!("\ncheckpoint in   {}", round.checkpoint_in);
    println!("checkpoint out  {}", round.checkpoint_out);
    println!("roster          {}", round.roster_digest);
    println!("result          {}", round.result_digest);
    println!(
        "seconds         {} selecting, {} training, {} aggregating\n",
        seconds(round.selecting_ms),
        seconds(round.training_ms),
        seconds(round.aggregating_ms)
    );
    println!("{}", tasks(&round.tasks));
    if let Some(classes) = round.train_metrics.as_ref().and_then(|m| scores::by_class(m, &[])) {
        println!("\n{classes}");
    }
    Ok(())
}

fn tasks(tasks: &[v1::TaskInfo]) -> String {
    let mut table = Table::new(&[
        ("CLIENT", Align::Left),
        ("TASK", Align::Left),
        ("ATTEMPT", Align::Right),
        ("STATE", Align::Left),
        ("EXAMPLES", Align::Right),
        ("UPDATE", Align::Left),
        ("OUTCOME", Align::Left),
        ("REASON", Align::Left),
    ]);
    for task in tasks {
        let kind = match task.kind() {
            v1::TaskKind::Evaluate => "evaluate",
            v1::TaskKind::Statistics => "statistics",
            _ => "train",
        };
        table.row(vec![
            task.client.clone(),
            kind.to_owned(),
            task.attempt.to_string(),
            task.state.clone(),
            task.examples.to_string(),
            short(&task.update_digest),
            if task.outcome.is_empty() { task.code.clone() } else { task.outcome.clone() },
            task.reason.clone(),
        ]);
    }
    table.render()
}
