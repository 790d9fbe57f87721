//! Mutations of a corpus: bits, bytes, numbers at their ends, cuts, repeats, and pieces of others. The
//! same seed and number give the same bytes.

use tributary_core::prg::Prg;

use crate::corpus::{BYTES_MAX, Seed};

/// Most edits of one input: with more hardly anything gets past the first check.
const EDITS_MAX: u64 = 6;
/// Most bytes that one edit repeats, moves or takes over.
const PIECE_BYTES_MAX: u64 = 256;
/// One input in so many is random bytes altogether.
const RANDOM_ONE_IN: u64 = 40;
/// Longest random input.
const RANDOM_BYTES_MAX: u64 = 400;

/// Numbers at the ends of their types, and one beyond.
const ENDS: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// The same as text, and what else a number may be written as.
const NUMERALS: &[&str] = &[
    "0",
    "-1",
    "-0.0",
    "1e999",
    "1e-999",
    "nan",
    "-inf",
    "0x10",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775809",
    "340282366920938463463374607431768211456",
    "0.1e1",
    "1_000_000",
];

/// The input of this number.
#[must_use]
pub fn mutated(seeds: &[Seed], words: &[&str], seed: u64, number: u32) -> Vec<u8> {
    let mut prg = Prg::for_round(seed, "fuzz", number, 0);
    if seeds.is_empty() || prg.below(RANDOM_ONE_IN) == 0 {
        let length = prg.below(RANDOM_BYTES_MAX);
        return (0..length).map(|_| prg.next_u64() as u8).collect();
    }
    let mut bytes = one_of(seeds, &mut prg).bytes.clone();
    for _ in 0..=prg.below(EDITS_MAX) {
        edit(&mut bytes, seeds, words, &mut prg);
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn one_of<'a, T>(list: &'a [T], prg: &mut Prg) -> &'a T {
    &list[prg.below(list.len() as u64) as usize]
}

/// A place from 0 to the end, which is one.
fn place(bytes: &[u8], prg: &mut Prg) -> usize {
    prg.below(bytes.len() as u64 + 1) as usize
}

/// A piece that lies within the bytes; it may be empty.
fn piece(bytes: &[u8], prg: &mut Prg) -> std::ops::Range<usize> {
    let start = place(bytes, prg);
    let length = prg.below(PIECE_BYTES_MAX) as usize;
    start..bytes.len().min(start + length)
}

fn edit(bytes: &mut Vec<u8>, seeds: &[Seed], words: &[&str], prg: &mut Prg) {
    let at = place(bytes, prg);
    match prg.below(10) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << prg.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = prg.next_u64() as u8;
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let gone = piece(bytes, prg);
            bytes.drain(gone);
        }
        4 => {
            let again = bytes[piece(bytes, prg)].to_vec();
            bytes.splice(at..at, again);
        }
        5 => {
            let other = &one_of(seeds, prg).bytes;
            let taken = other[piece(other, prg)].to_vec();
            bytes.splice(at..at, taken);
        }
        6 => overwrite(bytes, at, prg),
        7 => numeral(bytes, at, prg),
        8 => {
            let end = varint(*one_of(ENDS, prg));
            bytes.splice(at..at, end);
        }
        _ => {
            let word = match words.is_empty() {
                true => one_of(NUMERALS, prg),
                false => one_of(words, prg),
            };
            bytes.splice(at..at, word.bytes());
        }
    }
}

/// A number at its end, of one to eight bytes, in either order, over what is there.
fn overwrite(bytes: &mut [u8], at: usize, prg: &mut Prg) {
    let (end, width) = (*one_of(ENDS, prg), 1_usize << prg.below(4));
    let mut number = end.to_le_bytes()[..width].to_vec();
    if prg.below(2) == 0 {
        number.reverse();
    }
    bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
}

/// The next number that is written as text, as another one.
fn numeral(bytes: &mut Vec<u8>, at: usize, prg: &mut Prg) {
    let tail = bytes[at..].iter().chain(&bytes[..at]);
    let Some(found) = tail.clone().position(u8::is_ascii_digit) else { return };
    let start = (at + found) % bytes.len();
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(start..start + length, one_of(NUMERALS, prg).bytes());
}

/// As protobuf and Thrift write numbers.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::mutated;
    use crate::corpus::{BYTES_MAX, Seed};

    fn seed(bytes: &[u8]) -> Seed {
        Seed { name: "good-one".to_owned(), bytes: bytes.to_vec() }
    }

    #[test]
    fn a_seed_and_a_number_are_the_bytes() {
        let seeds = [seed(b"rows = 12\n"), seed(b"")];
        let all = |seed| (0..200).map(|i| mutated(&seeds, &["x"], seed, i)).collect::<Vec<_>>();
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        let distinct: std::collections::BTreeSet<_> = all(1).into_iter().collect();
        assert!(distinct.len() > 120, "{}", distinct.len());
    }

    #[test]
    fn nothing_grows_without_end_and_numbers_change() {
        let seeds = [seed(&[b'7'; BYTES_MAX]), seed(b"rows = 12\n")];
        let mut largest = 0;
        for i in 0..500 {
            let bytes = mutated(&seeds, &[], 3, i);
            assert!(bytes.len() <= BYTES_MAX);
            largest += usize::from(bytes.windows(10).any(|part| part == b"4294967296"));
        }
        assert!(largest > 0, "an end of a number came up");
        assert!(!mutated(&[], &[], 3, 1).is_empty() || mutated(&[], &[], 3, 2).len() < 400);
    }
}
