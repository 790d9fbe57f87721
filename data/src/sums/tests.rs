//! Sums of sites are the sums of their rows, in any order.

use super::{
    NumericSums, TokenCounts, class_counts, column_sums, feature_sums, label_counts, merge_counts,
    merge_features, token_counts,
};
use crate::Dataset;
use crate::fixture::{Folder, message, parse, says};

fn sums(values: &[f64]) -> NumericSums {
    let mut sums = NumericSums::default();
    values.iter().for_each(|&value| sums.add(value, true));
    sums
}

#[test]
fn merging_in_any_order_gives_the_same_bytes() {
    let values: Vec<f64> = (0..1000).map(|at| f64::from(at * at % 97) / 7.0 - 3.0).collect();
    let whole = sums(&values);
    for parts in [1, 3, 10] {
        let mut merged = NumericSums::default();
        for part in values.chunks(values.len().div_ceil(parts)).rev() {
            merged.merge(&sums(part));
        }
        assert_eq!(merged, whole);
    }
    let mean = values.iter().sum::<f64>() / 1000.0;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 1000.0;
    assert!((whole.mean().expect("values") - mean).abs() < 1e-6);
    assert!((whole.deviation().expect("values") - variance.sqrt()).abs() < 1e-6);
}

#[test]
fn a_small_spread_far_from_zero_is_not_lost() {
    let far = sums(&[1e9 + 0.25, 1e9 - 0.25, 1e9 + 0.25, 1e9 - 0.25]);
    assert_eq!((far.mean(), far.deviation()), (Some(1e9), Some(0.25)));
    assert_eq!((sums(&[]).mean(), sums(&[]).deviation()), (None, None));
}

#[test]
fn what_cannot_be_summed_is_counted_and_extremes_need_consent() {
    let wild = sums(&[1.0, f64::NAN, f64::INFINITY, 1e300]);
    assert_eq!((wild.count, wild.left_out), (1, 3));
    let mut shy = NumericSums::default();
    shy.add(5.0, false);
    assert_eq!(shy.extremes, None);
    let mut both = sums(&[1.0, 2.0]);
    assert_eq!(both.extremes, Some((1 << 20, 2 << 20)));
    both.merge(&NumericSums::default());
    assert!(both.extremes.is_some());
    both.merge(&shy);
    assert_eq!((both.extremes, both.count), (None, 3));
}

#[test]
fn features_and_classes_of_sites_add_up() {
    let site = |labels: Vec<u32>| {
        let inputs = (0..2 * labels.len()).map(|at| at as f32).collect();
        Dataset::from_f32(inputs, labels, &[2], 3).expect("data")
    };
    let mut total = feature_sums(&site(vec![0, 1]), false).expect("sums");
    merge_features(&mut total, &feature_sums(&site(vec![2]), false).expect("sums")).expect("merge");
    assert_eq!((total[0].mean(), total[1].mean()), (Some(2.0 / 3.0), Some(5.0 / 3.0)));
    let mut counts = class_counts(&site(vec![0, 1, 1])).expect("counts");
    merge_counts(&mut counts, &class_counts(&site(vec![2])).expect("counts")).expect("merge");
    assert_eq!(counts, [1, 2, 1]);
    let pictures = Dataset::from_u8(vec![255, 255, 0, 0], vec![0], &[2, 1, 2], 2).expect("data");
    let channels = feature_sums(&pictures, false).expect("sums");
    assert_eq!((channels[0].mean(), channels[1].mean()), (Some(1.0), Some(0.0)));
    let other = message(merge_counts(&mut counts, &[1]));
    says(&other, &["another number of classes: expected 3, found 1; bind the same"]);
    let texts = Dataset::for_next_token(&[vec![1, 2]], 1, 3).expect("texts");
    says(&message(feature_sums(&texts, false)), &["tokens of texts"]);
    says(&message(class_counts(&texts)), &["expected classes to count, found none"]);
}

#[test]
fn a_vocabulary_of_all_sites_has_one_order() {
    let (mut a, mut b) = (TokenCounts::default(), TokenCounts::default());
    a.add_words("Good film, good cast", true);
    b.add_words("bad film", true);
    let mut ab = a.clone();
    ab.merge(&b);
    b.merge(&a);
    assert_eq!(ab, b);
    assert_eq!(ab.vocabulary(3, 1), ["film", "good", ","]);
    assert_eq!(ab.vocabulary(9, 2), ["film", "good"]);
    let mut characters = TokenCounts::default();
    characters.add_characters("äbä");
    assert_eq!(characters.iter().collect::<Vec<_>>(), [("b", 1), ("ä", 2)]);
}

#[test]
fn words_and_labels_are_counted_before_anybody_agreed_on_them() {
    let folder = Folder::new();
    folder.file("t.tsv", "text\tmood\nGood film\tgood\nbad film\tbad\nno film\t\n");
    let table = "format = \"tsv\"\nfile = \"t.tsv\"\ntext_column = \"text\"\n\
                 label_column = \"mood\"\n[tokens]\nby = \"words\"\n";
    let config = parse(table, folder.path()).expect("configuration");
    let words = token_counts(&config).expect("words");
    assert_eq!(words.vocabulary(2, 1), ["film", "bad"]);
    let labels = label_counts(&config).expect("labels");
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("", 1), ("bad", 1), ("good", 1)]);
    let table = "format = \"idx\"\nclasses = 2\nimages = \"i\"\nlabels = \"l\"\n";
    let config = parse(table, folder.path()).expect("configuration");
    says(&message(token_counts(&config)), &["expected texts to count, found none; name a format"]);
    says(&message(label_counts(&config)), &["expected labels in a column, found none"]);
}

#[test]
fn columns_are_summed_as_they_are_written_without_what_is_missing() {
    let folder = Folder::new();
    folder.file("t.csv", "age,pain,sick\n50,1,0\n?,2,1\n70,3,1\n");
    let table = "format = \"csv\"\nfile = \"t.csv\"\nclasses = 2\nlabel_column = \"sick\"\n";
    let config = parse(table, folder.path()).expect("configuration");
    let sums = column_sums(&config, true).expect("sums");
    let age = sums[0].1;
    assert_eq!((sums.len(), sums[0].0.to_string().as_str()), (2, "age"));
    assert_eq!((age.mean(), age.deviation()), (Some(60.0), Some(10.0)));
    assert_eq!((age.count, age.left_out, age.extremes), (2, 1, Some((50 << 20, 70 << 20))));
    // A category has no mean, and constants do not change what is summed.
    let features = "features = [{ column = \"pain\", categories = [1, 2, 3] }, \
                    { column = \"age\", mean = 9, deviation = 2 }]\n";
    let config = parse(&format!("{table}{features}"), folder.path()).expect("configuration");
    assert_eq!(column_sums(&config, true).expect("sums"), sums[..1]);
}
