//! The store's contract, on a folder and in memory, and what killed writers leave.

use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tributary_core::codec::PART_BYTES;
use tributary_core::digest::Digest;

use super::{BlobError, Blobs, STREAM_CHUNK_BYTES, UpdateKey, checkpoint_key, folder};

fn update(round: u32, task: &str) -> UpdateKey {
    UpdateKey {
        job: "job-1".parse().expect("name"),
        round,
        task: task.parse().expect("name"),
        digest: Digest::of(task.as_bytes()),
    }
}

/// The same store as a folder, as a folder without its fast paths, and in memory.
fn stores(root: &FilePath) -> Vec<Blobs> {
    let folder = Blobs::local(&root.join("a")).expect("folder");
    let other = Blobs::local(&root.join("b")).expect("folder");
    let plain = Blobs::on(other.store.clone());
    vec![folder, plain, Blobs::in_memory()]
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
    for blobs in stores(root.path()) {
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
    for blobs in stores(root.path()) {
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
    for blobs in stores(root.path()) {
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
    for blobs in stores(root.path()) {
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
    for blobs in stores(root.path()) {
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
