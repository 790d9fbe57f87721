//! Somebody who was cut off tries another replica.

use std::time::Duration;

use tributary_client::rpc::Remote;
use tributary_coordinator::app::Coordinator;
use tributary_core::identity::Role;
use tributary_proto::v1;
use tributary_testing::Postgres;
use v1::participant_service_client::ParticipantServiceClient;

use crate::world::{World, caller};

/// The shortest interval that agents have: a third of a lease of three seconds.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Heartbeats that are tried; far more than may be answered.
const TRIED: usize = 5;

/// Said at one replica, it holds at every other one before a second heartbeat: at most one is answered
/// that was under way when the certificate was last asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_client_is_cut_off_within_one_heartbeat_on_every_replica() {
    let Some(postgres) = Postgres::shared().expect("postgres") else { return };
    let database = postgres.database().expect("a database");
    let world = World::start(|config| config.database_url = database.into()).await;
    let site = world.enroll(Role::Client, "site-a").await;
    let mut second = world.config.clone();
    second.data_dir = world.home("second");
    let second = Coordinator::start(&second).await.expect("a second replica");
    let at = format!("https://localhost:{}", second.address().port());
    let remote = Remote::secure(&at, &site.credential).expect("a remote");
    let elsewhere = remote.connect().await.expect("connected");

    // Heartbeats of no task: what is answered is who is let in.
    let beat = async |client: &mut ParticipantServiceClient<tonic::transport::Channel>| {
        let request = v1::HeartbeatRequest {
            caller: caller("site-a"),
            task_id: "0".repeat(32),
            progress: 1,
            progress_total: 2,
        };
        client.heartbeat(request).await.is_ok()
    };
    let mut clients = [site.participant(), ParticipantServiceClient::new(elsewhere)];
    for client in &mut clients {
        assert!(beat(client).await, "before");
    }
    world.revoke(Role::Client, "site-a").await;
    let mut answered = [0, 0];
    for _ in 0..TRIED {
        for (client, answered) in clients.iter_mut().zip(&mut answered) {
            *answered += usize::from(beat(client).await);
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
    assert!(answered.iter().all(|count| *count <= 1), "{answered:?} of {TRIED} were answered");
    second.stop().await.expect("stopped");
}
