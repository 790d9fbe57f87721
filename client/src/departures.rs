//! `tributary-client ledger`: what left this machine, read and verified.
#![allow(clippy::print_stdout)]

use tributary_client::config::ClientConfig;
use tributary_client::ledger::{Entry, verify};

use crate::Output;

pub(crate) fn run(config: &ClientConfig, output: Output) -> anyhow::Result<()> {
    let json = output == Output::Json;
    let (mut lines, mut bytes) = (0_u64, 0_u64);
    let mut head = None;
    if !json {
        println!("AT (us)           WHAT        JOB  ROUND  BYTES  ROWS  PRIVACY  CONTENT");
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
    let content: String = content.hex().chars().take(12).collect();
    println!("{at_us:<16}  {what:<10}  {job}  {round}  {bytes}  {examples}  {privacy}  {content}");
    if !entry.detail.is_empty() {
        println!("{:<16}  {}", "", entry.detail);
    }
}
