//! Statistics against values computed by hand.

use super::{EXAMPLES_MAX, LOSS_MAX, LOSS_ONE, Statistics, StatisticsError};

fn statistics(classes: u32, confusion: &[u64]) -> Statistics {
    let examples = confusion.iter().sum();
    Statistics { classes, examples, loss_sum: 0, confusion: confusion.to_vec() }
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
        sum.record(0, 1, loss).expect("record");
    }
    assert_eq!(sum.loss_sum, LOSS_ONE / 2 + LOSS_ONE / 4);
    assert!(close(sum.metrics().expect("examples").loss, 0.25));
    for loss in [f64::INFINITY, f64::NAN] {
        let mut wild = Statistics::new(2).expect("classes");
        wild.record(1, 1, loss).expect("record");
        assert_eq!(wild.loss_sum, LOSS_MAX as i64 * LOSS_ONE);
        assert_eq!(wild.check(), Ok(()));
    }
    let class = StatisticsError::Class { classes: 2, found: 2 };
    assert_eq!(sum.record(2, 0, 0.0), Err(class.clone()));
    assert_eq!(sum.record(0, 2, 0.0), Err(class));
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
    assert_eq!(with(|s| s.classes = 0), StatisticsError::Classes(0));
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
    assert!(matches!(full.record(0, 0, 0.0), Err(StatisticsError::Examples(_))));
    let one = statistics(2, &[1, 0, 0, 0]);
    assert_eq!(full.merge(&one), Err(StatisticsError::Examples(EXAMPLES_MAX + 1)));
    let other = statistics(3, &[0; 9]);
    assert_eq!(full.merge(&other), Err(StatisticsError::Merge { expected: 2, found: 3 }));
}

#[test]
fn statistics_survive_json() {
    let good = statistics(2, &[3, 1, 0, 2]);
    let text = serde_json::to_string(&good).expect("json");
    assert_eq!(serde_json::from_str::<Statistics>(&text).expect("statistics"), good);
}
