//! Room on the disk: who may use how much of it, and what becomes of an upload when it ends.

use std::time::Duration;

use tonic::Code;
use tributary_proto::fault::reason;
use tributary_proto::v1;
use v1::upload_update_request::Message;

use super::{MANY_FEATURES, Update, world, world_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_fill_the_disk_with_ever_other_updates_of_one_task() {
    // Two parts: an upload that breaks off leaves one behind.
    let world = world(MANY_FEATURES as usize).await;
    let job = world.submit().await;
    let [a, _] = world.tasks(MANY_FEATURES).await;
    let mut left = 0;
    let refused = loop {
        let values = vec![left as f32 * 1e-3; 2 * MANY_FEATURES as usize + 2];
        let update = Update::of(&world.spec, &values);
        let cut = world.send(update.header("a", &a.task_id), update.chunks(0..1)).await;
        let error = cut.expect_err("it is cut");
        if reason(&error).as_deref() != Some("damaged_in_transfer") {
            break error;
        }
        left += 1;
        assert!(left < 10, "every one of them stays on the disk");
    };
    assert_eq!((left, reason(&refused).as_deref()), (4, Some("too_many_updates")));
    assert_eq!(world.refusals(&job).await, ["too_many_updates"]);
    let c = world.poll("c", MANY_FEATURES, 20_000).await.expect("another client is asked instead");
    assert_eq!(c.job_id, job);
    world.coordinator.stop().await.expect("stopped");
}

/// How far the disk is from its reserve when the test below begins, and what then fills it.
const GAP: u64 = 512 << 20;
/// See [`GAP`].
const BALLAST: u64 = 1 << 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_in_the_middle_of_an_upload_loses_nothing_that_was_acknowledged() {
    let ballast = tempfile::NamedTempFile::new().expect("a file");
    let disk = rustix::fs::statvfs(ballast.path().parent().expect("a folder")).expect("a disk");
    let free = disk.f_bavail * disk.f_frsize;
    if free < 2 * BALLAST {
        tributary_testing::skip::skip("the disk of temporary files has less than 2 GiB free");
        return;
    }
    let reserve_mb = u32::try_from((free - GAP) >> 20).unwrap_or(u32::MAX);
    let world =
        world_with(MANY_FEATURES as usize, |config| config.disk_reserve_mb = reserve_mb).await;
    let (job, [a, b], update) = world.of_two_parts().await;
    let header = update.header("a", &a.task_id);
    let before = world.send(update.header("b", &b.task_id), update.all_chunks()).await.expect("b");

    // One part of a's is on the disk when the disk fills up; the other one comes after.
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let first = v1::UploadUpdateRequest { message: Some(Message::Header(header.clone())) };
    sender.send(first).await.expect("sent");
    let mut client = world.participants();
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answer = tokio::spawn(async move { client.upload_update(receiver).await });
    for chunk in update.chunks(0..1) {
        sender.send(chunk).await.expect("sent");
    }
    let held = async || world.there(&header).await.held_parts;
    for _ in 0..600 {
        if held().await == [0] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(held().await, [0]);
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(ballast.as_file(), flags, 0, BALLAST).expect("there was room for it");
    for chunk in update.chunks(1..2) {
        sender.send(chunk).await.expect("sent");
    }
    let refused = answer.await.expect("it ran").expect_err("there is no room");
    assert_eq!(
        (refused.code(), reason(&refused).as_deref()),
        (Code::ResourceExhausted, Some("disk_full"))
    );
    assert!(tributary_proto::fault::retry_after(&refused) > Some(Duration::ZERO));
    assert_eq!(held().await, [0], "what came before it stays");
    let again = world.send(update.header("b", &b.task_id), update.all_chunks()).await;
    assert_eq!(again.expect("its receipt stands"), before);

    drop(ballast);
    let rest = update.chunks(1..2);
    let receipt = world.send(header, rest).await.expect("room again: only the rest is sent");
    assert_eq!(receipt.reason, "accepted");
    assert_eq!(world.completed(&job).await.rounds_committed, 1);
    world.coordinator.stop().await.expect("stopped");
}
