//! Distinct updates and a checkpoint, stored as the coordinator stores them.

use std::time::Instant;

use bytes::Bytes;
use tokio_stream::StreamExt as _;
use tributary_coordinator::aggregation::Contribution;
use tributary_coordinator::blobs::{Blobs, UpdateKey, checkpoint_key};
use tributary_core::checkpoint;
use tributary_core::codec::{self, Expectation, ManifestHasher};
use tributary_core::name::{ClientName, JobId, TaskId};
use tributary_core::params::Schema;

/// The largest magnitude that is drawn; updates of a healthy round are far below 1.
const VALUE_MAX: f32 = 0.5;

/// Whose blobs they are.
pub(super) fn job() -> anyhow::Result<JobId> {
    Ok("bench-aggregate".parse()?)
}

/// Stores `count` updates, each part of them checked as at acceptance, then written and fsynced.
pub(super) async fn updates(
    blobs: &Blobs,
    schema: &Schema,
    count: u32,
) -> anyhow::Result<Vec<Contribution>> {
    let style = "storing updates {wide_bar} {pos}/{len} {eta}";
    let style = indicatif::ProgressStyle::with_template(style)?;
    let bar = indicatif::ProgressBar::new(u64::from(count)).with_style(style);
    let job = job()?;
    let mut contributions = Vec::with_capacity(count as usize);
    for index in 0..count {
        let client: ClientName = format!("client-{index:04}").parse()?;
        let task = TaskId::derive(&job, 1, 1, "train", &client);
        // From a few to hundreds of thousands, as unequal as in life.
        let examples = 10 + (u64::from(index) * 7919) % (1 << (4 + index % 16));
        let parts = codec::part_count(codec::update_len(schema.len()));
        let mut hasher = ManifestHasher::new();
        for part in 0..parts {
            hasher.update(&part_bytes(schema, index, part));
        }
        let digest = hasher.finish().digest();
        let key = UpdateKey { job: job.clone(), round: 1, task, digest };
        store(blobs, schema, index, &key).await?;
        contributions.push(Contribution { client, examples, key });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(contributions)
}

async fn store(blobs: &Blobs, schema: &Schema, index: u32, key: &UpdateKey) -> anyhow::Result<()> {
    let (parameters, len) = (schema.len(), codec::update_len(schema.len()));
    let expect = Expectation { schema: schema.digest(), parameters, max_abs: VALUE_MAX };
    for part in 0..codec::part_count(len) {
        let bytes = part_bytes(schema, index, part);
        codec::check_part(part, &bytes, &expect)?;
        blobs.put_part(key, part, bytes.into()).await?;
    }
    Ok(())
}

/// A part of update `index`: values that depend on the update and the coordinate alone.
fn part_bytes(schema: &Schema, index: u32, part: u32) -> Vec<u8> {
    let Some(values) = codec::part_values(part, schema.len()) else { return Vec::new() };
    let mut bytes = Vec::with_capacity(values.offset + values.coordinates.len() * 4);
    if part == 0 {
        bytes.extend_from_slice(&codec::encode_header(schema.digest(), schema.len()));
    }
    bytes.extend(values.coordinates.flat_map(|at| value(index, at).to_le_bytes()));
    bytes
}

/// SplitMix64's mixer over (update, coordinate).
fn value(index: u32, coordinate: usize) -> f32 {
    let z = (u64::from(index) << 32 | coordinate as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let unit = ((z ^ (z >> 27)) >> 40) as f32 / (1 << 24) as f32;
    (unit * 2.0 - 1.0) * VALUE_MAX
}

/// Stores the checkpoint that the round starts from; its key.
pub(super) async fn checkpoint(blobs: &Blobs, schema: &Schema) -> anyhow::Result<String> {
    let key = checkpoint_key(&job()?, 0, 0);
    let mut writer = blobs.checkpoint_writer(&key).await?;
    writer.write(checkpoint::header(schema).into()).await?;
    for part in 0..codec::part_count(codec::update_len(schema.len())) {
        let header = if part == 0 { codec::HEADER_BYTES } else { 0 };
        let values = Bytes::from(part_bytes(schema, u32::MAX, part)).slice(header..);
        writer.write(values).await?;
    }
    writer.finish().await?;
    Ok(key)
}

/// Seconds to read a checkpoint, hash it, and write and fsync it again.
pub(super) async fn time_copy(blobs: &Blobs, key: &str, copy: &str) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut writer = blobs.checkpoint_writer(copy).await?;
    let mut chunks = blobs.stream(key, 0);
    while let Some(chunk) = chunks.next().await {
        writer.write(chunk?).await?;
    }
    writer.finish().await?;
    Ok(started.elapsed().as_secs_f64())
}
