//! `tributary-client ledger`: what left this machine, read and verified.
#![allow(clippy::print_stdout)]

use tributary_client::config::ClientConfig;
use tributary_client::ledger::{Entry, verify};
use tributary_client::moment::when;

use crate::Output;

const HEADINGS: [&str; 8] =
    ["WHEN (UTC)", "WHAT", "JOB", "ROUND", "BYTES", "ROWS", "PRIVACY", "CONTENT"];

pub(crate) fn run(config: &ClientConfig, output: Output) -> anyhow::Result<()> {
    let json = output == Output::Json;
    let (mut lines, mut bytes) = (0_u64, 0_u64);
    let mut head = None;
    if !json {
        println!("{}", row(HEADINGS));
    }
    verify(&config.agent.state_dir, |entry| {
        lines += 1;
        bytes += entry.bytes;
        show(&entry, json);
        head = Some(entry.digest);
    })?;
    if !json {
        let head = head.map_or_else(|| "nothing yet".to_owned(), |head| head.to_string());
        println!("{lines} lines of {bytes} bytes left this machine; the chain holds: {head}");
    }
    Ok(())
}

fn show(entry: &Entry, json: bool) {
    if json {
        // Our own types always have a JSON form.
        println!("{}", serde_json::to_string(entry).unwrap_or_default());
        return;
    }
    let Entry { at_us, what, job, round, bytes, examples, privacy, content, .. } = entry;
    let (at, round, content) = (when(*at_us), round.to_string(), content.hex());
    let (bytes, rows) = (bytes.to_string(), examples.to_string());
    let content: String = content.chars().take(12).collect();
    println!("{}", row([&at, what, job, &round, &bytes, &rows, privacy, &content]));
    if !entry.detail.is_empty() {
        println!("{:<19}  {}", "", entry.detail);
    }
}

/// One line of the table. A ledger grows for years and is shown as it is read, so the columns have
/// widths of their own.
fn row([at, what, job, round, bytes, rows, privacy, content]: [&str; 8]) -> String {
    format!(
        "{at:<19}  {what:<10}  {job:<24}  {round:>5}  {bytes:>12}  {rows:>9}  {privacy:<7}  {content}"
    )
}
