//! `tributary watch`: a line a round, and a bar for every client that trains, until the job ends.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tributary_core::round::JobStatus;
use tributary_proto::fault::{reason, retry_after};
use tributary_proto::v1;
use tributary_proto::v1::job_service_client::JobServiceClient;

use crate::args::Output;
use crate::connect::{jobs, said};
use crate::jobs::print_json;
use crate::jobs::status::describe;
use crate::scores;

/// How long to wait before a broken watch is taken up again, and how often in a row: half a minute, in
/// which a coordinator is started again.
const AGAIN: Duration = Duration::from_secs(1);
const BREAKS_MAX: u32 = 30;

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

/// Hands every snapshot to `show` until the job ends.
pub(crate) async fn follow(
    at: &str,
    job: &str,
    mut show: impl FnMut(&v1::WatchJobResponse),
) -> anyhow::Result<v1::Job> {
    let mut snapshots = Snapshots::of(at, job).await?;
    loop {
        let snapshot = snapshots.next().await?;
        show(&snapshot);
        if let Some(job) = snapshot.job.filter(is_over) {
            return Ok(job);
        }
    }
}

/// Whether a job has ended: its watch ends with that snapshot.
pub(crate) fn is_over(job: &v1::Job) -> bool {
    JobStatus::from_word(&job.status).is_some_and(JobStatus::ended)
}

/// A job's snapshots, each committed round in one of them alone. Where the way to the coordinator breaks
/// or its database is away for a while, the watch is taken up again; so it is behind a job's end, and
/// whoever asks stops at a job that [`is_over`].
pub(crate) struct Snapshots {
    client: JobServiceClient<Channel>,
    job: String,
    /// The last committed round that was handed out.
    told: u32,
    /// Breaks since the last snapshot.
    breaks: u32,
    open: Option<Streaming<v1::WatchJobResponse>>,
}

impl Snapshots {
    pub(crate) async fn of(at: &str, job: &str) -> anyhow::Result<Self> {
        let client = jobs(at).await?;
        Ok(Self { client, job: job.to_owned(), told: 0, breaks: 0, open: None })
    }

    pub(crate) async fn next(&mut self) -> anyhow::Result<v1::WatchJobResponse> {
        loop {
            match self.receive().await {
                Ok(Some(mut snapshot)) => {
                    self.breaks = 0;
                    // After a break the history is told again from its start.
                    snapshot.committed.retain(|round| round.number > self.told);
                    self.told = snapshot.committed.last().map_or(self.told, |round| round.number);
                    return Ok(snapshot);
                }
                Err(status) if !passes(&status) || self.breaks == BREAKS_MAX => {
                    return Err(said(status));
                }
                Ok(None) | Err(_) => {
                    (self.open, self.breaks) = (None, self.breaks + 1);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<v1::WatchJobResponse>, Status> {
        if self.open.is_none() {
            let request = v1::WatchJobRequest { job: self.job.clone() };
            self.open = Some(self.client.watch_job(request).await?.into_inner());
        }
        match &mut self.open {
            Some(open) => open.message().await,
            None => Ok(None),
        }
    }
}

/// Whether a failure may be over by itself: the coordinator says when to come again, or it was not the
/// coordinator who answered.
fn passes(status: &Status) -> bool {
    retry_after(status).is_some() || reason(status).is_none()
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
