//! `tributary status`: all jobs in a table, or one job whole.

use anyhow::Context;
use tributary_core::spec::JobSpec;
use tributary_proto::v1;

use crate::args::Output;
use crate::connect::{jobs, said};
use crate::jobs::print_json;
use crate::scores;
use crate::table::{Align, Table};

pub(crate) async fn run(at: &str, job: Option<&str>, out: Output) -> anyhow::Result<()> {
    match job {
        Some(job) => one(at, job, out).await,
        None => all(at, out).await,
    }
}

async fn all(at: &str, out: Output) -> anyhow::Result<()> {
    let mut client = jobs(at).await?;
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListJobsRequest { page_size: 0, page_token, status: String::new() };
        let page = client.list_jobs(request).await.map_err(said)?.into_inner();
        listed.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if out == Output::Json {
        return print_json(&listed);
    }
    if listed.is_empty() {
        println!("no jobs yet: submit one with `tributary submit job.toml`");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("JOB", Align::Left),
        ("STATUS", Align::Left),
        ("PHASE", Align::Left),
        ("ROUNDS", Align::Right),
        ("HELD-OUT SCORE", Align::Left),
        ("REASON", Align::Left),
    ]);
    for job in listed {
        table.row(vec![
            job.job_id,
            job.status,
            job.phase,
            format!("{}/{}", job.rounds_committed, job.rounds),
            score(job.evaluation.as_ref()),
            job.reason,
        ]);
    }
    println!("{}", table.render());
    Ok(())
}

/// The first thing that one looks at.
fn score(metrics: Option<&v1::Metrics>) -> String {
    let Some(metrics) = metrics else { return "–".to_owned() };
    let [(name, value), _] = scores::headline(metrics);
    format!("{name} {value:.4}")
}

async fn one(at: &str, job: &str, out: Output) -> anyhow::Result<()> {
    let request = v1::GetJobRequest { job: job.to_owned() };
    let answer = jobs(at).await?.get_job(request).await.map_err(said)?.into_inner();
    let job = answer.job.context("the coordinator's answer was empty")?;
    match out {
        Output::Json => print_json(&job),
        Output::Table => {
            println!("{}", describe(&job));
            let spec = JobSpec::parse(&job.spec).ok();
            let names = spec.and_then(|spec| spec.constants.class_names).unwrap_or_default();
            let classes = job.evaluation.as_ref().and_then(|m| scores::by_class(m, &names));
            if let Some(classes) = classes {
                println!("\n{classes}");
            }
            Ok(())
        }
    }
}

/// A job in lines of a name and a value.
pub(crate) fn describe(job: &v1::Job) -> String {
    let mut lines = vec![
        ("job", job.job_id.clone()),
        ("status", job.status.clone()),
        ("phase", format!("{} (attempt {})", job.phase, job.attempt)),
        ("rounds", format!("{} of {} committed", job.rounds_committed, job.rounds)),
        ("parameters", job.parameters.to_string()),
        ("checkpoint", job.checkpoint_digest.clone()),
        ("result", job.result_digest.clone()),
        ("spec", job.spec_digest.clone()),
    ];
    if !job.reason.is_empty() {
        lines.insert(2, ("reason", job.reason.clone()));
    }
    if !job.submitted_by.is_empty() {
        lines.push(("submitted", job.submitted_by.clone()));
    }
    for refusal in &job.refusals {
        lines.push(("refused by", format!("{}: {}", refusal.client, refusal.reason)));
    }
    if let Some(metrics) = &job.evaluation {
        let text =
            format!("{} on {} held-out examples", scores::sentence(metrics), metrics.examples);
        lines.push(("evaluation", text));
    }
    let lines: Vec<String> =
        lines.into_iter().map(|(name, value)| format!("{name:<11} {value}")).collect();
    lines.join("\n")
}
