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
use tributary_proto::v1;

use super::data::Shares;
use super::report::Report;
use crate::args::Output;
use crate::jobs::print_json;
use crate::jobs::rounds::table;
use crate::jobs::watch::round_line;

pub(crate) struct View {
    out: Output,
    bars: MultiProgress,
    clients: BTreeMap<String, ProgressBar>,
}

impl View {
    /// Says what is about to happen.
    pub(crate) fn new(out: Output, shares: &Shares, spec: &JobSpec, at: &str, dir: &Path) -> Self {
        let bars = MultiProgress::new();
        if out == Output::Json || !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let mut view = Self { out, bars, clients: BTreeMap::new() };
        view.say(&shares.title);
        let rows: Vec<String> = shares.train.iter().map(|rows| rows.len().to_string()).collect();
        view.say(&format!(
            "{} clients with {} pictures; {} more that no client trains on",
            shares.train.len(),
            rows.join(", "),
            shares.held_out.len()
        ));
        view.say(&format!(
            "{}: {} parameters, {} rounds; coordinator at {at}, everything in {}\n",
            spec.name,
            spec.model.schema().len(),
            spec.rounds,
            dir.display()
        ));
        let names = (1..=shares.train.len()).map(|i| format!("site-{i}"));
        for name in names.chain(["held-out".to_owned()]) {
            let bar = view.bars.add(ProgressBar::new(1));
            let style = ProgressStyle::with_template("  {prefix:10} {bar:32} {msg}");
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
        println!("loss, accuracy, macro-F1: the clients' own, over their last local epoch\n");
        if let (Some(accuracy), Some(f1)) = (report.test_accuracy, report.test_macro_f1) {
            let examples = report.test_examples;
            println!(
                "accuracy {accuracy:.4}, macro-F1 {f1:.4} on {examples} pictures that no client \
                 trained on\n"
            );
        }
        println!("model     {}", report.model_path.display());
        println!("          {}", report.model_digest);
        println!("spec      {}", dir.join("job.toml").display());
        println!("result    {}", dir.join("result.json").display());
        println!("database  {}\n", redact(&config.database_url));
        println!("{}", next_commands(report, config));
        Ok(())
    }
}

/// Three commands that go on from here.
fn next_commands(report: &Report, config: &Config) -> String {
    let job = &report.job;
    let database = if config.database_url.starts_with("sqlite") {
        String::new()
    } else {
        format!("TRIBUTARY__DATABASE_URL={} ", redact(&config.database_url))
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
            AgentEvent::Dropped { reason } => self.bar.set_message(format!("dropped: {reason}")),
        }
    }
}
