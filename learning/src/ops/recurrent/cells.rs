//! The cells' formulae for one row of a step, in blocks that stay in registers.

use super::super::maths::{sigmoid, tanh};

/// Values of a block.
const BLOCK: usize = 16;
type Values = [f32; BLOCK];

#[inline(always)]
fn load(values: &[f32], at: usize) -> Values {
    match values.get(at..at + BLOCK).and_then(|full| full.try_into().ok()) {
        Some(full) => full,
        None => {
            let mut part = [0.0; BLOCK];
            if let Some(rest) = values.get(at..) {
                part[..rest.len()].copy_from_slice(rest);
            }
            part
        }
    }
}

#[inline(always)]
fn store(values: &mut [f32], at: usize, block: &Values) {
    match values.get_mut(at..at + BLOCK) {
        Some(full) => full.copy_from_slice(block),
        None => {
            let rest = &mut values[at..];
            let len = rest.len();
            rest.copy_from_slice(&block[..len]);
        }
    }
}

/// Gates i, f, g, o of sums become the gates; cell and hidden values follow. `before` is the cell of
/// the step before, and empty at the first.
#[inline(always)]
pub(super) fn lstm(gates: &mut [f32], before: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    let width = hidden.len();
    let (i, rest) = gates.split_at_mut(width);
    let (f, rest) = rest.split_at_mut(width);
    let (g, o) = rest.split_at_mut(width);
    let mut at = 0;
    while at < width {
        let [mut vi, mut vf, mut vg, mut vo] = [load(i, at), load(f, at), load(g, at), load(o, at)];
        let last = if before.is_empty() { [0.0; BLOCK] } else { load(before, at) };
        let (mut vc, mut vh) = ([0.0; BLOCK], [0.0; BLOCK]);
        for k in 0..BLOCK {
            vi[k] = sigmoid(vi[k]);
            vf[k] = sigmoid(vf[k]);
            vg[k] = tanh(vg[k]);
            vo[k] = sigmoid(vo[k]);
            vc[k] = vf[k] * last[k] + vi[k] * vg[k];
            vh[k] = vo[k] * tanh(vc[k]);
        }
        store(i, at, &vi);
        store(f, at, &vf);
        store(g, at, &vg);
        store(o, at, &vo);
        store(cell, at, &vc);
        store(hidden, at, &vh);
        at += BLOCK;
    }
}

/// Gates become the slopes of their sums; `carry`, the slopes of this cell from the step after,
/// becomes those of the cell before.
#[inline(always)]
pub(super) fn lstm_back(
    gates: &mut [f32],
    before: &[f32],
    cell: &[f32],
    slopes: &[f32],
    carry: &mut [f32],
) {
    let width = slopes.len();
    let (i, rest) = gates.split_at_mut(width);
    let (f, rest) = rest.split_at_mut(width);
    let (g, o) = rest.split_at_mut(width);
    let mut at = 0;
    while at < width {
        let [mut vi, mut vf, mut vg, mut vo] = [load(i, at), load(f, at), load(g, at), load(o, at)];
        let last = if before.is_empty() { [0.0; BLOCK] } else { load(before, at) };
        let (vc, vs, mut vd) = (load(cell, at), load(slopes, at), load(carry, at));
        for k in 0..BLOCK {
            let squashed = tanh(vc[k]);
            let down = vd[k] + vs[k] * vo[k] * (1.0 - squashed * squashed);
            let (gi, gf, gg, go) = (vi[k], vf[k], vg[k], vo[k]);
            vd[k] = down * gf;
            vi[k] = down * gg * gi * (1.0 - gi);
            vf[k] = down * last[k] * gf * (1.0 - gf);
            vg[k] = down * gi * (1.0 - gg * gg);
            vo[k] = vs[k] * squashed * go * (1.0 - go);
        }
        store(i, at, &vi);
        store(f, at, &vf);
        store(g, at, &vg);
        store(o, at, &vo);
        store(carry, at, &vd);
        at += BLOCK;
    }
}

/// Gates r, z, n: `gates` holds the inputs' sums, `sums` the hidden values' sums with their bias.
#[inline(always)]
pub(super) fn gru(gates: &mut [f32], sums: &[f32], before: &[f32], hidden: &mut [f32]) {
    let width = hidden.len();
    let (r, rest) = gates.split_at_mut(width);
    let (z, n) = rest.split_at_mut(width);
    let mut at = 0;
    while at < width {
        let [mut vr, mut vz, mut vn] = [load(r, at), load(z, at), load(n, at)];
        let (sr, sz) = (load(&sums[..width], at), load(&sums[width..2 * width], at));
        let sn = load(&sums[2 * width..], at);
        let last = if before.is_empty() { [0.0; BLOCK] } else { load(before, at) };
        let mut vh = [0.0; BLOCK];
        for k in 0..BLOCK {
            vr[k] = sigmoid(vr[k] + sr[k]);
            vz[k] = sigmoid(vz[k] + sz[k]);
            vn[k] = tanh(vn[k] + vr[k] * sn[k]);
            vh[k] = (1.0 - vz[k]) * vn[k] + vz[k] * last[k];
        }
        store(r, at, &vr);
        store(z, at, &vz);
        store(n, at, &vn);
        store(hidden, at, &vh);
        at += BLOCK;
    }
}

/// Gates become the slopes of the inputs' sums, `sums` those of the hidden values' sums; `carry`
/// gets what goes to the hidden values before by themselves.
#[inline(always)]
pub(super) fn gru_back(
    gates: &mut [f32],
    sums: &mut [f32],
    before: &[f32],
    slopes: &[f32],
    carry: &mut [f32],
) {
    let width = slopes.len();
    let (r, rest) = gates.split_at_mut(width);
    let (z, n) = rest.split_at_mut(width);
    let (sum_r, rest) = sums.split_at_mut(width);
    let (sum_z, sum_n) = rest.split_at_mut(width);
    let mut at = 0;
    while at < width {
        let [mut vr, mut vz, mut vn] = [load(r, at), load(z, at), load(n, at)];
        let mut sn = load(sum_n, at);
        let last = if before.is_empty() { [0.0; BLOCK] } else { load(before, at) };
        let (vs, mut vd) = (load(slopes, at), [0.0; BLOCK]);
        for k in 0..BLOCK {
            let (gr, gz, gn) = (vr[k], vz[k], vn[k]);
            vd[k] = vs[k] * gz;
            vn[k] = vs[k] * (1.0 - gz) * (1.0 - gn * gn);
            vz[k] = vs[k] * (last[k] - gn) * gz * (1.0 - gz);
            vr[k] = vn[k] * sn[k] * gr * (1.0 - gr);
            sn[k] = vn[k] * gr;
        }
        store(r, at, &vr);
        store(z, at, &vz);
        store(n, at, &vn);
        store(sum_r, at, &vr);
        store(sum_z, at, &vz);
        store(sum_n, at, &sn);
        store(carry, at, &vd);
        at += BLOCK;
    }
}
