//! Runs that failed once: each is the short list of its operations, named after what was wrong.

use crate::op::Op;
use crate::run::run;
use crate::seeds::fault;

fn holds(seed: u64, ops: &[Op]) {
    assert_eq!(fault(&run(seed, ops, None)), None, "seed {seed}: {ops:?}");
}

/// A client was killed while its poll waited at a coordinator, and started again. Both polls woke with the
/// round's task; the earlier process took it from the later one, whose next heartbeat was refused, so that
/// the agent ended for good.
#[test]
fn a_killed_client_s_poll_takes_nothing_from_the_next_process() {
    let ops = [
        Op::Wait { ms: 169 },
        Op::Halt { client: 1 },
        Op::Wait { ms: 61 },
        Op::Crash { replica: 1 },
        Op::Wait { ms: 250 },
        Op::Start { replica: 1 },
        Op::Wait { ms: 272 },
        Op::Wait { ms: 3851 },
        Op::Wait { ms: 5233 },
        Op::Pause { job: 1 },
        Op::Freeze { replica: 1 },
        Op::Wait { ms: 233 },
        Op::Wait { ms: 236 },
        Op::Kill { client: 2 },
        Op::Wait { ms: 284 },
        Op::Wait { ms: 3167 },
        Op::Wait { ms: 3990 },
        Op::Crash { replica: 0 },
        Op::Wait { ms: 2874 },
        Op::Crash { replica: 1 },
        Op::Wait { ms: 3439 },
        Op::FailStore { replica: 0, percent: 50 },
        Op::Start { replica: 1 },
        Op::Wait { ms: 1788 },
        Op::Wait { ms: 142 },
        Op::Launch { client: 2 },
        Op::Wait { ms: 197 },
        Op::Wait { ms: 180 },
        Op::Wait { ms: 1136 },
        Op::Wait { ms: 5016 },
        Op::Wait { ms: 1748 },
        Op::Wait { ms: 75 },
        Op::Wait { ms: 1072 },
        Op::Wait { ms: 42 },
        Op::Kill { client: 0 },
    ];
    holds(153, &ops);
}
