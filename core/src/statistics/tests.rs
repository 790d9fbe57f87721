//! Sites' sums by examples: pooled in any order to the same bytes, and refused where no rows have them.

use super::{
    Asked, FeatureAsk, NumericSums, Pool, PoolFault, SiteSums, TOKENS_MAX, TokenAsk,
    decode_constants, encode_constants,
};
use crate::spec::JobSpec;
use crate::spec::constants::Constants;

fn spec(data: &str, model: &str) -> JobSpec {
    let text = format!(
        "[job]\nname = \"pool\"\nrounds = 1\n[model]\n{model}\n[data]\n{data}\n\
         [train]\nbatch_size = 1\noptimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n[cohort]\n"
    );
    JobSpec::parse(&text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn table() -> JobSpec {
    spec(
        "kind = \"table\"\nclasses = 2\nclass_names = \"federated\"\nnormalise = \"federated\"",
        "input = { shape = [3] }\nlayers = [{ linear = 2 }]",
    )
}

fn words(vocabulary: u32, min_sites: u32) -> JobSpec {
    spec(
        &format!(
            "kind = \"text\"\nvocabulary = {vocabulary}\nwords = {{ federated = true }}\n\
             statistics = {{ min_clients = 2, min_sites = {min_sites} }}"
        ),
        "preset = \"char_lstm\"",
    )
}

fn numbers(values: &[f64]) -> NumericSums {
    let mut sums = NumericSums::default();
    values.iter().for_each(|&value| sums.add(value));
    sums
}

/// A site of three features: a number, a category, one that never varies.
fn site(values: &[f64], names: &[&str]) -> SiteSums {
    let same: Vec<f64> = values.iter().map(|_| 5.0).collect();
    SiteSums {
        rows: values.len() as u64,
        features: vec![numbers(values), NumericSums::default(), numbers(&same)],
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..SiteSums::default()
    }
}

fn text(counts: &[(&str, u64)]) -> SiteSums {
    let mut sums = SiteSums { rows: 10, ..SiteSums::default() };
    sums.tell_tokens(counts.iter().map(|(token, count)| ((*token).to_owned(), *count)), 1);
    sums
}

fn pool<'a>(sites: impl IntoIterator<Item = &'a SiteSums>) -> Pool {
    let mut pool = Pool::default();
    sites.into_iter().for_each(|site| pool.merge(site).expect("they add up"));
    pool
}

#[test]
fn the_constants_are_those_of_all_rows_together_in_any_order_of_sites() {
    let spec = table();
    let asked = spec.statistics.as_ref().expect("asked").asked;
    let sites = [
        site(&[1.0, 2.0, 3.0], &["ill", "well"]),
        site(&[10.0], &["ill"]),
        site(&[-4.0, 0.5], &["ill", "well"]),
    ];
    for site in &sites {
        site.check(&asked).expect("sound");
        assert_eq!(SiteSums::decode(&site.encode()).as_ref(), Ok(site));
    }
    let constants = pool(&sites).constants(&spec).expect("constants");
    let bytes = encode_constants(&constants);
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let again = pool(order.map(|at| &sites[at])).constants(&spec).expect("constants");
        assert_eq!(encode_constants(&again), bytes, "{order:?}");
    }
    let all = numbers(&[1.0, 2.0, 3.0, 10.0, -4.0, 0.5]);
    let (means, deviations) = constants.normalise.clone().expect("asked for");
    assert_eq!(means, [all.mean().expect("a mean"), 0.0, 5.0]);
    assert_eq!(deviations, [all.deviation().expect("one"), 1.0, 1.0], "0 becomes 1");
    assert_eq!(constants.class_names, Some(vec!["ill".to_owned(), "well".to_owned()]));

    assert!(spec.lacks_constants());
    let whole = spec.with_constants(&bytes).expect("what was asked for");
    assert!(!whole.lacks_constants());
    assert_eq!(whole.constants, constants);
}

