//! `tributary model pull`: a checkpoint into a file, resumed where an earlier try stopped, and
//! checked against its digest.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tributary_core::digest::Digest;
use tributary_proto::v1;

use crate::args::{Output, PullArgs};
use crate::connect::{jobs, said};
use crate::jobs::print_json;

/// A model on this machine.
#[derive(Serialize)]
pub(crate) struct Pulled {
    pub(crate) path: PathBuf,
    pub(crate) digest: String,
    pub(crate) round: u32,
    pub(crate) bytes: u64,
}

pub(crate) async fn pull(at: &str, args: PullArgs, out: Output) -> anyhow::Result<()> {
    let pulled = fetch(at, &args.job, args.round, args.to.as_deref()).await?;
    if out == Output::Json {
        return print_json(&pulled);
    }
    println!("{}  round {}, {} bytes", pulled.path.display(), pulled.round, pulled.bytes);
    println!("{}", pulled.digest);
    Ok(())
}

/// Fetches a checkpoint to `to` (JOB-ROUND.safetensors unless given).
pub(crate) async fn fetch(
    at: &str,
    job: &str,
    round: Option<u32>,
    to: Option<&Path>,
) -> anyhow::Result<Pulled> {
    let mut client = jobs(at).await?;
    // The first chunk tells which round and digest: a partial file is named by them.
    let request = v1::DownloadCheckpointRequest { job: job.to_owned(), round, offset: 0 };
    let mut chunks = client.download_checkpoint(request).await.map_err(said)?.into_inner();
    let Some(first) = chunks.message().await.map_err(said)? else {
        bail!("the checkpoint is empty")
    };
    let digest: Digest = first.digest.parse()?;
    let path = match to {
        Some(path) => path.to_owned(),
        None => PathBuf::from(format!("{job}-{}.safetensors", first.round)),
    };
    let partial = path.with_extension(format!("{}.partial", &digest.hex()[..12]));
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    let total = first.total_bytes;
    let mut offset = file.metadata()?.len().min(total);
    let bar = progress(total);
    if offset == 0 {
        file.write_all(&first.data)?;
        offset = first.data.len() as u64;
    } else {
        let round = Some(first.round);
        let request = v1::DownloadCheckpointRequest { job: job.to_owned(), round, offset };
        chunks = client.download_checkpoint(request).await.map_err(said)?.into_inner();
    }
    while offset < total {
        bar.set_position(offset);
        let Some(chunk) = chunks.message().await.map_err(said)? else {
            bail!("the download stopped at {offset} of {total} bytes: run it again to resume");
        };
        file.write_all(&chunk.data)?;
        offset += chunk.data.len() as u64;
    }
    bar.finish_and_clear();
    file.sync_all()?;
    if Digest::of_reader(File::open(&partial)?)? != digest {
        std::fs::remove_file(&partial)?;
        bail!("the checkpoint was damaged on its way: run it again");
    }
    std::fs::rename(&partial, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Pulled { path, digest: digest.to_string(), round: first.round, bytes: total })
}

pub(super) fn progress(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
