//! Uploads and downloads that break off: they go on where they were, and never with other bytes.

use tonic::Code;
use tributary_core::codec::{self, PART_BYTES};
use tributary_core::digest::Digest;
use tributary_proto::fault::{reason, retry_after};
use tributary_proto::v1;
use v1::upload_update_request::Message;

use super::{MANY_FEATURES, World, caller, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_upload_resumes_by_parts_and_twice_gives_the_same_receipt() {
    let world = world(MANY_FEATURES as usize).await;
    let (job, [a, b], update) = world.of_two_parts().await;
    assert!(update.bytes.len() as u64 > PART_BYTES);
    let parts = codec::part_count(update.bytes.len() as u64);
    let header = update.header("a", &a.task_id);
    assert!(world.there(&header).await.held_parts.is_empty());
    let cut = world.send(header.clone(), update.chunks(0..parts - 1)).await;
    cut.expect_err("the last part is missing");
    let so_far = world.there(&header).await.held_parts;
    assert_eq!(so_far, (0..parts - 1).collect::<Vec<_>>(), "what came whole is durable");
    let rest = update.chunks(parts - 1..parts);
    let receipt = world.send(header.clone(), rest).await.expect("only the rest is sent");
    let again = world.send(header.clone(), update.all_chunks()).await.expect("again");
    assert_eq!(receipt, again);
    assert_eq!(world.there(&header).await.receipt, Some(receipt.clone()));
    let mut other = update.clone();
    other.bytes[100] ^= 1;
    let adopted = world.send(other.header("a", &a.task_id), other.all_chunks()).await;
    let adopted = adopted.expect("told which one counts");
    assert_eq!(adopted.reason, "already_accepted");
    assert_eq!(adopted.update_digest, receipt.update_digest);

    world.send(update.header("b", &b.task_id), update.all_chunks()).await.expect("b");
    let done = world.completed(&job).await;
    resume_download(&world, &done).await;
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_broke_off_goes_on_in_its_middle() {
    let world = world(MANY_FEATURES as usize).await;
    let (job, [a, b], update) = world.of_two_parts().await;
    let mut header = update.header("a", &a.task_id);
    let all = update.all_chunks();
    let begun = |part, bytes| Some(v1::PartBeginning { part, bytes });

    // What nobody has kept is not gone on behind; what no part has is refused.
    header.beginning = begun(0, 1 << 20);
    let error = world.send(header.clone(), all[1..].to_vec()).await.expect_err("not kept");
    assert_eq!((error.code(), retry_after(&error).is_some()), (Code::Aborted, true), "{error}");
    for (part, bytes) in [(0, PART_BYTES), (1, 72), (2, 0), (u32::MAX, u64::MAX)] {
        header.beginning = begun(part, bytes);
        let error = world.send(header.clone(), all.clone()).await.expect_err("no such beginning");
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains("beginning.bytes"), "{error}");
    }

    // It breaks off three times: within the first part twice, and within the last one.
    header.beginning = None;
    world.send(header.clone(), all[..3].to_vec()).await.expect_err("cut");
    header.beginning = world.there(&header).await.beginning;
    assert_eq!(header.beginning, begun(0, 3 << 20));
    world.send(header.clone(), all[3..4].to_vec()).await.expect_err("cut");
    header.beginning = world.there(&header).await.beginning;
    assert_eq!(header.beginning, begun(0, 4 << 20));
    let mut last = update.bytes[PART_BYTES as usize..].to_vec();
    let rest = last.split_off(40);
    let piece = |data: Vec<u8>| {
        let chunk = v1::UploadChunk { part: 1, data: data.into() };
        v1::UploadUpdateRequest { message: Some(Message::Chunk(chunk)) }
    };
    let until_last = [&all[4..8], &[piece(last)]].concat();
    world.send(header.clone(), until_last).await.expect_err("cut");
    let there = world.there(&header).await;
    assert_eq!((there.held_parts.as_slice(), there.beginning), ([0].as_slice(), begun(1, 40)));
    // A try that learned of it when the first part was not whole passes that part over.
    world.send(header.clone(), vec![piece(rest.clone())]).await.expect_err("behind nothing");
    header.beginning = there.beginning;
    let receipt = world.send(header.clone(), vec![piece(rest)]).await.expect("the rest of it");
    assert_eq!(world.there(&header).await.receipt, Some(receipt));

    world.send(update.header("b", &b.task_id), update.all_chunks()).await.expect("b");
    world.completed(&job).await;
    assert_eq!(world.refusals(&job).await, ["malformed"; 0]);
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_that_was_damaged_is_let_go() {
    let world = world(MANY_FEATURES as usize).await;
    let (job, [a, b], update) = world.of_two_parts().await;
    let mut header = update.header("a", &a.task_id);
    let mut damaged = update.clone();
    damaged.bytes[1 << 19] ^= 4;
    world.send(header.clone(), damaged.all_chunks()[..2].to_vec()).await.expect_err("cut");
    header.beginning = world.there(&header).await.beginning;
    assert_eq!(header.beginning.map(|b| b.bytes), Some(2 << 20));
    let error = world.send(header.clone(), update.all_chunks()[2..].to_vec()).await;
    assert_eq!(reason(&error.expect_err("damaged")).as_deref(), Some("damaged_in_transfer"));
    header.beginning = world.there(&header).await.beginning;
    assert_eq!(header.beginning, None, "it begins anew, and comes to its end");
    world.send(header.clone(), update.all_chunks()).await.expect("whole");
    world.send(update.header("b", &b.task_id), update.all_chunks()).await.expect("b");
    world.completed(&job).await;
    world.coordinator.stop().await.expect("stopped");
}

/// A checkpoint read from two offsets is the blob of its digest.
async fn resume_download(world: &World, job: &v1::Job) {
    let mut whole = Vec::new();
    for offset in [0, 1_500_000] {
        whole.truncate(offset as usize);
        let request = v1::FetchBlobRequest {
            caller: caller("a"),
            digest: job.checkpoint_digest.clone(),
            offset,
        };
        let mut chunks = world.participants().fetch_blob(request).await.expect("blob").into_inner();
        while let Some(chunk) = chunks.message().await.expect("chunk") {
            assert_eq!(chunk.offset, whole.len() as u64);
            whole.extend_from_slice(&chunk.data);
        }
    }
    assert_eq!(Digest::of(&whole).to_string(), job.checkpoint_digest);
}