#[test]
fn nothing_comes_from_one_site() {
    let spec = table();
    let alone = SiteSums { features: vec![NumericSums::default(); 3], ..site(&[1.0], &["ill"]) };
    let fault = pool([&site(&[1.0, 2.0], &["ill", "well"]), &alone]).constants(&spec);
    assert!(matches!(fault, Err(PoolFault::Alone { feature: 0, found: 1, .. })), "{fault:?}");
    let rare = [site(&[1.0], &["ill", "well"]), site(&[2.0], &["ill", "new"])];
    let message = pool(&rare).constants(&spec).expect_err("one class").to_string();
    for part in ["expected 2 classes", "found 1", "at least 2 sites", "\"ill\""] {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    assert!(!message.contains("well") && !message.contains("new"), "{message}");
}

#[test]
fn a_vocabulary_holds_what_enough_sites_have_the_most_frequent_first() {
    let sites = [
        text(&[("the", 9), ("tumour", 50), ("cat", 3)]),
        text(&[("the", 1), ("cat", 3), ("dog", 4)]),
        text(&[("dog", 2), ("a", 6)]),
    ];
    let vocabulary = |spec: &JobSpec| pool(&sites).constants(spec).expect("constants").tokens;
    let list = |tokens: &[&str]| Some(tokens.iter().map(|token| (*token).to_owned()).collect());
    assert_eq!(vocabulary(&words(9, 2)), list(&["the", "cat", "dog"]), "ties by their bytes");
    assert_eq!(vocabulary(&words(4, 2)), list(&["the", "cat"]));
    assert_eq!(vocabulary(&words(5, 1)), list(&["tumour", "the", "a"]));
    let apart = [text(&[("a", 1)]), text(&[("b", 1)])];
    let fault = pool(&apart).constants(&words(9, 2));
    assert_eq!(fault, Err(PoolFault::NoTokens { expected: 2, found: 2 }));
}

#[test]
fn a_site_tells_its_most_frequent_tokens_and_counts_the_others_together() {
    let mut sums = SiteSums { rows: 1, ..SiteSums::default() };
    let many = (0..TOKENS_MAX as u64 + 10).map(|at| (format!("w{at:06}"), 1 + at));
    sums.tell_tokens(many.chain([("x".repeat(65), 1000)]), 2);
    assert_eq!((sums.tokens.len(), sums.left_out), (TOKENS_MAX, (1..=10).sum::<u64>() + 1000));
    assert_eq!(sums.tokens[0], ("w000010".to_owned(), 11));
    let asked = words(9, 2).statistics.expect("asked").asked;
    sums.check(&asked).expect("sound");
    let rarer = sums.without_rare_tokens(12);
    assert_eq!((rarer.tokens.len(), rarer.left_out), (TOKENS_MAX - 1, 55 + 1000 + 11));
}

#[test]
fn sums_that_cannot_be_are_named() {
    let asked = Asked {
        features: Some(FeatureAsk { count: 3, per_row: 1 }),
        tokens: Some(TokenAsk::Words { lowercase: true }),
        names: true,
    };
    let good = SiteSums { tokens: vec![("a".to_owned(), 1)], ..site(&[1.0, 2.0], &["x", "y"]) };
    good.check(&asked).expect("sound");
    let with = |change: &dyn Fn(&mut SiteSums)| {
        let mut sums = good.clone();
        change(&mut sums);
        sums.check(&asked).expect_err("unsound").field
    };
    let token = |text: &str| (text.to_owned(), 1);
    for (field, change) in [
        ("sums.rows", &(|s: &mut SiteSums| s.rows = 0) as &dyn Fn(&mut SiteSums)),
        ("sums.rows", &|s| s.rows = u64::MAX),
        ("sums.features", &|s| s.rows = 1),
        ("sums.features", &|s| s.features.truncate(2)),
        ("sums.features", &|s| s.features[0].sum = i128::MAX),
        ("sums.features", &|s| s.features[0].squares = i128::MIN),
        ("sums.features", &|s| s.features[1].sum = 1),
        ("sums.tokens", &|s| s.tokens = vec![token("b"), token("a")]),
        ("sums.tokens", &|s| s.tokens = vec![token("a"), token("a")]),
        ("sums.tokens", &|s| s.tokens = vec![token("a b")]),
        ("sums.tokens", &|s| s.tokens = vec![token("")]),
        ("sums.tokens", &|s| s.tokens[0].1 = 0),
        ("sums.names", &|s| s.names = vec!["y".to_owned(), "x".to_owned()]),
        ("sums.names", &|s| s.names = vec![" x".to_owned()]),
        ("sums.names", &|s| s.names = vec!["x\u{1b}".to_owned()]),
    ] {
        assert_eq!(with(change), field);
    }
    let nothing = Asked { features: None, tokens: None, names: false };
    assert!(good.check(&nothing).is_err(), "what was not asked for is refused");
    let character = Asked { tokens: Some(TokenAsk::Characters), ..nothing };
    let texts = |tokens| SiteSums { rows: 1, tokens, ..SiteSums::default() }.check(&character);
    assert!(texts(vec![token("\n"), token("é")]).is_ok() && texts(vec![token("ab")]).is_err());
}

#[test]
fn bytes_that_are_no_sums_or_constants_are_refused() {
    let sums = SiteSums { tokens: vec![("a".to_owned(), 1)], ..site(&[1.0], &["x"]) };
    let bytes = sums.encode();
    for end in 0..bytes.len() {
        assert!(SiteSums::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(SiteSums::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "something behind");
    let constants = Constants {
        class_names: Some(vec!["a".to_owned(), "b".to_owned()]),
        tokens: None,
        tokenizer: None,
        normalise: Some((vec![0.1, 0.2, 1e300], vec![1.0, 2.0, 3.0])),
        features: None,
    };
    let bytes = encode_constants(&constants);
    assert_eq!(decode_constants(&bytes), Ok(constants.clone()));
    for end in 0..bytes.len() {
        assert!(decode_constants(&bytes[..end]).is_err(), "cut at {end}");
    }
    let refused = |constants: &Constants| table().with_constants(&encode_constants(constants));
    assert!(refused(&constants).is_ok());
    let normalise = |means: &[f64], deviations: &[f64]| Constants {
        normalise: Some((means.to_vec(), deviations.to_vec())),
        ..constants.clone()
    };
    for other in [
        Constants { class_names: None, ..constants.clone() },
        Constants { class_names: Some(vec!["a".to_owned()]), ..constants.clone() },
        Constants { tokens: Some(vec!["a".to_owned()]), ..constants.clone() },
        Constants { normalise: None, ..constants.clone() },
        normalise(&[0.0, 0.0], &[1.0, 1.0]),
        normalise(&[0.0, 0.0, 0.0], &[1.0, 0.0, 1.0]),
        normalise(&[0.0, f64::NAN, 0.0], &[1.0, 1.0, 1.0]),
    ] {
        assert!(refused(&other).is_err(), "{other:?}");
    }
    let huge = Constants {
        normalise: Some((vec![0.0; 1 << 16], vec![1.0; 1 << 16])),
        ..constants.clone()
    };
    let message = refused(&huge).expect_err("too long").to_string();
    assert!(message.contains("at most 1048576 bytes"), "{message}");
}
