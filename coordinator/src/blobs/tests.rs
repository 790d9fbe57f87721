//! The store's contract, on a folder, in memory and in a bucket, whole and faulty; and what killed
//! writers leave.

use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tributary_core::codec::PART_BYTES;
use tributary_core::digest::Digest;
use tributary_testing::s3::{ACCESS_KEY, BUCKET, S3, SECRET_KEY};

use super::faulty::Faults;
use super::{BlobError, Blobs, STREAM_CHUNK_BYTES, UpdateKey, checkpoint_key, folder, s3};
use crate::config::S3Config;

fn update(round: u32, task: &str) -> UpdateKey {
    UpdateKey {
        job: "job-1".parse().expect("name"),
        round,
        task: task.parse().expect("name"),
        digest: Digest::of(task.as_bytes()),
    }
}

/// A store in a server's bucket, under a prefix.
pub(crate) async fn in_bucket(server: &S3, prefix: &str) -> Blobs {
    Blobs::on(bucket(server, prefix, SECRET_KEY).await.expect("a bucket"))
}

async fn bucket(
    server: &S3,
    prefix: &str,
    secret: &str,
) -> anyhow::Result<std::sync::Arc<dyn object_store::ObjectStore>> {
    s3::open(&format!("s3://{BUCKET}/{prefix}"), &config(server), keys(secret)).await
}

fn config(server: &S3) -> S3Config {
    S3Config { endpoint: Some(server.endpoint()), path_style: true, ..S3Config::default() }
}

