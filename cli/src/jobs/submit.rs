//! `tributary submit`: a spec becomes a job.

use anyhow::Context;
use tributary_proto::v1;

use crate::args::{Output, SubmitArgs};
use crate::connect::{jobs, said};
use crate::jobs::initial::Submission;
use crate::jobs::print_json;

pub(crate) async fn run(at: &str, args: SubmitArgs, out: Output) -> anyhow::Result<()> {
    let path = args.spec.display();
    let spec =
        std::fs::read_to_string(&args.spec).with_context(|| format!("cannot read {path}"))?;
    // The same check that the coordinator makes, before anything is sent.
    let submission = Submission::new(spec, args.init.as_deref(), &path.to_string())?;
    if args.check {
        let parsed = &submission.spec;
        let parameters = parsed.model.schema().len();
        println!("{path} is a good spec: {parameters} parameters, {}", parsed.digest);
        return Ok(());
    }
    submission.bring(at).await?;
    let request_id = args.request_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let request = v1::CreateJobRequest { request_id, spec: submission.text, validate_only: false };
    let answer = jobs(at).await?.create_job(request).await.map_err(said)?.into_inner();
    let job = answer.job.context("the coordinator made no job")?;
    match out {
        Output::Json => print_json(&job),
        Output::Table => {
            println!("{}", job.job_id);
            eprint_hint(&job.job_id);
            Ok(())
        }
    }
}

#[allow(clippy::print_stderr)]
fn eprint_hint(job: &str) {
    eprintln!("follow it with: tributary watch {job}");
}
