//! Races between a job and its sites, one at a time: answers that are lost, updates that are late,
//! pauses, sites that come and go, jobs side by side. Agents and coordinator are real.

#[path = "races/late.rs"]
mod late;
#[path = "races/world.rs"]
mod world;

use tributary_client::observer::AgentEvent;
use tributary_core::codec;
use world::{Fate, StandIn, World, spec, until};

/// Numbers in a row of most sites here.
const FEATURES: u32 = 3;
/// As many that a model of them has two parts.
const MANY_FEATURES: u32 = 1 << 20;
/// Both sites, and nothing without them.
const BOTH: &str = "min_available_clients = 2\nmin_train_clients = 2\nmin_updates = 2\n";

/// Three are asked, and the first two count.
const FIRST_TWO: &str = "min_available_clients = 2\nmin_train_clients = 2\nmin_updates = 2\n\
    fraction_train = 0.5\nover_selection = 1.5\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_poll_names_the_same_task_again() {
    let world = World::start().await;
    let (a, b) = (StandIn::new(FEATURES), StandIn::new(FEATURES));
    let (site, _other) = (world.site("a", a.clone()), world.site("b", b));
    site.set("Poll", Some(Fate::Lost));
    let job = world.submit(&spec("poll", 1, FEATURES, BOTH)).await;
    until("the task is a's, who does not know", async || {
        world.tasks(&job, 1, "a").await.iter().any(|task| task.state == "leased")
    })
    .await;
    assert!(a.orders().is_empty());
    let lost = site.answered("Poll");
    until("it asks again", async || site.answered("Poll") > lost).await;
    site.set("Poll", None);
    world.completed(&job).await;
    let tasks = world.tasks(&job, 1, "a").await;
    let told: Vec<_> = tasks.iter().map(|task| (task.attempt, task.state.as_str())).collect();
    assert_eq!(told, [(1, "accepted")], "one task, whoever knew of it");
    assert_eq!(a.orders().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_receipt_is_given_again() {
    for (features, parts) in [(FEATURES, 1), (MANY_FEATURES, 2)] {
        let values = 2 * features as usize + 2;
        assert_eq!(codec::part_count(codec::update_len(values)), parts);
        let world = World::start().await;
        let trainer = StandIn::new(features);
        let (site, _other) =
            (world.site("a", trainer.clone()), world.site("b", StandIn::new(features)));
        // What it is answered behind the last byte.
        site.set("UploadUpdate", Some(Fate::Lost));
        let job = world.submit(&spec("receipt", 2, features, BOTH)).await;
        until("a receipt of a's, who does not know", async || {
            world.tasks(&job, 1, "a").await.iter().any(|task| task.state == "accepted")
        })
        .await;
        assert_eq!(site.receipts(), 0);
        if parts == 1 {
            let lost = site.answered("UploadUpdate");
            until("it sends again", async || site.answered("UploadUpdate") > lost).await;
        } else {
            // It asks what is there before it sends: no byte goes twice.
            until("a receipt", async || site.receipts() == 1).await;
            assert_eq!(site.answered("UploadUpdate"), 1);
        }
        site.set("UploadUpdate", None);
        world.completed(&job).await;
        until("both rounds' receipts", async || site.receipts() == 2).await;
        let orders = trainer.orders();
        assert_eq!(orders, [("receipt".to_owned(), 1), ("receipt".to_owned(), 2)], "once a round");
        assert_eq!(world.refused(&job, "a").await, Vec::<String>::new());
        let round = world.round(&job, 1).await.expect("a round");
        assert_eq!((round.updates, round.examples), (2, 10), "it counts once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_update_outlasts_a_pause() {
    let world = World::start().await;
    let trainer = StandIn::new(FEATURES);
    let (site, other) = (world.site("a", trainer.clone()), world.site("b", StandIn::new(FEATURES)));
    let held = || async {
        site.set("UploadUpdate", Some(Fate::Held));
        let sends = |event: &AgentEvent| matches!(event, AgentEvent::Sending { .. });
        let (name, sent) = (format!("held-{}", trainer.orders().len()), site.heard(sends));
        let job = world.submit(&spec(&name, 1, FEATURES, BOTH)).await;
        until("b's receipt, and a's update on its way", async || {
            world.sites(&job, 1, "accepted").await == ["b"] && site.heard(sends) > sent
        })
        .await;
        world.pause(&job).await;
        let kept = site.heard(|event| *event == AgentEvent::Held);
        site.set("UploadUpdate", None);
        until("a is told", async || site.heard(|event| *event == AgentEvent::Held) > kept).await;
        job
    };
    let first = held().await;
    // Nobody waits for it: another job has both sites meanwhile.
    let between = world.submit(&spec("between", 1, FEATURES, BOTH)).await;
    world.completed(&between).await;
    world.resume(&first).await;
    world.completed(&first).await;
    assert_eq!(trainer.orders().len(), 2, "what was finished is sent, and not made again");
    assert_eq!(site.heard(|event| matches!(event, AgentEvent::Dropped { .. })), 0);
    let task = world.tasks(&first, 1, "a").await.remove(0);
    assert_eq!((task.state.as_str(), task.outcome.as_str()), ("accepted", "folded"));

    // A job that ends while it is held lets go of what was kept for it, at the next start at the latest.
    let second = held().await;
    let spooled = world.folder().join("a/tasks");
    let count = || std::fs::read_dir(&spooled).expect("a spool").count();
    assert_eq!(count(), 1, "kept");
    world.cancel(&second).await;
    site.leave().await;
    let again = world.site("a", trainer.clone());
    until("forgotten", async || count() == 0).await;
    assert_eq!(world.tasks(&second, 1, "b").await[0].outcome, "job_cancelled");
    for site in [again, other] {
        site.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sites_join_and_leave_between_rounds() {
    let world = World::start().await;
    let site = |name: &str| world.site(name, StandIn::new(FEATURES));
    let (a, b) = (site("a"), site("b"));
    let job = world.submit(&spec("fair", 3, FEATURES, FIRST_TWO)).await;
    a.set("UploadUpdate", Some(Fate::Held));
    until("b's receipt", async || world.sites(&job, 1, "accepted").await == ["b"]).await;
    b.leave().await;
    let c = site("c");
    until("c is known", async || world.knows("c").await).await;
    a.set("UploadUpdate", None);
    until("the first round", async || world.sites(&job, 1, "accepted").await.len() == 2).await;
    a.set("UploadUpdate", Some(Fate::Held));
    until("c's receipt", async || world.sites(&job, 2, "accepted").await.contains(&"c".into()))
        .await;
    // From here on a works on nothing new, so that the third round needs who comes back.
    a.set("Poll", Some(Fate::Held));
    a.set("UploadUpdate", None);
    until("the third round", async || world.round(&job, 3).await.is_some()).await;
    let b = site("b");
    world.completed(&job).await;
    let mut accepted = Vec::new();
    for round in 1..=3 {
        accepted.push(world.sites(&job, round, "accepted").await);
    }
    assert_eq!(accepted, [["a", "b"], ["a", "c"], ["b", "c"]]);
    let away = world.tasks(&job, 2, "b").await;
    let told: Vec<_> = away.iter().map(|t| (t.state.as_str(), t.reason.as_str())).collect();
    assert_eq!(told, [("abandoned", "round_closed")], "nobody waited for who had left");
    for site in [a, b, c] {
        site.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_take_turns_at_a_site_that_both_wait_for() {
    const ROUNDS: u32 = 4;
    let world = World::start().await;
    let trainer = StandIn::new(FEATURES);
    let site = world.site("a", trainer.clone());
    until("it is known", async || world.knows("a").await).await;
    site.set("UploadUpdate", Some(Fate::Held));
    let alone = "min_available_clients = 1\nmin_train_clients = 1\nmin_updates = 1\n";
    let mut jobs = Vec::new();
    for name in ["left", "right"] {
        jobs.push(world.submit(&spec(name, ROUNDS, FEATURES, alone)).await);
    }
    for done in 0..2 * ROUNDS {
        // It takes a task whenever both jobs have one for it, or have ended.
        for job in &jobs {
            until("a task", async || {
                let job = world.job(job).await;
                job.status == "completed" || world.offers(&job, "a").await
            })
            .await;
        }
        site.set("UploadUpdate", Some(Fate::Held));
        site.set("Poll", None);
        until("an update", async || trainer.orders().len() as u32 > done).await;
        site.set("Poll", Some(Fate::Held));
        site.set("UploadUpdate", None);
        until("a receipt", async || site.receipts() as u32 > done).await;
    }
    for job in &jobs {
        world.completed(job).await;
    }
    let orders = trainer.orders();
    let turns: Vec<u32> = orders.iter().map(|(_, round)| *round).collect();
    assert_eq!(turns, [1, 1, 2, 2, 3, 3, 4, 4], "neither is a round ahead: {orders:?}");
    site.leave().await;
}
