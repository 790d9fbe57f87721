//! `tributary audit`: the federation's administrative acts and security events. The chain is
//! recomputed here, so that the coordinator need not be believed.

use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use tributary_client::moment::when;
use tributary_core::audit::{AuditChain, AuditLine};
use tributary_core::digest::Digest;
use tributary_proto::convert::{audit_from_wire, digest_from_wire};
use tributary_proto::v1;

use crate::args::{Audit, Output};
use crate::connect::{federation, said};
use crate::jobs::print_json;
use crate::table::{Align, Table, short};

/// Lines that are asked for at once.
const PAGE: u32 = 1000;

pub(crate) async fn run(at: &str, args: Audit, out: Output) -> anyhow::Result<()> {
    let (lines, head) = fetch(at).await?;
    match args {
        Audit::List { last } => {
            let from = if last == 0 { 0 } else { lines.len().saturating_sub(last) };
            let shown = lines.get(from..).unwrap_or_default();
            if out == Output::Json {
                return print_json(&shown);
            }
            println!("{}", render(shown));
            Ok(())
        }
        Audit::Export => {
            for line in &lines {
                println!("{}", serde_json::to_string(line)?);
            }
            Ok(())
        }
        Audit::Verify { against } => verify(&lines, &head, against.as_deref(), out),
    }
}

/// Where the coordinator says that the chain ends.
struct Head {
    sequence: u64,
    digest: Digest,
}

async fn fetch(at: &str) -> anyhow::Result<(Vec<AuditLine>, Head)> {
    let mut client = federation(at).await?;
    let mut lines: Vec<AuditLine> = Vec::new();
    loop {
        let after_sequence = lines.last().map_or(0, |line| line.sequence);
        let request = v1::ListAuditRequest { after_sequence, page_size: PAGE };
        let page = client.list_audit(request).await.map_err(said)?.into_inner();
        if page.lines.is_empty() {
            let digest = digest_from_wire("head_digest", &page.head_digest)?;
            return Ok((lines, Head { sequence: page.head_sequence, digest }));
        }
        for line in page.lines {
            let line = audit_from_wire(line)?;
            // A page that goes back would be asked for without end.
            ensure!(line.sequence > after_sequence, "the audit's lines do not ascend");
            lines.push(line);
        }
    }
}

#[derive(Serialize)]
struct Verified {
    lines: u64,
    head: String,
}

fn verify(
    lines: &[AuditLine],
    head: &Head,
    against: Option<&Path>,
    out: Output,
) -> anyhow::Result<()> {
    let mut chain = AuditChain::default();
    for line in lines {
        ensure!(
            chain.follow(line),
            "the chain is broken at line {}: somebody changed, removed or inserted lines",
            chain.sequence + 1
        );
    }
    // The head was read before the last, empty page: the lines reach it.
    ensure!(
        (chain.sequence, chain.digest) == (head.sequence, head.digest),
        "the lines end at {} with {}, the chain's head is line {} with {}: the end was cut",
        chain.sequence,
        chain.digest,
        head.sequence,
        head.digest
    );
    if let Some(path) = against {
        compare(lines, path)?;
    }
    let verified = Verified { lines: chain.sequence, head: chain.digest.to_string() };
    match out {
        Output::Json => print_json(&verified),
        Output::Table => {
            println!("{} lines hold; head {}", verified.lines, verified.head);
            Ok(())
        }
    }
}

/// An earlier export must be the beginning of the lines of today.
fn compare(lines: &[AuditLine], path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
    for (at, text) in BufReader::new(file).lines().enumerate() {
        let exported: AuditLine = serde_json::from_str(&text?)
            .with_context(|| format!("{name}: line {} is no line of an export", at + 1))?;
        match lines.get(at) {
            Some(line) if *line == exported => {}
            Some(_) => bail!("line {} is not the one of {name}: the audit was rewritten", at + 1),
            None => bail!("{name} has {} lines and more, the audit {at}: it was cut", at + 1),
        }
    }
    Ok(())
}

fn render(lines: &[AuditLine]) -> String {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("WHEN (UTC)", Align::Left),
        ("WHO", Align::Left),
        ("FROM", Align::Left),
        ("WHAT", Align::Left),
        ("TARGET", Align::Left),
        ("OUTCOME", Align::Left),
        ("DETAIL", Align::Left),
        ("CHAIN", Align::Left),
    ]);
    for line in lines {
        table.row(vec![
            line.sequence.to_string(),
            when(line.at_us),
            line.actor.clone(),
            line.address.clone(),
            line.action.clone(),
            line.target.clone(),
            line.outcome.clone(),
            line.detail.clone(),
            short(&line.digest.to_string()),
        ]);
    }
    table.render()
}
