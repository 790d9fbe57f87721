//! Clients of an older protocol beside those of the newest one.

use tributary_proto::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

use super::{Update, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_either_protocol_are_folded_in_one_round() {
    let world = world(3).await;
    let job = world.submit().await;
    let clients = [("a", PROTOCOL_VERSION_MIN), ("b", PROTOCOL_VERSION)];
    assert!(clients[0].1 < clients[1].1, "two protocols are spoken");
    for (client, version) in clients {
        world.poll_by(version, client, 3, 0).await;
    }
    for (client, version) in clients {
        let (agreed, task) = world.poll_by(version, client, 3, 20_000).await;
        assert_eq!(agreed, version, "{client}");
        let update = Update::of(&world.spec, &[0.5; 8]);
        let header = update.header(client, &task.expect("a task").task_id);
        world.send(header, update.all_chunks()).await.expect("a receipt");
    }
    world.completed(&job).await;
    let round = world.round(&job, 1).await;
    assert_eq!((round.updates, round.examples), (2, 10));
    let outcomes: Vec<_> = round.tasks.iter().map(|task| task.outcome.as_str()).collect();
    assert_eq!(outcomes, ["folded", "folded"]);
    // Whoever is newer than we are goes on with what we speak.
    let (agreed, _) = world.poll_by(PROTOCOL_VERSION + 1, "b", 3, 0).await;
    assert_eq!(agreed, PROTOCOL_VERSION);
    world.coordinator.stop().await.expect("stopped");
}
