//! Makes a failing list of operations short: leaves out what it can while the run still fails.

use crate::op::Op;

/// Most runs that are made for it.
const RUNS_MAX: usize = 250;

/// The shortest list that was found to fail still.
pub(crate) fn shrink(ops: &[Op], fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let mut ops = ops.to_vec();
    let mut runs = 0;
    let mut fails = |ops: &[Op]| {
        runs += 1;
        runs <= RUNS_MAX && fails(ops)
    };
    let mut left_out = ops.len().div_ceil(2);
    while left_out > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + left_out).min(ops.len()));
            if fails(&fewer) {
                ops = fewer;
            } else {
                at += left_out;
            }
        }
        left_out = if left_out == 1 { 0 } else { left_out.div_ceil(2) };
    }
    let joined = join(&ops);
    if fails(&joined) { joined } else { ops }
}

/// The same with one wait where several follow each other.
fn join(ops: &[Op]) -> Vec<Op> {
    let mut joined = Vec::new();
    for op in ops {
        match (joined.last_mut(), op) {
            (Some(Op::Wait { ms }), Op::Wait { ms: more }) => *ms += more,
            _ => joined.push(*op),
        }
    }
    joined
}
