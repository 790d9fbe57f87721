//! One answer from stored blobs: any store, any cut; and plans and blobs that cannot be folded.

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use tributary_core::aggregate::{Scale, finish, fold, norm_of_square, square_norm};
use tributary_core::checkpoint;
use tributary_core::codec::{self, PART_BYTES, update_len};
use tributary_core::digest::Digest;
use tributary_core::name::{JobId, TaskId};
use tributary_core::params::{ParameterSet, Schema};
use tributary_testing::s3::S3;

use super::scan::{Cut, Unit, unit};
use super::{Contribution, FoldError, FoldPlan, fold_cut, fold_round};
use crate::blobs::faulty::Faults;
use crate::blobs::tests::in_bucket;
use crate::blobs::{BlobError, Blobs, UpdateKey, checkpoint_key};

struct Round {
    plan: FoldPlan,
    old: ParameterSet,
    updates: Vec<Vec<f32>>,
}

/// A number in ±1 that depends on both.
fn value(update: usize, coordinate: usize) -> f32 {
    let mixed = (update as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ coordinate as u64;
    let mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn round(updates: usize, parameters: usize) -> Round {
    let tensors = [("a", vec![parameters / 3]), ("b", vec![parameters - parameters / 3])];
    let schema = Arc::new(Schema::new(tensors).expect("schema"));
    let job: JobId = "job-1".parse().expect("name");
    let values = |update| (0..parameters).map(|at| value(update, at)).collect::<Vec<_>>();
    let contribution = |index: usize| Contribution {
        client: format!("client-{index:02}").parse().expect("name"),
        examples: 1 + (index as u64 * 331) % 1000,
        key: UpdateKey {
            job: job.clone(),
            round: 1,
            task: format!("task-{index:02}").parse::<TaskId>().expect("name"),
            digest: Digest::of(&index.to_le_bytes()),
        },
    };
    let plan = FoldPlan {
        schema: schema.clone(),
        previous: checkpoint_key(&job, 0, 0),
        output: checkpoint_key(&job, 1, 1),
        scale: Scale::for_roster(1000, 6).expect("scale"),
        contributions: (0..updates).map(contribution).collect(),
    };
    let old = ParameterSet::new(schema, values(99)).expect("values");
    Round { plan, old, updates: (0..updates).map(values).collect() }
}

impl Round {
    async fn store(&self, blobs: &Blobs) {
        let mut writer = blobs.checkpoint_writer(&self.plan.previous).await.expect("writer");
        writer.write(checkpoint::encode(&self.old).into()).await.expect("write");
        writer.finish().await.expect("finish");
        for (contribution, values) in self.plan.contributions.iter().zip(&self.updates) {
            let mut bytes = Vec::new();
            let write = codec::write_update(self.plan.schema.digest(), values, |block| {
                bytes.extend_from_slice(block);
                Ok::<(), ()>(())
            });
            assert_eq!(write, Ok(()));
            for (index, part) in (0..).zip(bytes.chunks(PART_BYTES as usize)) {
                let part = Bytes::copy_from_slice(part);
                blobs.put_part(&contribution.key, index, part).await.expect("put");
            }
        }
    }

    /// The norm of the mean, in one piece.
    fn norm(&self) -> u64 {
        let (sums, total) = self.sums();
        norm_of_square(square_norm(&sums, total, self.plan.scale))
    }

    fn sums(&self) -> (Vec<i64>, u64) {
        let mut sums = vec![0; self.old.values().len()];
        for (contribution, values) in self.plan.contributions.iter().zip(&self.updates) {
            fold(&mut sums, values, contribution.examples, self.plan.scale);
        }
        (sums, self.plan.contributions.iter().map(|c| c.examples).sum())
    }

    /// The next checkpoint, in memory and in one piece.
    fn expected(&self) -> Vec<u8> {
        let (sums, total) = self.sums();
        let mut new = self.old.clone();
        finish(self.old.values(), &sums, total, self.plan.scale, new.values_mut());
        checkpoint::encode(&new)
    }
}

/// A folder, and the same folder by the path of other backends.
fn both(root: &FilePath) -> [Blobs; 2] {
    let store = LocalFileSystem::new_with_prefix(root).expect("folder");
    [Blobs::local(root).expect("folder"), Blobs::on(Arc::new(store))]
}

#[test]
fn units_cover_every_coordinate_once_and_stay_within_a_part() {
    for parameters in [0, 1, 1000, 131_056, 131_057, 2_097_136, 2_097_137, 6_000_000] {
        for unit_bytes in [4096, 512 << 10, PART_BYTES] {
            let mut next = 0;
            for index in 0..update_len(parameters).div_ceil(unit_bytes) {
                let Unit { coordinates, part, bytes } = unit(index, unit_bytes, parameters);
                assert_eq!(coordinates.start, next);
                assert_eq!(bytes.end - bytes.start, 4 * coordinates.len() as u64);
                let values = codec::part_values(part, parameters).expect("a part");
                let from = coordinates.start - values.coordinates.start;
                assert_eq!(bytes.start, (values.offset + 4 * from) as u64);
                assert!(coordinates.end <= values.coordinates.end);
                next = coordinates.end;
            }
            assert_eq!(next, parameters);
        }
    }
}

#[tokio::test]
async fn any_store_threads_and_cut_give_the_bytes_of_the_reference() {
    let root = tempfile::tempdir().expect("folder");
    // Two parts and some, and an odd number of updates.
    let round = round(7, 2_300_001);
    let expected = Digest::of(&round.expected());
    let [folder, plain] = both(root.path());
    round.store(&folder).await;
    let server = S3::start().expect("a server");
    let bucket = in_bucket(&server, "models").await;
    round.store(&bucket).await;
    let norm = round.norm();
    let cuts = [
        Cut::default(),
        Cut { threads: 1, ..Cut::default() },
        Cut { threads: 5, unit_bytes: 64 << 10, block_bytes: 4004 },
        Cut { threads: 3, unit_bytes: PART_BYTES, block_bytes: 1_000_004 },
    ];
    for cut in cuts {
        // A request a unit: small ones are many, and tell nothing more.
        let buckets = Some(&bucket).filter(|_| cut.unit_bytes >= Cut::default().unit_bytes);
        for blobs in [&folder, &plain].into_iter().chain(buckets) {
            let outcome = fold_cut(blobs, round.plan.clone(), cut).await.expect("fold");
            assert_eq!((outcome.digest, outcome.norm), (expected, norm), "{cut:?}");
            let stored = blobs.read_range(&round.plan.output, 0..outcome.len).await.expect("read");
            assert_eq!(Digest::of(&stored), expected);
        }
    }
}

#[tokio::test]
async fn the_order_of_names_does_not_matter_to_the_sum() {
    let round = round(6, 1000);
    let blobs = Blobs::in_memory();
    round.store(&blobs).await;
    let expected = fold_round(&blobs, round.plan.clone()).await.expect("fold");
    let mut other = round.plan.clone();
    let names: Vec<_> = other.contributions.iter().map(|c| c.client.clone()).collect();
    other.contributions.reverse();
    for (contribution, name) in other.contributions.iter_mut().zip(names) {
        contribution.client = name;
    }
    assert_eq!(fold_round(&blobs, other).await.expect("fold"), expected);
}

#[tokio::test]
async fn small_models_and_single_updates_are_folded() {
    for (updates, parameters) in [(1, 1), (2, 3), (1, 0), (3, 131_056), (3, 131_057)] {
        let round = round(updates, parameters);
        let blobs = Blobs::in_memory();
        round.store(&blobs).await;
        let outcome = fold_round(&blobs, round.plan.clone()).await.expect("fold");
        assert_eq!(outcome.digest, Digest::of(&round.expected()), "{updates} × {parameters}");
    }
}

#[tokio::test]
async fn missing_and_short_blobs_are_named_and_nothing_is_written() {
    let root = tempfile::tempdir().expect("folder");
    let round = round(3, 300_000);
    for blobs in both(root.path()) {
        round.store(&blobs).await;
        let key = round.plan.contributions[1].key.clone();
        blobs.put_part(&key, 0, Bytes::from(vec![0; 700_000])).await.expect("put");
        let short = fold_round(&blobs, round.plan.clone()).await.expect_err("short");
        let FoldError::Blob(BlobError::Short { key: named, .. }) = &short else {
            panic!("{short}")
        };
        assert_eq!((named, short.is_transient()), (&key.part(0), false));
        blobs.delete_updates(&key.job, 1).await.expect("delete");
        let missing = fold_round(&blobs, round.plan.clone()).await.expect_err("missing");
        assert!(matches!(&missing, FoldError::Blob(BlobError::NotFound { .. })), "{missing}");
        assert!(blobs.len(&round.plan.output).await.is_err());
    }
}

#[tokio::test]
async fn a_fold_over_blobs_that_fail_on_purpose_comes_to_the_same_bytes() {
    let root = tempfile::tempdir().expect("folder");
    let server = S3::start().expect("a server");
    let round = round(3, 300_000);
    let expected = (Digest::of(&round.expected()), round.norm());
    let [folder, plain] = both(root.path());
    for (seed, whole) in (1..).zip([folder, plain, in_bucket(&server, "").await]) {
        round.store(&whole).await;
        let faults = Faults::new(seed, 0.05);
        let blobs = whole.with_faults(faults.clone());
        let (mut folded, mut tries) = (0, 0);
        while folded < 5 || faults.struck() < 5 {
            tries += 1;
            assert!(tries < 500, "it never comes through: {folded} folds");
            match fold_round(&blobs, round.plan.clone()).await {
                Ok(outcome) => {
                    assert_eq!((outcome.digest, outcome.norm), expected);
                    folded += 1;
                }
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_mean_that_is_no_number_is_told_and_not_written() {
    let mut round = round(1, 100);
    round.old.values_mut()[7] = f32::MAX;
    round.updates[0][7] = 1.0;
    let blobs = Blobs::in_memory();
    round.store(&blobs).await;
    fold_round(&blobs, round.plan.clone()).await.expect("too small to tell");
    round.old.values_mut()[7] = f32::INFINITY;
    round.plan.output = checkpoint_key(&round.plan.contributions[0].key.job, 2, 1);
    round.store(&blobs).await;
    let error = fold_round(&blobs, round.plan.clone()).await.expect_err("no number");
    assert!(matches!(error, FoldError::NotFinite { coordinate: 7 }), "{error:?}");
    assert!(!error.is_transient() && blobs.len(&round.plan.output).await.is_err());
}

#[tokio::test]
async fn an_old_checkpoint_of_another_model_is_refused() {
    let (round, other) = (round(1, 100), self::round(1, 101));
    let blobs = Blobs::in_memory();
    round.store(&blobs).await;
    let mut plan = round.plan.clone();
    plan.schema = other.plan.schema.clone();
    let error = fold_round(&blobs, plan).await.expect_err("another model");
    assert!(matches!(&error, FoldError::Checkpoint { .. }), "{error}");
    let mut writer = blobs.checkpoint_writer(&round.plan.previous).await.expect("writer");
    writer.write(checkpoint::header(&round.plan.schema).into()).await.expect("write");
    writer.finish().await.expect("finish");
    let error = fold_round(&blobs, round.plan.clone()).await.expect_err("no values");
    assert!(error.to_string().contains("expected 400 bytes of data, found 0"), "{error}");
}

#[tokio::test]
async fn plans_that_cannot_be_folded_are_refused() {
    let round = round(2, 10);
    let blobs = Blobs::in_memory();
    round.store(&blobs).await;
    let refused = async |change: fn(&mut FoldPlan), says: &str| {
        let mut plan = round.plan.clone();
        change(&mut plan);
        let error = fold_round(&blobs, plan).await.expect_err(says);
        assert!(matches!(error, FoldError::Plan { .. }) && error.to_string().contains(says));
    };
    refused(|plan| plan.contributions.clear(), "at least one example").await;
    refused(|plan| plan.contributions.iter_mut().for_each(|c| c.examples = 0), "found 0").await;
    refused(|plan| plan.contributions[1].examples = 1025, "cap").await;
    refused(|plan| plan.contributions.swap(0, 1), "sorted").await;
    refused(|plan| plan.contributions[1] = plan.contributions[0].clone(), "twice").await;
    refused(
        |plan| plan.contributions = vec![plan.contributions[0].clone(); 4097],
        "at most 4096 updates",
    )
    .await;
}

#[tokio::test]
async fn a_fold_that_is_dropped_leaves_no_checkpoint() {
    let root = tempfile::tempdir().expect("folder");
    let round = round(3, 2_300_000);
    let [blobs, _] = both(root.path());
    round.store(&blobs).await;
    {
        let fold = fold_round(&blobs, round.plan.clone());
        let soon = std::time::Duration::from_millis(1);
        let _ = tokio::time::timeout(soon, fold).await;
    }
    let whole = fold_round(&blobs, round.plan.clone()).await.expect("fold");
    assert_eq!(whole.digest, Digest::of(&round.expected()));
}
