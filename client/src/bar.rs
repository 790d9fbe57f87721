//! A progress bar for a person who watches one client.

use indicatif::{ProgressBar, ProgressStyle};
use tributary_client::observer::{AgentEvent, Log, Observer};

/// One line that follows the current task.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg:40} {bar:30} {pos}/{len} batches");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }
}

impl Observer for Bar {
    fn event(&self, event: AgentEvent) {
        match event {
            AgentEvent::Waiting => self.bar.set_message("waiting for a task"),
            AgentEvent::Task { kind, job, round } => {
                self.bar.set_position(0);
                self.bar.set_message(format!("{job}, round {round}: {kind}"));
            }
            AgentEvent::Progress { done, total } => {
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            AgentEvent::Sending { .. } => self.bar.set_message("sending the update"),
            other => self.bar.suspend(|| Log.event(other)),
        }
    }
}
