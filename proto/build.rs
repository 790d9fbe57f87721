//! Compiles the protobuf files without protoc, and keeps their descriptors for server reflection.

use std::path::PathBuf;

use protox::prost::Message;

const FILES: [&str; 6] = [
    "tributary/v1/common.proto",
    "tributary/v1/enrollment.proto",
    "tributary/v1/participant.proto",
    "tributary/v1/round.proto",
    "tributary/v1/job.proto",
    "tributary/v1/federation.proto",
];

/// Messages with a JSON form.
const SHOWN: [&str; 12] = [
    "ClassMetrics",
    "Metrics",
    "TaskInfo",
    "Job",
    "SiteRefusal",
    "Round",
    "JobEvent",
    "RejectedInput",
    "Binding",
    "ClientInfo",
    "IdentityInfo",
    "AuditLine",
];

/// Messages whose `Debug` prints nothing of what they hold.
const SECRET: [&str; 2] = [".tributary.v1.EnrollRequest", ".tributary.v1.CreateTokenResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=tributary");
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("tributary_descriptor.bin"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure()
        .bytes(".tributary.v1")
        // Their fields are secrets: `convert/enrollment` prints them as nothing.
        .skip_debug(SECRET);
    // What operators see can be printed as JSON.
    for shown in SHOWN {
        builder =
            builder.type_attribute(format!("tributary.v1.{shown}"), "#[derive(serde::Serialize)]");
    }
    builder
        .field_attribute(
            "tributary.v1.TaskInfo.kind",
            "#[serde(serialize_with = \"crate::task_kind\")]",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
