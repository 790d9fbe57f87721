//! A site's policy, each key of it: kept, told, seen by the operator, and asked again once relaxed.

use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use crate::WEEK_S;
use crate::world::{World, spec, succeed};

/// A policy, and what the operator reads of it.
const REFUSALS: &[(&str, &str)] = &[
    ("[policy]\njobs = [\"study-*\"]\n", "policy.jobs does not name digits"),
    ("[policy]\noperators = [\"operator/otto\"]\n", "policy.operators does not name admin/ada"),
    ("[policy]\nlocal_epochs_max = 1\n", "policy.local_epochs_max is 1, the job asks for 2"),
    ("[policy]\nbatch_size_max = 8\n", "policy.batch_size_max is 8, the job asks for 16"),
    ("[policy]\nparameters_max = 100\n", "policy.parameters_max is 100, the job asks for 650"),
    ("[policy]\nrounds_max = 1\n", "policy.rounds_max is 1, the job asks for 2"),
    ("[policy]\nmin_updates = 5\n", "policy.min_updates is 5, the job's min_updates is 3"),
    ("[policy.data]\ndigits = [\"study-*\"]\n", "policy.data.digits does not name digits"),
];

/// Hours that begin in two and end in three.
fn closed_now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let hour = since.as_secs() / 3600;
    format!("[policy]\nhours_utc = \"{:02}:00-{:02}:00\"\n", (hour + 2) % 24, (hour + 3) % 24)
}

fn replace(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).expect("a file");
    assert!(text.contains(from), "{text}");
    std::fs::write(config, text.replace(from, to)).expect("written");
}

fn refusals(job: &Value) -> Vec<(String, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = job["refusals"].as_array().cloned().unwrap_or_default();
    lines.iter().map(|line| (text(line, "client"), text(line, "reason"))).collect()
}

#[test]
fn each_key_of_a_policy_is_kept_seen_and_asked_again_once_relaxed() {
    let mut world = World::start("policies", None, WEEK_S, "info");
    let sites = REFUSALS.len() + 3;
    for i in 1..=2 {
        world.run_site(i, sites, "");
    }
    let unwilling: Vec<_> =
        (0..REFUSALS.len()).map(|i| world.run_site(i + 3, sites, REFUSALS[i].0)).collect();
    world.run_site(sites, sites, &closed_now());
    world.until("all are there but the one whose hours it is not", || {
        (world.json(&["clients"]).as_array()?.len() == sites - 1).then_some(())
    });
    // Three must train, and two are willing: the job waits, and everybody else was asked once.
    let job = world.submit(&spec(2, 3));
    let refused = world.until("all have refused", || {
        let found = refusals(&world.json(&["status", &job]));
        (found.len() == REFUSALS.len()).then_some(found)
    });
    for (i, (text, reason)) in REFUSALS.iter().enumerate() {
        let expected = (format!("site-{}", i + 3), (*reason).to_owned());
        assert!(refused.contains(&expected), "{text}: {refused:?}");
    }
    let shown = succeed(world.tributary(&["status", &job], "ada", 0));
    for (_, reason) in REFUSALS {
        assert!(shown.contains(reason), "{reason} is missing in {shown}");
    }
    assert_ne!(world.json(&["status", &job])["status"], "completed");
    let closed = format!("site-{sites}");
    let clients = world.json(&["clients"]).to_string();
    assert!(!clients.contains(&closed), "outside its hours a site asks for nothing: {clients}");

    // One site thinks better of it: a restart asks for what it had refused.
    world.clients[4].sigkill().expect("killed");
    replace(&unwilling[2], "local_epochs_max = 1", "local_epochs_max = 2");
    world.start_site(&unwilling[2]);
    assert_eq!(world.completed(&job)["status"], "completed");
    let done = world.json(&["status", &job]);
    let left = refusals(&done);
    assert!(
        left.len() == REFUSALS.len() - 1 && left.iter().all(|(site, _)| site != "site-5"),
        "{left:?}"
    );
    let round = world.json(&["round", &job, "2"]).to_string();
    assert!(round.contains("site-5"), "it trained: {round}");
}

#[test]
fn a_job_reads_the_data_set_that_is_for_it() {
    let mut world = World::start("data-sets", None, WEEK_S, "info");
    for i in 1..=2 {
        let config = world.enroll_site(i, 2, "");
        // The same files under two names.
        let text = std::fs::read_to_string(&config).expect("a file");
        let (head, set) = text.split_once("[data]\n").expect("a data set");
        let other = set.replace("\"digits\"", "\"trial\"");
        let policy = "[policy.data]\ntrial = [\"digits\"]\ndigits = [\"study-*\"]\n";
        let text = format!("{head}[[data]]\n{set}[[data]]\n{other}{policy}");
        std::fs::write(&config, text).expect("written");
        world.start_site(&config);
    }
    let job = world.submit(&spec(1, 2));
    assert_eq!(world.completed(&job)["status"], "completed", "the one that its policy opens");
    let named = spec(1, 2).replace("classes = 10", "classes = 10\nname = \"digits\"");
    let named = world.submit(&named.replace("seed = 11", "seed = 12"));
    let refused = world.until("both refuse the other", || {
        let found = refusals(&world.json(&["status", &named]));
        (found.len() == 2).then_some(found)
    });
    let expected = "policy.data.digits does not name digits";
    assert!(refused.iter().all(|(_, reason)| reason == expected), "{refused:?}");
    let clients = world.json(&["clients"]);
    assert_eq!(clients[0]["bindings"].as_array().map(Vec::len), Some(2), "{clients}");
}

#[test]
fn sums_over_few_rows_stay_at_the_site_and_count_as_absent() {
    let mut world = World::start("floor", None, WEEK_S, "info");
    let floor = "[policy]\nstatistics_min_examples = 1000\n";
    world.run_site(1, 3, "");
    let small = world.run_site(2, 3, floor);
    // 200 rows to score, and nothing else: what the coordinator does not know it does not ask for.
    world.run_site(0, 3, floor);
    let clients = world.until("all three are there", || {
        let clients = world.json(&["clients"]);
        (clients.as_array()?.len() == 3).then_some(clients)
    });
    let told = |i: usize, key: &str| clients[i]["bindings"][0][key].as_u64();
    assert_eq!(told(0, "evaluate_examples"), Some(0), "{clients}");
    assert_eq!(told(1, "train_examples"), Some(240), "{clients}");
    assert_eq!(told(2, "train_examples"), Some(1000), "the floor: {clients}");
    let job = world.submit(&spec(2, 2));
    let done = world.completed(&job);
    assert_eq!(done["status"], "completed", "{done:#}");
    assert!(done["evaluation"].is_null(), "{done:#}");
    for round in ["1", "2"] {
        let round = world.json(&["round", &job, round]);
        let metrics = &round["train_metrics"];
        assert_eq!(metrics["examples"], 240, "site-1's alone: {metrics}");
        assert_eq!(metrics["withheld"], 1, "{metrics}");
        assert_eq!(round["examples"], 480, "the weights of the mean are not withheld");
    }
    let mut ledger = world.client(&["ledger"], &small);
    ledger.args(["--output", "json"]);
    let lines = succeed(ledger);
    let updates: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|line| line["what"] == "update")
        .collect();
    assert_eq!(updates.len(), 2);
    assert!(updates.iter().all(|line| line["privacy"] == "statistics_withheld"), "{updates:?}");
    for client in &mut world.clients {
        assert!(client.is_running().expect("asked"));
        let lines = client.lines();
        assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:?}");
    }
}
