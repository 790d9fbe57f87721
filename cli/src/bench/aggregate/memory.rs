//! The process's peak memory, and the arithmetic alone, on updates that are held in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio_stream::StreamExt as _;
use tributary_coordinator::aggregation::scan::{BLOCK_BYTES, Piece, THREADS, UNIT_BYTES};
use tributary_core::aggregate::Engine;
use tributary_core::codec::{self, HEADER_BYTES, VALUE_BYTES};

use super::Bench;
use super::passes::fold;

/// Sets the kernel's high-water mark back to what the process holds now (`proc_pid_clear_refs(5)`);
/// whether it could.
pub(super) fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Memory that can be had without swapping, in bytes.
fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Seconds of each repetition.
#[derive(Default)]
pub(super) struct InMemory {
    pub(super) fold: Vec<f64>,
    pub(super) plain_add: Vec<f64>,
}

/// Measures the arithmetic on the updates' bytes in memory, cut and shared among threads as the
/// fold's; `None` where they would take more than half of the memory that is free.
pub(super) async fn measure(bench: &Bench, repetitions: u32) -> anyhow::Result<Option<InMemory>> {
    let bytes = bench.contributions.len() as u64 * codec::update_len(bench.schema.len());
    if available().is_none_or(|available| available / 2 < bytes) {
        return Ok(None);
    }
    let mut updates = Vec::with_capacity(bench.contributions.len());
    for contribution in &bench.contributions {
        let mut update = Vec::with_capacity(bench.schema.len() * VALUE_BYTES);
        for part in 0..codec::part_count(codec::update_len(bench.schema.len())) {
            let header = if part == 0 { HEADER_BYTES as u64 } else { 0 };
            let mut chunks = bench.blobs.stream(&contribution.key.part(part), header);
            while let Some(chunk) = chunks.next().await {
                update.extend_from_slice(&chunk?);
            }
        }
        updates.push((update, bench.scale.weight(contribution.examples)));
    }
    let mut times = InMemory::default();
    for _ in 0..repetitions {
        times.fold.push(time(&updates, 0_i64, fold));
        times.plain_add.push(time(&updates, 0_f32, |sums, pieces| {
            for (values, _) in pieces {
                Engine::best().plain_add(sums, values);
            }
        }));
    }
    Ok(Some(times))
}

/// Seconds of one pass over all updates, in units of coordinates that threads take in turn.
fn time<S: Copy + Send + Sync>(
    updates: &[(Vec<u8>, f64)],
    zero: S,
    add: impl Fn(&mut [S], &[Piece<'_>]) + Sync,
) -> f64 {
    let values = updates.first().map_or(0, |(bytes, _)| bytes.len() / VALUE_BYTES);
    let (unit, block) = (UNIT_BYTES as usize / VALUE_BYTES, BLOCK_BYTES / VALUE_BYTES);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut sums = vec![zero; unit];
        loop {
            let from = next.fetch_add(unit, Ordering::Relaxed);
            if from >= values {
                return;
            }
            sums.fill(zero);
            for pair in updates.chunks(2) {
                for at in (from..values.min(from + unit)).step_by(block) {
                    let range = at..values.min(from + unit).min(at + block);
                    let piece = |i: usize| {
                        let (bytes, by) = &pair[i.min(pair.len() - 1)];
                        (&bytes.as_chunks::<VALUE_BYTES>().0[range.clone()], *by)
                    };
                    let sums = &mut sums[at - from..range.end - from];
                    add(sums, &[piece(0), piece(1)][..pair.len()]);
                }
            }
            std::hint::black_box(&sums);
        }
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    started.elapsed().as_secs_f64()
}
