//! `tributary watch`: a line a round, and a bar for every client that trains, until the job ends.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tributary_proto::v1;

use crate::args::Output;
use crate::connect::{jobs, said};
use crate::jobs::print_json;
use crate::jobs::status::describe;
use crate::scores;

/// How long to wait before a broken watch is taken up again.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(at: &str, job: &str, out: Output) -> anyhow::Result<()> {
    let mut view = View::new(out);
    let last = follow(at, job, |snapshot| view.show(snapshot)).await?;
    view.bars.clear()?;
    match out {
        Output::Json => print_json(&last)?,
        Output::Table => println!("{}", describe(&last)),
    }
    if last.status == "failed" {
        bail!("the job failed: {}", last.reason);
    }
    Ok(())
}

/// Hands every snapshot to `show` until the job ends; a broken connection is taken up again.
pub(crate) async fn follow(
    at: &str,
    job: &str,
    mut show: impl FnMut(&v1::WatchJobResponse),
) -> anyhow::Result<v1::Job> {
    let mut told = 0;
    loop {
        let request = v1::WatchJobRequest { job: job.to_owned() };
        let mut snapshots = jobs(at).await?.watch_job(request).await.map_err(said)?.into_inner();
        loop {
            match snapshots.message().await {
                Ok(Some(mut snapshot)) => {
                    // After a break the history is told again from its start.
                    snapshot.committed.retain(|round| round.number > told);
                    told = snapshot.committed.last().map_or(told, |round| round.number);
                    show(&snapshot);
                    let ended = |job: &v1::Job| {
                        matches!(job.status.as_str(), "completed" | "failed" | "cancelled")
                    };
                    if let Some(job) = snapshot.job.filter(|job| ended(job)) {
                        return Ok(job);
                    }
                }
                Ok(None) => break,
                Err(status) if tributary_proto::fault::retry_after(&status).is_some() => break,
                Err(status) => return Err(said(status)),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct View {
    out: Output,
    bars: MultiProgress,
    clients: BTreeMap<String, ProgressBar>,
}

impl View {
    fn new(out: Output) -> Self {
        Self { out, bars: MultiProgress::new(), clients: BTreeMap::new() }
    }

    fn show(&mut self, snapshot: &v1::WatchJobResponse) {
        if self.out == Output::Json {
            return;
        }
        for round in &snapshot.committed {
            let line = round_line(round);
            self.bars.suspend(|| println!("{line}"));
        }
        let Some(round) = &snapshot.round else { return };
        for task in &round.tasks {
            let bar = self.clients.entry(task.client.clone()).or_insert_with(|| {
                let style = ProgressStyle::with_template("  {prefix:16} {bar:30} {msg}");
                let bar = ProgressBar::new(1).with_prefix(task.client.clone());
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.bars.add(bar)
            });
            bar.set_length(task.progress_total.max(1));
            bar.set_position(task.progress);
            bar.set_message(task.state.clone());
        }
    }
}

/// A committed round in one line.
pub(crate) fn round_line(round: &v1::Round) -> String {
    use crate::table::{bytes, seconds};
    format!(
        "round {:>3}  {} updates  {}  up {}  down {}  {} s",
        round.number,
        round.updates,
        scores::line(round.train_metrics.as_ref()),
        bytes(round.bytes_up),
        bytes(round.bytes_down),
        seconds(round.total_ms),
    )
}
