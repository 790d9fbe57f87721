//! `--init`: a checkpoint on this machine that a job starts from. The spec names it by its digest, and
//! the coordinator is brought its bytes.

use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use tributary_core::checkpoint;
use tributary_core::digest::Digest;
use tributary_core::spec::JobSpec;
use tributary_learning::{Pretrained, start_from};
use tributary_proto::v1::upload_checkpoint_request::Message;
use tributary_proto::{CHUNK_BYTES, v1};

use super::model::progress;
use crate::connect::{jobs, said};

/// A spec and what it starts from.
pub(crate) struct Submission {
    /// The spec's document.
    pub(crate) text: String,
    pub(crate) spec: JobSpec,
    /// The checkpoint's file, where one is brought.
    checkpoint: Option<Bytes>,
}

impl Submission {
    /// Judges a spec as the coordinator will, and reads the checkpoint (a safetensors file, or a folder
    /// as Hugging Face makes it) that it is to start from. `from` tells where the spec is from.
    pub(crate) fn new(text: String, init: Option<&Path>, from: &str) -> anyhow::Result<Self> {
        let parse =
            |text: &str| JobSpec::parse(text).map_err(|faults| anyhow::anyhow!("{from}: {faults}"));
        let spec = parse(&text)?;
        let Some(path) = init else { return Ok(Self { text, spec, checkpoint: None }) };
        check_tokenizer(path, &spec)?;
        let bytes = checkpoint::encode(&start_from(path, &spec.model, spec.seed)?);
        let digest = Digest::of(&bytes);
        let text = match spec.init {
            None => format!("{text}\n[init]\ncheckpoint = \"{digest}\"\n"),
            Some(named) if named == digest => text,
            Some(named) => bail!(
                "--init {}: expected init.checkpoint of the spec, {named}, found {digest}; take \
                 [init] out of the spec, or name another file",
                path.display()
            ),
        };
        Ok(Self { spec: parse(&text)?, text, checkpoint: Some(bytes.into()) })
    }

    /// Brings the checkpoint, where there is one to bring.
    pub(crate) async fn bring(&self, at: &str) -> anyhow::Result<()> {
        let (Some(bytes), Some(digest)) = (&self.checkpoint, self.spec.init) else { return Ok(()) };
        let total = bytes.len() as u64;
        let header = v1::CheckpointHeader { digest: digest.to_string(), total_bytes: total };
        let bar = progress(total);
        let (shown, mut left) = (bar.clone(), bytes.clone());
        let data = std::iter::from_fn(move || {
            let next = left.split_to(CHUNK_BYTES.min(left.len()));
            shown.inc(next.len() as u64);
            (!next.is_empty()).then_some(Message::Data(next))
        });
        let messages = std::iter::once(Message::Header(header)).chain(data);
        let messages =
            messages.map(|message| v1::UploadCheckpointRequest { message: Some(message) });
        let brought = jobs(at).await?.upload_checkpoint(tokio_stream::iter(messages)).await;
        bar.finish_and_clear();
        brought.map_err(said).context("the checkpoint was not taken")?;
        Ok(())
    }
}

/// A folder's model knows the tokens of its own tokeniser alone.
fn check_tokenizer(path: &Path, spec: &JobSpec) -> anyhow::Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    match (spec.constants.tokenizer, Pretrained::tokenizer(path)?) {
        (Some(named), Some(found)) if named != found => bail!(
            "data.tokenizer: expected that of {}, {found}, found {named}",
            path.join("tokenizer.json").display()
        ),
        _ => Ok(()),
    }
}
