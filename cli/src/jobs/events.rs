//! `tributary events`: a job's append-only history, and what was refused.

use serde::Serialize;
use tributary_proto::v1;

use crate::args::Output;
use crate::connect::{jobs, said};
use crate::jobs::print_json;
use crate::table::{Align, Table, short};

#[derive(Serialize)]
struct History {
    events: Vec<v1::JobEvent>,
    rejections: Vec<v1::RejectedInput>,
}

pub(crate) async fn run(at: &str, job: &str, out: Output) -> anyhow::Result<()> {
    let mut client = jobs(at).await?;
    let mut events: Vec<v1::JobEvent> = Vec::new();
    loop {
        let after_sequence = events.last().map_or(0, |event| event.sequence);
        let request =
            v1::ListEventsRequest { job: job.to_owned(), after_sequence, page_size: 1000 };
        let page = client.list_events(request).await.map_err(said)?.into_inner().events;
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    let request = v1::ListRejectionsRequest { job: job.to_owned(), page_size: 1000 };
    let answer = client.list_rejections(request).await.map_err(said)?.into_inner();
    let history = History { events, rejections: answer.rejections };
    if out == Output::Json {
        return print_json(&history);
    }
    println!("{}", render(&history));
    Ok(())
}

fn render(history: &History) -> String {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("ROUND", Align::Right),
        ("EVENT", Align::Left),
        ("CLIENT", Align::Left),
        ("DETAIL", Align::Left),
        ("CHAIN", Align::Left),
    ]);
    for event in &history.events {
        table.row(vec![
            event.sequence.to_string(),
            event.round.to_string(),
            event.kind.clone(),
            event.client.clone(),
            event.detail.clone(),
            short(&event.digest),
        ]);
    }
    let mut text = table.render();
    if !history.rejections.is_empty() {
        let mut table = Table::new(&[
            ("ROUND", Align::Right),
            ("REFUSED", Align::Left),
            ("CLIENT", Align::Left),
            ("DETAIL", Align::Left),
        ]);
        for refused in &history.rejections {
            let round = refused.round.to_string();
            let cells = [&round, &refused.code, &refused.client, &refused.detail];
            table.row(cells.map(Clone::clone).to_vec());
        }
        text = format!("{text}\n\n{}", table.render());
    }
    text
}