fn keys(secret: &str) -> s3::Keys {
    let keys = s3::Keys::of(|name| match name {
        "AWS_ACCESS_KEY_ID" => Some(ACCESS_KEY.to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(secret.to_owned()),
        _ => None,
    });
    keys.expect("both are set")
}

/// The same store as a folder, as a folder without its fast paths, in memory, and in a bucket.
async fn stores(root: &FilePath, server: &S3) -> Vec<Blobs> {
    let folder = Blobs::local(&root.join("a")).expect("folder");
    let other = Blobs::local(&root.join("b")).expect("folder");
    let plain = Blobs::on(other.store.clone());
    vec![folder, plain, Blobs::in_memory(), in_bucket(server, "a/b").await]
}

/// Waits until nothing is open at the server: an upload is aborted beside whoever gave it up.
async fn uploads_end(server: &S3) -> usize {
    for _ in 0..400 {
        if server.open_uploads().expect("counted") == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    server.open_uploads().expect("counted")
}

fn bytes(len: usize, seed: u8) -> Bytes {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn keys_are_frozen() {
    let key = update(7, "task-a");
    let hex = Digest::of(b"task-a").hex();
    assert_eq!(key.part(3), format!("updates/job-1/000007/task-a/{hex}/00003"));
    assert_eq!(checkpoint_key(&key.job, 7, 2), "checkpoints/job-1/000007-02.safetensors");
}

#[tokio::test]
async fn only_whole_parts_are_held_and_writing_again_is_harmless() {
    let root = tempfile::tempdir().expect("folder");
    let server = S3::start().expect("a server");
    for blobs in stores(root.path(), &server).await {
        let key = update(1, "task-a");
        let len = 2 * PART_BYTES + 100;
        assert_eq!(blobs.held_parts(&key, len).await.expect("held"), [0_u32; 0]);
        let whole = bytes(PART_BYTES as usize, 1);
        blobs.put_part(&key, 1, whole.clone()).await.expect("put");
        blobs.put_part(&key, 1, whole.clone()).await.expect("put");
        blobs.put_part(&key, 0, whole.slice(1..)).await.expect("put");
        blobs.put_part(&key, 2, whole.slice(..100)).await.expect("put");
        blobs.put_part(&key, 9, whole.slice(..100)).await.expect("put");
        assert_eq!(blobs.held_parts(&key, len).await.expect("held"), [1, 2]);
        let read = blobs.read_range(&key.part(1), 5..PART_BYTES).await.expect("read");
        assert_eq!(read, whole.slice(5..));
    }
}

#[tokio::test]
async fn what_is_missing_or_short_is_named() {
    let root = tempfile::tempdir().expect("folder");
    let server = S3::start().expect("a server");
    for blobs in stores(root.path(), &server).await {
        let key = update(1, "task-a");
        let missing = blobs.read_range(&key.part(0), 0..1).await.expect_err("missing");
        assert!(matches!(&missing, BlobError::NotFound { key: k } if *k == key.part(0)));
        assert!(!missing.is_transient());
        blobs.put_part(&key, 0, bytes(10, 0)).await.expect("put");
        for range in [5..11, 10..11, 20..30] {
            let short = blobs.read_range(&key.part(0), range.clone()).await.expect_err("short");
            let BlobError::Short { expected, found, .. } = short else { panic!("{short}") };
            assert_eq!((expected, found), (range.end, 10));
        }
        assert_eq!(blobs.read_range(&key.part(0), 3..3).await.expect("empty"), Bytes::new());
        let hostile = blobs.len("../../etc/passwd").await;
        assert!(hostile.is_err(), "a key may not leave the folder");
    }
}

#[tokio::test]
async fn a_stream_gives_all_bytes_from_any_offset_in_bounded_chunks() {
    let root = tempfile::tempdir().expect("folder");
    let content = bytes(2 * STREAM_CHUNK_BYTES as usize + 77, 3);
    let server = S3::start().expect("a server");
    for blobs in stores(root.path(), &server).await {
        let key = update(1, "task-a");
        blobs.put_part(&key, 0, content.clone()).await.expect("put");
        for offset in [0, 1, STREAM_CHUNK_BYTES, content.len() as u64 - 1, content.len() as u64] {
            let chunks = blobs.stream(&key.part(0), offset);
            let chunks: Vec<Bytes> = chunks.try_collect().await.expect("stream");
            assert!(chunks.iter().all(|c| c.len() as u64 <= STREAM_CHUNK_BYTES));
            assert_eq!(chunks.concat(), content[offset as usize..]);
        }
        let behind = blobs.stream(&key.part(0), content.len() as u64 + 1).collect::<Vec<_>>().await;
        assert!(matches!(behind[..], [Err(BlobError::Short { .. })]));
        let missing = blobs.stream("checkpoints/none", 0).collect::<Vec<_>>().await;
        assert!(matches!(missing[..], [Err(BlobError::NotFound { .. })]));
    }
}

#[tokio::test]
async fn a_checkpoint_appears_whole_with_its_digest_or_not_at_all() {
    let root = tempfile::tempdir().expect("folder");
    let content = bytes(17 << 20, 5);
    let server = S3::start().expect("a server");
    for blobs in stores(root.path(), &server).await {
        let key = checkpoint_key(&update(1, "a").job, 1, 1);
        let mut dropped = blobs.checkpoint_writer(&key).await.expect("writer");
        dropped.write(content.clone()).await.expect("write");
        drop(dropped);
        assert!(matches!(blobs.len(&key).await, Err(BlobError::NotFound { .. })));
        let mut writer = blobs.checkpoint_writer(&key).await.expect("writer");
        let mut at = 0;
        for size in [0, 1, 9 << 20, 3, 17 << 20] {
            let end = content.len().min(at + size);
            writer.write(content.slice(at..end)).await.expect("write");
            at = end;
        }
        assert!(blobs.len(&key).await.is_err(), "it is seen before it is whole");
        let (digest, len) = writer.finish().await.expect("finish");
        assert_eq!((digest, len), (Digest::of(&content), content.len() as u64));
        assert_eq!(blobs.read_range(&key, 0..len).await.expect("read"), content);
        let empty = blobs.checkpoint_writer("checkpoints/empty").await.expect("writer");
        assert_eq!(empty.finish().await.expect("finish"), (Digest::of(b""), 0));
        assert_eq!(blobs.len("checkpoints/empty").await.expect("len"), 0);
    }
}

#[tokio::test]
async fn deleting_a_round_takes_its_updates_and_nothing_else() {
    let root = tempfile::tempdir().expect("folder");
    let server = S3::start().expect("a server");
    for blobs in stores(root.path(), &server).await {
        let (one, two, next) = (update(1, "a"), update(1, "b"), update(2, "a"));
        for key in [&one, &two, &next] {
            for part in 0..3 {
                blobs.put_part(key, part, bytes(9, 0)).await.expect("put");
            }
        }
        for _ in 0..2 {
            blobs.delete_updates(&one.job, 1).await.expect("delete");
        }
        assert!(blobs.len(&one.part(0)).await.is_err());
        assert!(blobs.len(&two.part(2)).await.is_err());
        assert_eq!(blobs.len(&next.part(2)).await.expect("len"), 9);
        // A late part makes the folders anew, and they are settled anew.
        blobs.put_part(&one, 0, bytes(9, 0)).await.expect("put");
        assert_eq!(blobs.len(&one.part(0)).await.expect("len"), 9);
    }
}

#[tokio::test]
async fn staging_files_are_not_seen_and_old_ones_are_swept() {
    let root = tempfile::tempdir().expect("folder");
    let blobs = Blobs::local(root.path()).expect("folder");
    let key = update(1, "a");
    blobs.put_part(&key, 0, bytes(9, 0)).await.expect("put");
    let staged = root.path().join(format!("{}#1", key.part(0)));
    std::fs::write(&staged, b"half of a pa").expect("write");
    assert_eq!(blobs.held_parts(&key, 9).await.expect("held"), [0]);
    // A writer that comes after the killed one passes its leftover by.
    blobs.put_part(&key, 0, bytes(9, 0)).await.expect("put");
    assert_eq!(folder::sweep(root.path(), Duration::from_secs(60)).expect("sweep"), 0);
    assert_eq!(folder::sweep(root.path(), Duration::ZERO).expect("sweep"), 1);
    assert!(!staged.exists());
    assert_eq!(blobs.len(&key.part(0)).await.expect("len"), 9);
}

#[tokio::test]
async fn a_writer_that_is_given_up_leaves_nothing_open_in_a_bucket() {
    let server = S3::start().expect("a server");
    let blobs = in_bucket(&server, "models").await;
    let content = bytes(17 << 20, 5);
    let mut dropped = blobs.checkpoint_writer("checkpoints/a").await.expect("writer");
    dropped.write(content.clone()).await.expect("write");
    assert_eq!(server.open_uploads().expect("counted"), 1);
    drop(dropped);
    assert_eq!(uploads_end(&server).await, 0);
    // One whose pieces are under way, and one that fails, because the server goes away meanwhile.
    let mut cut = blobs.checkpoint_writer("checkpoints/b").await.expect("writer");
    let soon = Duration::from_millis(1);
    let _ = tokio::time::timeout(soon, cut.write(content.clone())).await;
    drop(cut);
    assert_eq!(uploads_end(&server).await, 0);
    let mut whole = blobs.checkpoint_writer("checkpoints/c").await.expect("writer");
    whole.write(content.clone()).await.expect("write");
    let (digest, len) = whole.finish().await.expect("finish");
    assert_eq!((digest, len), (Digest::of(&content), content.len() as u64));
    assert_eq!(server.open_uploads().expect("counted"), 0);
    let stored = std::fs::read(server.bucket().join("models/checkpoints/c")).expect("an object");
    assert_eq!(Digest::of(&stored), digest, "the bucket's object is the checkpoint");
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_named_at_the_start_without_its_secret() {
    let server = S3::start().expect("a server");
    let said = |error: anyhow::Error| {
        let text = format!("{error:#} {error:?}");
        assert!(!text.contains(SECRET_KEY) && !text.contains("wrong-secret"), "{text}");
        text
    };
    let denied = bucket(&server, "p", "wrong-secret").await.expect_err("another secret");
    let text = said(denied);
    assert!(text.contains("bucket federation") && text.contains("cannot be written"), "{text}");
    let unset = s3::Keys::of(|name| (name == "AWS_ACCESS_KEY_ID").then(|| "id".to_owned()));
    let text = said(unset.err().expect("no secret"));
    assert!(text.contains("AWS_SECRET_ACCESS_KEY is not set"), "{text}");
    let ca_file = Some("/nonexistent/ca.pem".into());
    let config = S3Config { ca_file, ..config(&server) };
    let text = said(s3::open("s3://federation", &config, keys("x")).await.expect_err("no file"));
    assert!(text.contains("cannot read /nonexistent/ca.pem"), "{text}");
    let blobs = in_bucket(&server, "p").await;
    assert!(!format!("{blobs:?}").contains(SECRET_KEY), "{blobs:?}");
}

#[tokio::test]
async fn what_a_bucket_denies_is_told_from_an_outage() {
    let mut server = S3::start().expect("a server");
    let blobs = in_bucket(&server, "").await;
    let key = update(1, "task-a");
    blobs.put_part(&key, 0, bytes(9, 0)).await.expect("put");
    // The same bucket with a key that was replaced since.
    let denied = s3::client(BUCKET, &config(&server), keys("replaced")).expect("a client");
    let denied = Blobs::on(std::sync::Arc::new(denied));
    for error in [
        denied.put_part(&key, 0, bytes(9, 0)).await.expect_err("put"),
        denied.read_range(&key.part(0), 0..9).await.expect_err("read"),
        denied.checkpoint_writer("checkpoints/a").await.expect_err("begin"),
    ] {
        assert!(matches!(error, BlobError::Denied { .. }) && error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("mend the keys"), "{error}");
    }
    server.stop();
    let error = blobs.read_range(&key.part(0), 0..9).await.expect_err("nobody answers");
    assert!(matches!(error, BlobError::Io { .. }), "{error:?}");
    server.restart().expect("back");
    let read = blobs.read_range(&key.part(0), 0..9).await.expect("what was put stays");
    assert_eq!(read, bytes(9, 0));
}

/// Tries again for as long as trying may help, as whoever uses the store does.
async fn at_last<T>(mut attempt: impl AsyncFnMut() -> Result<T, BlobError>) -> T {
    for _ in 0..200 {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(error.is_transient(), "a fault looks like an answer: {error:?}"),
        }
    }
    panic!("it never worked");
}

#[tokio::test]
async fn whatever_fails_on_purpose_what_is_acknowledged_is_there() {
    let root = tempfile::tempdir().expect("folder");
    let server = S3::start().expect("a server");
    let content = bytes(9 << 20, 5);
    for (seed, whole) in (1..).zip(stores(root.path(), &server).await) {
        let faults = Faults::new(seed, 0.5);
        let blobs = whole.clone().with_faults(faults.clone());
        let (key, other) = (update(1, "task-a"), update(2, "task-a"));
        let len = PART_BYTES + 100;
        for part in [0, 1] {
            let range = tributary_core::codec::part_range(part, len).expect("a part");
            let part_bytes = bytes((range.end - range.start) as usize, part as u8);
            at_last(async || blobs.put_part(&key, part, part_bytes.clone()).await).await;
            at_last(async || blobs.put_part(&other, part, part_bytes.clone()).await).await;
            let read = at_last(async || {
                blobs.read_range(&key.part(part), 0..range.end - range.start).await
            });
            assert_eq!(read.await, part_bytes);
        }
        assert_eq!(at_last(async || blobs.held_parts(&key, len).await).await, [0, 1]);
        for round in 1.. {
            if round > 2 && faults.struck() > 5 {
                break;
            }
            assert!(round < 40, "{seed}: {} faults are few", faults.struck());
            let name = checkpoint_key(&key.job, round, 1);
            let written = at_last(async || {
                let mut writer = blobs.checkpoint_writer(&name).await?;
                writer.write(content.clone()).await?;
                writer.finish().await
            });
            assert_eq!(written.await, (Digest::of(&content), content.len() as u64));
            let stored = whole.read_range(&name, 0..content.len() as u64).await.expect("read");
            assert_eq!(stored, content, "what a writer acknowledged is whole");
        }
        at_last(async || blobs.delete_updates(&key.job, 1).await).await;
        assert!(whole.held_parts(&key, len).await.expect("held").is_empty());
        assert_eq!(whole.held_parts(&other, len).await.expect("held"), [0, 1]);
    }
}
