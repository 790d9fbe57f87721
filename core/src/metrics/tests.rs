//! Statistics against values computed by hand.

use super::{EXAMPLES_MAX, LOSS_MAX, LOSS_ONE, Measure, Scored, Statistics, StatisticsError};

fn statistics(classes: u32, confusion: &[u64]) -> Statistics {
    let mut statistics = Statistics::new(classes).expect("classes");
    statistics.examples = confusion.iter().sum();
    statistics.correct = confusion.iter().step_by(classes as usize + 1).sum();
    statistics.top_k = statistics.correct;
    statistics.confusion = confusion.to_vec();
    if let Some(scores) = statistics.scores.first_mut() {
        *scores = statistics.examples;
    }
    statistics
}

fn record(
    statistics: &mut Statistics,
    label: u32,
    predicted: u32,
    loss: f64,
) -> Result<(), StatisticsError> {
    statistics.record(Scored { label, predicted, in_top_k: false, score: 0.5, loss })
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn scores_are_those_computed_by_hand() {
    // True 0: 5 of 8 right; true 1: 3 of 4 right; true 2: 2 of 8 right.
    let metrics = statistics(3, &[5, 2, 1, 0, 3, 1, 4, 2, 2]).metrics().expect("examples");
    assert!(close(metrics.accuracy, 10.0 / 20.0));
    let f1 = [10.0 / 17.0, 6.0 / 11.0, 4.0 / 12.0];
    assert!(close(metrics.classes[0].precision, 5.0 / 9.0));
    assert!(close(metrics.classes[0].recall, 5.0 / 8.0));
    for (class, f1) in metrics.classes.iter().zip(f1) {
        assert!(close(class.f1, f1), "{class:?}");
    }
    assert!(close(metrics.macro_f1, f1.iter().sum::<f64>() / 3.0));
    let weighted = (8.0 * 5.0 / 9.0 + 4.0 * 3.0 / 7.0 + 8.0 * 2.0 / 4.0) / 20.0;
    assert!(close(metrics.weighted_precision, weighted));
    assert!(close(metrics.weighted_recall, metrics.accuracy));
    assert!(close(metrics.weighted_f1, (8.0 * f1[0] + 4.0 * f1[1] + 8.0 * f1[2]) / 20.0));
}

#[test]
fn a_class_that_does_not_occur_counts_nowhere() {
    let metrics = statistics(3, &[2, 0, 0, 1, 1, 0, 0, 0, 0]).metrics().expect("examples");
    let (zero, one) = (4.0 / 5.0, 2.0 / 3.0);
    assert!(close(metrics.macro_f1, (zero + one) / 2.0));
    assert_eq!(metrics.classes[2].f1, 0.0);
    assert!(Statistics::new(3).expect("classes").metrics().is_none());
}

#[test]
fn a_federated_f1_is_the_f1_of_all_examples_together() {
    let (mut a, b) = (statistics(2, &[9, 1, 0, 0]), statistics(2, &[0, 0, 5, 5]));
    a.merge(&b).expect("same classes");
    assert_eq!(a.confusion, [9, 1, 5, 5]);
    let metrics = a.metrics().expect("examples");
    assert!(close(metrics.classes[1].f1, 10.0 / 16.0));
}

#[test]
fn losses_add_up_exactly_and_a_wild_one_is_clamped() {
    let mut sum = Statistics::new(2).expect("classes");
    for loss in [0.5, 0.25, 1e-9] {
        record(&mut sum, 0, 1, loss).expect("record");
    }
    assert_eq!(sum.loss_sum, LOSS_ONE / 2 + LOSS_ONE / 4);
    assert!(close(sum.metrics().expect("examples").loss, 0.25));
    for loss in [f64::INFINITY, f64::NAN] {
        let mut wild = Statistics::new(2).expect("classes");
        record(&mut wild, 1, 1, loss).expect("record");
        assert_eq!(wild.loss_sum, LOSS_MAX as i64 * LOSS_ONE);
        assert_eq!(wild.check(), Ok(()));
    }
    let class = StatisticsError::Class { classes: 2, found: 2 };
    assert_eq!(record(&mut sum, 2, 0, 0.0), Err(class.clone()));
    assert_eq!(record(&mut sum, 0, 2, 0.0), Err(class));
}

#[test]
fn statistics_of_a_peer_are_judged() {
    let good = statistics(2, &[3, 1, 0, 2]);
    assert_eq!(good.check(), Ok(()));
    let with = |change: fn(&mut Statistics)| {
        let mut bad = good.clone();
        change(&mut bad);
        let mut sum = good.clone();
        assert!(sum.merge(&bad).is_err());
        assert_eq!(sum, good, "a refused merge changes nothing");
        bad.check().expect_err("bad")
    };
    let size = StatisticsError::Size { expected: 4, found: 0 };
    assert_eq!(with(|s| s.confusion.clear()), size);
    assert!(matches!(with(|s| s.classes = 0), StatisticsError::Size { .. }));
    assert_eq!(with(|s| s.classes = u32::MAX), StatisticsError::Classes(u32::MAX));
    assert_eq!(with(|s| s.examples = 7), StatisticsError::Sum { examples: 7, found: 6 });
    assert!(matches!(with(|s| s.confusion[0] = u64::MAX), StatisticsError::Sum { .. }));
    assert!(matches!(with(|s| s.examples = u64::MAX), StatisticsError::Examples(_)));
    assert!(matches!(with(|s| s.loss_sum = i64::MIN), StatisticsError::Loss { .. }));
    assert!(matches!(with(|s| s.loss_sum = i64::MAX), StatisticsError::Loss { .. }));
}

#[test]
fn sums_have_a_bound_that_no_merge_passes() {
    let mut full = statistics(2, &[EXAMPLES_MAX, 0, 0, 0]);
    assert!(matches!(record(&mut full, 0, 0, 0.0), Err(StatisticsError::Examples(_))));
    let one = statistics(2, &[1, 0, 0, 0]);
    assert_eq!(full.merge(&one), Err(StatisticsError::Examples(EXAMPLES_MAX + 1)));
    let other = statistics(3, &[0; 9]);
    assert_eq!(
        full.merge(&other),
        Err(StatisticsError::Merge { expected: Measure::Classes(2), found: Measure::Classes(3) })
    );
}

#[test]
fn statistics_survive_json() {
    let good = statistics(2, &[3, 1, 0, 2]);
    let text = serde_json::to_string(&good).expect("json");
    assert_eq!(serde_json::from_str::<Statistics>(&text).expect("statistics"), good);
}

#[test]
fn the_area_under_the_curve_is_the_share_of_ordered_pairs() {
    let mut sum = Statistics::new(2).expect("classes");
    // Pairs of (0, 1): 0.1 and 0.4 against 0.35 and 0.8; three of four are in order.
    for (label, score) in [(0, 0.1), (0, 0.4), (1, 0.35), (1, 0.8)] {
        let predicted = u32::from(score >= 0.5);
        sum.record(Scored { label, predicted, in_top_k: true, score, loss: 0.0 }).expect("record");
    }
    let metrics = sum.metrics().expect("examples");
    assert_eq!(metrics.auc, Some(0.75));
    assert_eq!((metrics.accuracy, metrics.top_k_accuracy), (0.75, 1.0));
    assert_eq!(statistics(2, &[3, 0, 0, 0]).metrics().expect("examples").auc, None);
}

#[test]
fn predicted_numbers_have_the_scores_of_scikit_learn() {
    let mut all = Statistics::of(Measure::Values(1)).expect("values");
    let mut part = all.clone();
    // r2_score([3, -0.5, 2, 7], [2.5, 0.0, 2, 8]) = 0.948608…; MAE 0.5; MSE 0.375.
    for (index, (y, x)) in [(3.0, 2.5), (-0.5, 0.0), (2.0, 2.0), (7.0, 8.0)].into_iter().enumerate()
    {
        let into = if index < 2 { &mut all } else { &mut part };
        into.record_values(&[y], &[x], 0.0).expect("record");
    }
    all.merge(&part).expect("same");
    let scores = all.metrics().and_then(|metrics| metrics.values).expect("values");
    assert!((scores.r2 - 0.948_608_137_0).abs() < 1e-9 && close(scores.mae, 0.5));
    assert!(close(scores.rmse, 0.375_f64.sqrt()));
    let text = serde_json::to_string(&all).expect("json");
    assert_eq!(serde_json::from_str::<Statistics>(&text).expect("statistics"), all);
}

#[test]
fn tokens_have_a_perplexity_and_no_matrix() {
    let mut sum = Statistics::of(Measure::Tokens).expect("tokens");
    sum.record_token(true, true, 1.0).expect("record");
    sum.record_token(false, true, 3.0).expect("record");
    let metrics = sum.metrics().expect("examples");
    assert!(close(metrics.perplexity.expect("perplexity"), 2.0_f64.exp()));
    assert_eq!((metrics.accuracy, metrics.top_k_accuracy), (0.5, 1.0));
    sum.correct = 3;
    assert!(matches!(sum.check(), Err(StatisticsError::Count { field: "correct", .. })));
}
