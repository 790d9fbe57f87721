//! What happens to a federation: operations, drawn from a seed. They print as they are written in Rust, so
//! that the list of a failing run can be pasted into a test.

use tributary_core::prg::Prg;

/// How many replicas there are.
pub(crate) const REPLICAS: usize = 2;
/// How many clients there are.
pub(crate) const CLIENTS: usize = 3;
/// How many jobs there are: one that waits for everybody, and one that time decides.
pub(crate) const JOBS: usize = 2;
/// Operations of a run, from the fewest to the most: two faults that meet need few, a run that goes on for
/// long under them shows what they leave behind.
const OPS: (u64, u64) = (6, 40);
/// Longest wait of one operation, milliseconds: some leases (3 s of drivers, 5 s of tasks) end in it.
const WAIT_MAX_MS: u64 = 6_000;

/// One thing that happens. Replicas, clients and jobs are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Time passes.
    Wait { ms: u64 },
    /// A replica ends at once, wherever it is.
    Crash { replica: usize },
    /// A replica is asked to stop, and hands its jobs back.
    Stop { replica: usize },
    /// A replica that is not there starts.
    Start { replica: usize },
    /// A replica stands still, and nobody knows.
    Freeze { replica: usize },
    /// It goes on where it was.
    Thaw { replica: usize },
    /// A client ends at once, wherever it is.
    Kill { client: usize },
    /// A client that is not there starts, with the state folder that it had.
    Launch { client: usize },
    /// A client stands still.
    Halt { client: usize },
    /// It goes on.
    Go { client: usize },
    /// Nothing passes between two of them.
    Cut { client: usize, replica: usize },
    /// They reach each other again.
    Heal { client: usize, replica: usize },
    /// So many of a hundred tasks are more than a client's trainer can do.
    Ail { client: usize, percent: u64 },
    /// A client's calls arrive, and no answer comes back.
    Deafen { client: usize },
    /// It hears again.
    Hear { client: usize },
    /// So many calls of a hundred are lost, on either way.
    Lose { percent: u64 },
    /// So many calls of a hundred come twice, the second one late.
    Repeat { percent: u64 },
    /// Everything takes up to so long on its way.
    Slow { ms: u64 },
    /// So many of a hundred transactions of a replica fail: some before they are kept, of some the answer
    /// is lost.
    FailStore { replica: usize, percent: u64 },
    /// So many of a hundred operations of a replica on blobs fail.
    FailBlobs { replica: usize, percent: u64 },
    /// The operator pauses a job.
    Pause { job: usize },
    /// The operator resumes it.
    Resume { job: usize },
    /// The operator ends it.
    Cancel { job: usize },
}

/// A run's operations.
pub(crate) fn draw(seed: u64) -> Vec<Op> {
    let mut prg = Prg::for_name(seed, "simulation", "ops");
    let number = OPS.0 + prg.below(OPS.1 - OPS.0 + 1);
    let mut ops = Vec::new();
    for _ in 0..number {
        ops.push(Op::Wait { ms: wait(&mut prg) });
        ops.push(one(&mut prg));
    }
    ops
}

/// Half of the waits are short, so that faults meet.
fn wait(prg: &mut Prg) -> u64 {
    let longest = if prg.below(2) == 0 { 300 } else { WAIT_MAX_MS };
    1 + prg.below(longest)
}

fn one(prg: &mut Prg) -> Op {
    let replica = prg.below(REPLICAS as u64) as usize;
    let client = prg.below(CLIENTS as u64) as usize;
    let job = prg.below(JOBS as u64) as usize;
    // Half of the rates end the trouble.
    let rate = |prg: &mut Prg, most: u64| if prg.below(2) == 0 { 0 } else { 1 + prg.below(most) };
    match prg.below(33) {
        0..=2 => Op::Crash { replica },
        3..=6 => Op::Start { replica },
        7 => Op::Stop { replica },
        8 | 9 => Op::Freeze { replica },
        10 | 11 => Op::Thaw { replica },
        12 | 13 => Op::Kill { client },
        14..=16 => Op::Launch { client },
        17 => Op::Halt { client },
        18 => Op::Go { client },
        19 | 20 => Op::Cut { client, replica },
        21 => Op::Heal { client, replica },
        22 => Op::Deafen { client },
        23 => Op::Hear { client },
        24 => Op::Lose { percent: rate(prg, 40) },
        25 => Op::Repeat { percent: rate(prg, 60) },
        26 => Op::Slow { ms: 1 + prg.below(3_000) },
        27 | 28 => Op::FailStore { replica, percent: rate(prg, 60) },
        29 => Op::FailBlobs { replica, percent: rate(prg, 40) },
        30 => Op::Ail { client, percent: rate(prg, 40) },
        31 if prg.below(2) == 0 => Op::Pause { job },
        31 => Op::Resume { job },
        // Most jobs are to come to their end.
        _ if prg.below(4) == 0 => Op::Cancel { job },
        _ => Op::Resume { job },
    }
}
