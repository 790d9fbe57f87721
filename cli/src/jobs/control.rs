//! `tributary cancel`, `pause`, `resume`.

use tributary_proto::v1;

use crate::args::Output;
use crate::connect::{jobs, said};
use crate::jobs::print_json;
use crate::jobs::status::describe;

pub(crate) async fn cancel(
    at: &str,
    job: String,
    reason: String,
    out: Output,
) -> anyhow::Result<()> {
    let request = v1::CancelJobRequest { job, reason };
    show(jobs(at).await?.cancel_job(request).await.map_err(said)?.into_inner().job, out)
}

pub(crate) async fn pause(at: &str, job: String, out: Output) -> anyhow::Result<()> {
    let request = v1::PauseJobRequest { job };
    show(jobs(at).await?.pause_job(request).await.map_err(said)?.into_inner().job, out)
}

pub(crate) async fn resume(at: &str, job: String, out: Output) -> anyhow::Result<()> {
    let request = v1::ResumeJobRequest { job };
    show(jobs(at).await?.resume_job(request).await.map_err(said)?.into_inner().job, out)
}

fn show(job: Option<v1::Job>, out: Output) -> anyhow::Result<()> {
    let Some(job) = job else { return Ok(()) };
    match out {
        Output::Json => print_json(&job),
        Output::Table => {
            println!("{}", describe(&job));
            Ok(())
        }
    }
}
