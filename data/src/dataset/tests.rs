//! Batches, subsets, what is refused, and rows that lie in a scratch file.

use tributary_core::prg::Prg;

use super::{Dataset, Labels};
use crate::store::{BLOCK_BYTES, Builder, Room, WINDOW_BLOCKS};
use crate::{Batch, DataError, Inputs, NO_TOKEN, Targets};

#[test]
fn batches_come_in_the_order_asked_for() {
    let data = Dataset::from_u8(vec![0, 255, 51, 102], vec![1, 0], &[2], 2).expect("data");
    let batch = data.gather(&[1, 0]).expect("both");
    let expected = Batch {
        size: 2,
        inputs: Inputs::Floats(vec![0.2, 0.4, 0.0, 1.0]),
        lengths: vec![],
        targets: Targets::Classes(vec![0, 1]),
    };
    assert_eq!(batch, expected);
    let second = data.subset(&[1]).expect("second").subset(&[0]).expect("first of it");
    assert_eq!((second.len(), second.labels()), (1, Some(vec![0])));
    let outside = second.gather(&[1]);
    assert!(matches!(outside, Err(DataError::Index { index: 1, examples: 1 })));
}

#[test]
fn texts_are_padded_and_shifted() {
    let texts = [vec![1, 2, 3], vec![4, 5]];
    let data = Dataset::for_next_token(&texts, 2, 6).expect("texts");
    let batch = data.gather(&[1, 0]).expect("both");
    assert_eq!(batch.inputs, Inputs::Tokens(vec![4, 0, 1, 2]));
    assert_eq!(batch.targets, Targets::Tokens(vec![5, NO_TOKEN, 2, 3]));
    assert_eq!(batch.lengths, [1, 2]);
    let data = Dataset::from_texts(&texts, vec![0, 1], 3, 6, 2).expect("texts");
    assert!(data.gather(&[0]).expect("full").lengths.is_empty());
    let long = Dataset::from_texts(&texts, vec![0, 1], 2, 6, 2);
    assert!(matches!(long, Err(DataError::Length { index: 0, most: 2, found: 3, .. })));
    let token = Dataset::from_texts(&texts, vec![0, 1], 3, 5, 2);
    assert!(matches!(token, Err(DataError::Token { index: 1, token: 5, vocabulary: 5 })));
}

#[test]
fn numbers_to_predict_and_lengths_stay_with_their_rows() {
    let data = Dataset::with_values(vec![1.0, 2.0, 3.0, 4.0], vec![0.5, 0.25], &[2, 1], 1);
    let data = data.expect("values").with_lengths(vec![2, 1]).expect("lengths");
    let batch = data.gather(&[1]).expect("second");
    assert_eq!((batch.lengths, batch.targets), (vec![1], Targets::Values(vec![0.25])));
    assert!(matches!(data.with_lengths(vec![2, 3]), Err(DataError::Length { index: 1, .. })));
}

#[test]
fn what_does_not_hold_together_is_refused() {
    let sizes = Dataset::from_u8(vec![0; 5], vec![0, 1], &[2], 2);
    assert!(matches!(sizes, Err(DataError::Sizes { found: 5, .. })));
    let huge = Dataset::from_u8(Vec::new(), vec![0, 1], &[usize::MAX, 2], 2);
    assert!(matches!(huge, Err(DataError::Sizes { .. })));
    let label = Dataset::from_f32(vec![0.0; 2], vec![0, 2], &[1], 2);
    assert!(matches!(label, Err(DataError::Label { index: 1, label: 2, classes: 2 })));
    let wild = Dataset::from_f32(vec![0.0, f32::NAN], vec![0, 1], &[1], 2);
    assert!(matches!(wild, Err(DataError::NotFinite { index: 1 })));
    let writers = Dataset::from_u8(vec![0], vec![0], &[1], 2).expect("data").with_writers(vec![]);
    assert!(matches!(writers, Err(DataError::Writers { expected: 1, found: 0 })));
}

/// Rows of four numbers, the first of which tells which row it is, in memory or on disk.
fn numbered(rows: usize, memory_bytes: usize, folder: &std::path::Path) -> Dataset {
    let room = Room { memory_bytes, scratch_dir: Some(folder.to_owned()), ..Room::default() };
    let mut values = Builder::new(&room);
    (0..rows).for_each(|row| values.push(&[row as f32, 0.5, 0.25, -1.0]).expect("room"));
    let labels = Labels::classes((0..rows).map(|row| (row % 3) as u32).collect(), 3);
    let values = values.finish().expect("written");
    Dataset::of_numbers(values, labels.expect("labels"), &[4]).expect("data")
}

#[test]
fn rows_in_a_scratch_file_are_shuffled_by_blocks() {
    let folder = tempfile::tempdir().expect("folder");
    // 40 blocks and a bit: more than a window.
    let per_block = BLOCK_BYTES / 16;
    let rows = 40 * per_block + 100;
    let disk = numbered(rows, 0, folder.path());
    let larger = numbered(rows, 1 << 20, folder.path());
    let order = |data: &Dataset, seed: u64, epochs: usize| {
        let mut prg = Prg::for_name(seed, "shuffle", "test");
        let mut order: Vec<usize> = (0..data.len()).collect();
        (0..epochs).for_each(|_| data.shuffle(&mut order, &mut prg));
        order
    };
    let first = order(&disk, 1, 1);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(0..rows), "each row once");
    assert_eq!(first, order(&larger, 1, 1), "whatever the budget is");
    let second = order(&disk, 1, 2);
    assert!(first != second && first != order(&disk, 2, 1));
    // A window's rows are of its blocks alone, and are mixed among each other.
    // One block, the last, is short.
    let window = (WINDOW_BLOCKS - 1) * per_block;
    let blocks = |of: &[usize]| {
        let mut blocks: Vec<usize> = of.iter().map(|row| row / per_block).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.len()
    };
    assert!(blocks(&first[..window]) <= WINDOW_BLOCKS);
    assert!(blocks(&first[..200]) > 20);
    // A part of the rows keeps to the blocks of the whole.
    let some = disk.subset(&(0..rows).filter(|row| row % 7 == 0).collect::<Vec<_>>());
    let some = some.expect("some");
    let mut of_some = order(&some, 1, 1);
    of_some.sort_unstable();
    assert!(of_some.into_iter().eq(0..some.len()));
    let batch = some.gather(&[3, 0]).expect("rows");
    let Inputs::Floats(values) = batch.inputs else { panic!("numbers") };
    assert_eq!(values, [21.0, 0.5, 0.25, -1.0, 0.0, 0.5, 0.25, -1.0]);

    let memory = numbered(1000, usize::MAX, folder.path());
    let mut plain: Vec<usize> = (0..1000).collect();
    let mut prg = Prg::for_name(9, "shuffle", "test");
    (0..2).for_each(|_| prg.shuffle(&mut plain));
    assert_eq!(order(&memory, 9, 2), plain, "in memory the order is drawn as ever");
}
