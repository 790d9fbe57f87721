//! Deals: complete, seeded, and with the marginals that the literature reports.

use std::collections::BTreeSet;

use super::{DataError, Partition};
use crate::Dataset;

/// Ten classes in turn, a writer for every 20 examples.
fn data(examples: usize) -> Dataset {
    let labels = (0..examples).map(|i| (i * 7 % 10) as u32).collect();
    let writers = (0..examples).map(|i| 1000 + (i / 20) as u32).collect();
    let data = Dataset::from_u8(vec![0; examples], labels, &[1], 10).expect("data");
    data.with_writers(writers).expect("writers")
}

fn deal(partition: &str, data: &Dataset, clients: usize, seed: u64) -> Vec<Vec<usize>> {
    partition.parse::<Partition>().expect(partition).deal(data, clients, seed).expect(partition)
}

/// The largest share of one class, over a client's examples.
fn max_share(data: &Dataset, examples: &[usize]) -> f64 {
    let labels = data.labels().expect("classes");
    let mut counts = [0_usize; 10];
    examples.iter().for_each(|&index| counts[labels[index] as usize] += 1);
    counts.into_iter().max().unwrap_or(0) as f64 / examples.len() as f64
}

#[test]
fn deals_are_disjoint_seeded_and_of_even_size() {
    let data = data(6000);
    for partition in ["iid", "shards", "dirichlet=0.5", "writers"] {
        let parts = deal(partition, &data, 30, 7);
        assert_eq!(parts, deal(partition, &data, 30, 7), "{partition}");
        assert_ne!(parts, deal(partition, &data, 30, 8), "{partition}");
        assert!(parts.iter().all(|part| part.len() == 200), "{partition}");
        let all: BTreeSet<usize> = parts.iter().flatten().copied().collect();
        assert_eq!(all.len(), 6000, "{partition}");
    }
    let uneven = deal("iid", &data, 7, 7);
    assert_eq!(uneven.iter().map(Vec::len).sum::<usize>(), 6000);
    assert!(uneven.iter().all(|part| (857..=858).contains(&part.len())));
}

#[test]
fn shards_give_a_client_few_classes() {
    let data = data(6000);
    let labels = data.labels().expect("classes");
    for part in deal("shards", &data, 100, 1) {
        let classes: BTreeSet<u32> = part.iter().map(|&index| labels[index]).collect();
        assert!(classes.len() <= 2, "{classes:?}");
    }
}

#[test]
fn dirichlet_marginals_are_those_of_the_concentration() {
    let data = data(60_000);
    let mean = |alpha: &str| {
        let parts = deal(&format!("dirichlet={alpha}"), &data, 100, 3);
        assert!(parts.iter().all(|part| part.len() == 600));
        parts.iter().map(|part| max_share(&data, part)).sum::<f64>() / 100.0
    };
    let (skewed, even) = (mean("0.1"), mean("100"));
    assert!((0.6..0.8).contains(&skewed), "{skewed}");
    assert!((0.10..0.17).contains(&even), "{even}");
    assert!(mean("0.001") > 0.9);
}

#[test]
fn a_writer_stays_whole() {
    let data = data(6000);
    let writers = data.writers().expect("writers");
    let mut seen = BTreeSet::new();
    for part in deal("writers", &data, 7, 2) {
        let own: BTreeSet<u32> = part.iter().map(|&index| writers[index]).collect();
        assert!((42..=43).contains(&own.len()));
        assert!(own.iter().all(|&writer| seen.insert(writer)));
    }
    assert_eq!(seen.len(), 300);
}

#[test]
fn a_deal_is_pinned() {
    let data = data(40);
    let first = |partition| deal(partition, &data, 4, 7)[0].clone();
    assert_eq!(first("iid"), [17, 14, 25, 37, 19, 18, 29, 12, 26, 9]);
    assert_eq!(first("dirichlet=0.5"), [17, 11, 21, 37, 31, 9, 1, 7, 27, 18]);
}

#[test]
fn what_cannot_be_dealt_is_refused() {
    let data = data(40);
    let refuse = |partition: Partition, clients| {
        let error = partition.deal(&data, clients, 1).expect_err("refused");
        assert!(matches!(error, DataError::Deal { .. }));
        error.to_string()
    };
    assert!(refuse(Partition::Iid, 0).contains("at least one client"));
    assert!(refuse(Partition::Iid, 41).contains("take fewer clients"));
    assert!(refuse(Partition::Shards, 21).contains("two shards"));
    assert!(refuse(Partition::Writers, 3).contains("needs a writer"));
    let nameless = Dataset::from_u8(vec![0], vec![0], &[1], 1).expect("data");
    let unknown = Partition::Writers.deal(&nameless, 1, 1).expect_err("refused").to_string();
    assert!(unknown.contains("as writers: no writers are known"), "{unknown}");
    for bad in
        ["", "IID", "dirichlet", "dirichlet=0", "dirichlet=nan", "dirichlet=-1", "dirichlet="]
    {
        assert!(bad.parse::<Partition>().is_err(), "{bad}");
    }
    assert_eq!("dirichlet=0.5".parse::<Partition>().expect("good").to_string(), "dirichlet=0.5");
}
