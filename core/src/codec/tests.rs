//! The wire format frozen, its parts' edges, and what strangers send.

use proptest::prelude::{any, proptest};

use super::{
    Codec, Expectation, HEADER_BYTES, ManifestHasher, PART_BYTES, UPDATE_BYTES_MAX, check_part,
    encode_header, part_count, part_range, part_values, update_digest, update_len, write_update,
};
use crate::digest::Digest;

/// Values of a part 0 that is full.
const FIRST: usize = (PART_BYTES as usize - HEADER_BYTES) / 4;

fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let write = write_update(schema(), values, |block| {
        bytes.extend_from_slice(block);
        Ok::<(), ()>(())
    });
    assert_eq!(write, Ok(()));
    bytes
}

fn schema() -> Digest {
    Digest::of(b"schema")
}

fn expect(parameters: usize) -> Expectation {
    Expectation { schema: schema(), parameters, max_abs: 64.0 }
}

#[test]
fn the_bytes_are_frozen() {
    let expected = concat!(
        "54524255",         // TRBU
        "01000100",         // version 1, codec 1
        "0200000000000000", // two values
        "df0ad6e43880f09c90ebf95f19110178aba6890df0010ebda7485029e2b543b4",
        "00000000000000000000000000000000",
        "0000803f000020c1", // 1, -10
    );
    assert_eq!(hex::encode(bytes_of(&[1.0, -10.0])), expected);
    assert_eq!(Codec::from_id(1), Some(Codec::RawF32));
    assert_eq!(Codec::from_id(0), None);
}

#[test]
fn the_root_is_frozen_and_covers_length_order_and_number() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let root = update_digest(9, &[a, b]);
    let fields = [9_u64.to_le_bytes().as_slice(), a.as_bytes(), b.as_bytes()].map(<[u8]>::to_vec);
    let fields = fields.iter().map(Vec::as_slice);
    assert_eq!(root, Digest::of_fields("tributary/update/v1", fields));
    for other in [update_digest(8, &[a, b]), update_digest(9, &[b, a]), update_digest(9, &[a])] {
        assert_ne!(root, other);
    }
}

#[test]
fn parts_cover_an_update_without_gaps() {
    for parameters in [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + (1 << 21), 5_000_000] {
        let len = update_len(parameters);
        let (mut byte, mut coordinate) = (0, 0);
        for index in 0..part_count(len) {
            let range = part_range(index, len).expect("a part");
            let values = part_values(index, parameters).expect("values");
            assert_eq!((range.start, values.coordinates.start), (byte, coordinate));
            let bytes = range.end - range.start;
            assert_eq!(bytes, (values.offset + values.coordinates.len() * 4) as u64);
            (byte, coordinate) = (range.end, values.coordinates.end);
        }
        assert_eq!((byte, coordinate), (len, parameters));
        assert_eq!(part_range(part_count(len), len), None);
        assert_eq!(part_values(part_count(len), parameters), None);
    }
    assert_eq!(part_count(UPDATE_BYTES_MAX), 257);
    assert_eq!(part_range(u32::MAX, u64::MAX).map(|r| r.start), Some(u64::from(u32::MAX) << 23));
    assert_eq!(part_count(u64::MAX), u32::MAX);
}

#[test]
fn pieces_of_any_size_give_the_same_manifest() {
    let bytes = bytes_of(&vec![0.25; FIRST + 70_000]);
    let whole = {
        let mut hasher = ManifestHasher::new();
        hasher.update(&bytes);
        hasher.finish()
    };
    let parts: Vec<Digest> = bytes.chunks(PART_BYTES as usize).map(Digest::of).collect();
    assert_eq!((whole.len, &whole.parts), (bytes.len() as u64, &parts));
    assert_eq!(whole.digest(), update_digest(bytes.len() as u64, &parts));
    let mut hasher = ManifestHasher::new();
    bytes.chunks(99_991).for_each(|piece| hasher.update(piece));
    assert_eq!(hasher.finish(), whole);
}

#[test]
fn good_parts_pass_at_the_edges_of_the_bound() {
    let mut values = vec![-64.0; FIRST + 3];
    values[FIRST] = 64.0;
    values[FIRST + 1] = -0.0;
    values[FIRST + 2] = f32::MIN_POSITIVE / 2.0;
    let bytes = bytes_of(&values);
    for (index, part) in (0..).zip(bytes.chunks(PART_BYTES as usize)) {
        assert_eq!(check_part(index, part, &expect(values.len())), Ok(()));
    }
}

#[test]
fn every_fault_has_its_reason() {
    let good = bytes_of(&[1.0, 2.0, 3.0]);
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let nan = f32::NAN.to_le_bytes();
    let cases: [(u32, Vec<u8>, &str, &str); 12] = [
        (1, good.clone(), "no_such_part", "below 1"),
        (0, good[..75].to_vec(), "wrong_size", "expected 76 bytes"),
        (0, good[..10].to_vec(), "wrong_size", "found 10"),
        (0, with(0, b"X"), "bad_header", "TRBU"),
        (0, with(4, &[2]), "bad_header", "version 1"),
        (0, with(6, &[9]), "unknown_codec", "codec 9"),
        (0, with(16, &[0; 32]), "wrong_schema", "sha256:0000"),
        (0, with(8, &[4]), "wrong_parameters", "found 4"),
        (0, with(63, &[1]), "bad_header", "reserve"),
        (0, with(68, &nan), "not_finite", "NaN at coordinate 1"),
        (0, with(72, &f32::NEG_INFINITY.to_le_bytes()), "not_finite", "-inf at coordinate 2"),
        (0, with(64, &64.000_01_f32.to_le_bytes()), "too_large", "coordinate 0"),
    ];
    for (index, bytes, reason, says) in cases {
        let fault = check_part(index, &bytes, &expect(3)).expect_err(reason);
        assert_eq!(fault.reason(), reason);
        assert!(fault.to_string().contains(says), "expected `{says}` in `{fault}`");
    }
}

#[test]
fn a_fault_in_a_later_part_names_the_coordinate_of_the_whole() {
    let mut values = vec![0.0; FIRST + 5000];
    values[FIRST + 3333] = 65.0;
    let bytes = bytes_of(&values);
    let fault = check_part(1, &bytes[PART_BYTES as usize..], &expect(values.len()));
    let says = fault.expect_err("too large").to_string();
    assert!(says.contains(&format!("found 65 at coordinate {}", FIRST + 3333)), "{says}");
}

#[test]
fn a_sink_that_fails_ends_the_writing() {
    let mut calls = 0;
    let result = write_update(schema(), &[0.0; 100_000], |_| {
        calls += 1;
        if calls == 2 { Err("disk full") } else { Ok(()) }
    });
    assert_eq!((result, calls), (Err("disk full"), 2));
    assert_eq!(bytes_of(&[]), encode_header(schema(), 0));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(
        index in 0_u32..3,
        head in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut part = if head { encode_header(schema(), 5).to_vec() } else { vec![] };
        part.extend(bytes);
        let _ = check_part(index, &part, &expect(5));
    }
}
