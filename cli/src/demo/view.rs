//! The demo on a terminal: a bar for every client, a line for every round, a table at the end. In a
//! pipe the lines alone; with `--output json` only the document.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tributary_client::observer::{AgentEvent, Observer};
use tributary_coordinator::config::{Config, redact};
use tributary_core::spec::JobSpec;
use tributary_core::spec::data::DataKind;
use tributary_data::Dataset;
use tributary_proto::v1;

use super::data::Shares;
use super::federation::HELD_OUT;
use super::report::Report;
use crate::args::Output;
use crate::jobs::print_json;
use crate::jobs::rounds::table;
use crate::jobs::watch::round_line;
use crate::scores;

/// Bars of clients that are shown at once.
const BARS_MAX: usize = 16;
/// Clients whose counts are listed one by one.
const COUNTS_MAX: usize = 8;

pub(crate) struct View {
    out: Output,
    bars: MultiProgress,
    clients: BTreeMap<String, ProgressBar>,
    /// What one calls the rows.
    noun: &'static str,
}

impl View {
    /// Says what is about to happen.
    pub(crate) fn new(out: Output, shares: &Shares, spec: &JobSpec, at: &str, dir: &Path) -> Self {
        let bars = MultiProgress::new();
        if out == Output::Json || !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let noun = noun(shares);
        let mut view = Self { out, bars, clients: BTreeMap::new(), noun };
        view.say(&shares.title);
        view.say(&shares_line(shares));
        view.say(&format!(
            "{}: {} parameters, {} rounds; coordinator at {at}, everything in {}\n",
            spec.name,
            spec.model.schema().len(),
            spec.rounds,
            dir.display()
        ));
        let names = shares.train.iter().map(|share| share.site.clone());
        // More bars than a terminal has lines would scroll it away.
        let names = names.take(BARS_MAX).chain([HELD_OUT.to_owned()]);
        for name in names {
            let bar = view.bars.add(ProgressBar::new(1));
            let style = ProgressStyle::with_template("  {prefix:16} {bar:32} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.clone());
            view.clients.insert(name, bar);
        }
        view
    }

    fn say(&self, line: &str) {
        if self.out == Output::Table {
            self.bars.suspend(|| println!("{line}"));
        }
    }

    /// What a client's agent reports to.
    pub(crate) fn observer(&self, name: &str) -> Arc<dyn Observer> {
        let bar = self.clients.get(name).cloned().unwrap_or_else(ProgressBar::hidden);
        Arc::new(Row { bar })
    }

    /// Prints what was committed since the last snapshot.
    pub(crate) fn show(&self, snapshot: &v1::WatchJobResponse) {
        for round in &snapshot.committed {
            self.say(&round_line(round));
        }
    }

    /// Writes the document, and says where everything lies and what to try next.
    pub(crate) fn finish(
        &self,
        report: &Report,
        dir: &Path,
        config: &Config,
    ) -> anyhow::Result<()> {
        for bar in self.clients.values() {
            bar.finish_and_clear();
        }
        std::fs::write(dir.join("result.json"), serde_json::to_string_pretty(report)?)?;
        if self.out == Output::Json {
            return print_json(report);
        }
        println!("\n{}", table(&report.shown));
        println!("loss and scores: the clients' own, over their last local epoch\n");
        for point in &report.curve {
            println!("round {:>4}  held-out {} {:.4}", point.round, point.measure, point.score);
        }
        if let Some(test) = &report.test {
            println!(
                "{} on {} {} that no client trained on\n",
                scores::sentence(test),
                test.examples,
                self.noun
            );
        }
        println!("model     {}", report.model_path.display());
        println!("          {}", report.model_digest);
        println!("spec      {}", dir.join("job.toml").display());
        println!("result    {}", dir.join("result.json").display());
        println!("database  {}\n", redact(config.database_url.reveal()));
        println!("{}", next_commands(report, config));
        Ok(())
    }
}

/// What one calls the rows.
fn noun(shares: &Shares) -> &'static str {
    match shares.kind {
        DataKind::Image => "pictures",
        DataKind::Table => "rows",
        DataKind::Series => "series",
        // A text of a next-token job is a window; its scores count every token of it.
        DataKind::Text if shares.predicts_tokens() => "tokens",
        DataKind::Text => "texts",
    }
}

/// How many rows each client has.
fn shares_line(shares: &Shares) -> String {
    let noun = if shares.predicts_tokens() { "windows" } else { noun(shares) };
    let counts: Vec<usize> = shares.train.iter().map(|share| share.rows.len()).collect();
    let clients = counts.len();
    let held_out = shares.held_out.as_ref().map_or(0, Dataset::len);
    let with = if clients <= COUNTS_MAX {
        counts.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    } else {
        let least = counts.iter().min().copied().unwrap_or(0);
        let most = counts.iter().max().copied().unwrap_or(0);
        format!("{least} to {most}")
    };
    format!("{clients} clients with {with} {noun}; {held_out} more that no client trains on")
}

/// Three commands that go on from here.
fn next_commands(report: &Report, config: &Config) -> String {
    let job = &report.job;
    let database = if config.database_url.reveal().starts_with("sqlite") {
        String::new()
    } else {
        format!("TRIBUTARY__DATABASE_URL={} ", redact(config.database_url.reveal()))
    };
    format!(
        "try next:\n  \
         {database}cargo run --release -p tributary-coordinator -- serve --data-dir {}\n  \
         cargo run --release -- rounds {job}        (while that serves)\n  \
         cargo run --release -- model pull {job} --round 1",
        config.data_dir.display()
    )
}

/// One client's bar.
struct Row {
    bar: ProgressBar,
}

impl Observer for Row {
    fn event(&self, event: AgentEvent) {
        match event {
            AgentEvent::Waiting => self.bar.set_message("waits"),
            AgentEvent::Closed { .. } => self.bar.set_message("outside its hours"),
            AgentEvent::Away { error, .. } => self.bar.set_message(format!("away: {error}")),
            AgentEvent::Task { kind, round, .. } => {
                self.bar.set_position(0);
                self.bar.set_message(format!("round {round}: {kind}"));
            }
            AgentEvent::Progress { done, total } => {
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            AgentEvent::Sending { .. } => self.bar.set_message("sends its update"),
            AgentEvent::Receipt { .. } => self.bar.set_message("has its receipt"),
            AgentEvent::Held => self.bar.set_message("its job is paused"),
            AgentEvent::Dropped { reason } => self.bar.set_message(format!("dropped: {reason}")),
        }
    }
}
