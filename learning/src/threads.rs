//! A pool of threads of one task's own.

use crate::LearningError;

/// The graph is walked and dropped recursively; this depth is enough for the longest model.
const STACK_BYTES: usize = 64 << 20;
/// More threads than pieces of a batch have nothing to do.
const THREADS_MAX: usize = 256;

/// Runs `work` inside a private pool, so that several tasks of one process do not queue behind each
/// other, and returns its result. Results of the kernels do not depend on the number of threads.
///
/// # Errors
/// When the threads cannot be started, and whatever the work fails with.
pub fn within<R: Send>(
    threads: usize,
    work: impl FnOnce() -> Result<R, LearningError> + Send,
) -> Result<R, LearningError> {
    let threads = threads.clamp(1, THREADS_MAX);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .thread_name(|index| format!("learning-{index}"))
        .build()
        .map_err(|error| LearningError::Threads { threads, reason: error.to_string() })?;
    pool.install(work)
}
