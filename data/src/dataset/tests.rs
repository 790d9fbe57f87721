//! Batches, subsets, what is refused, and rows that lie in a scratch file.

use super::Dataset;
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
    let writers =
        Dataset::from_u8(vec![0], vec![0], &[1], 2).expect("data").with_writers(vec![]);
    assert!(matches!(writers, Err(DataError::Writers { expected: 1, found: 0 })));
}
