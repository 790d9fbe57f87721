//! A federation with certificates, every part of it a process of the built binaries: set up, renewed,
//! rotated, refused, revoked, and silent about its secrets.

#[path = "secure/canary.rs"]
mod canary;
#[path = "secure/policies.rs"]
mod policies;
#[path = "secure/proxy.rs"]
mod proxy;
#[path = "federation/site.rs"]
mod site;
#[path = "secure/world.rs"]
mod world;

use tributary_testing::Postgres;
use world::{World, certificates, fail, spec, succeed};

/// Long enough that nothing is renewed during a test.
const WEEK_S: u32 = 604_800;
/// The shortest that may be set: certificates are renewed every six or seven seconds.
const DRILL_S: u32 = 10;

#[test]
fn beyond_loopback_nothing_is_served_without_an_authority() {
    let world = World::start("refuses", None, WEEK_S, "info");
    let mut command = world.coordinator(&["serve", "--listen", "0.0.0.0:0"], 1);
    command.env("TRIBUTARY__CA_DIR", world.path("no-ca"));
    let error = fail(command);
    assert!(error.contains("no loopback address") && error.contains("ca init"), "{error}");
    let again = fail(world.coordinator(&["ca", "init"], 0));
    assert!(again.contains("never remade"), "{again}");
    let kept = succeed(world.coordinator(&["ca", "init", "--keep"], 0));
    assert!(kept.contains("federation hospitals"), "{kept}");
}

#[test]
fn certificates_renew_and_the_authority_rotates_under_a_running_federation() {
    let mut world = World::start("rotates", None, DRILL_S, "info");
    let sites: Vec<_> = (1..=2).map(|i| world.run_site(i, 2, "")).collect();
    let identity = sites[0].with_file_name("state").join("identity/identity.pem");
    // The operator's own certificate is renewed by its calls, so it looks while it waits.
    let look = |world: &World| {
        world.json(&["status"]);
        certificates(&identity)
    };
    let first = certificates(&identity);
    assert_eq!(first.len(), 2, "its own, and one authority");
    world.until("the client renews", || (look(&world)[0] != first[0]).then_some(()));

    succeed(world.coordinator(&["ca", "rotate"], 0));
    world.until("the client trusts both", || (look(&world).len() == 3).then_some(()));
    let job = world.submit(&spec(2, 2));
    assert_eq!(world.completed(&job)["status"], "completed", "while two are trusted");

    let early = fail(world.coordinator(&["ca", "retire"], 0));
    assert!(early.contains("promote"), "{early}");
    succeed(world.coordinator(&["ca", "promote"], 0));
    let renewed = look(&world)[0].clone();
    let promoted = |found: &Vec<String>| found[0] != renewed && found[1] != first[1];
    world.until("the new one signs", || promoted(&look(&world)).then_some(()));
    let job = world.submit(&spec(2, 2));
    assert_eq!(world.completed(&job)["status"], "completed", "after the promotion");

    succeed(world.coordinator(&["ca", "retire"], 0));
    world.until("the first one is forgotten", || {
        let found = look(&world);
        (found.len() == 2 && found[1] != first[1]).then_some(())
    });
    let job = world.submit(&spec(2, 2));
    assert_eq!(world.completed(&job)["status"], "completed", "with the new one alone");
    for client in &mut world.clients {
        assert!(client.is_running().expect("asked"), "no client was started again");
    }
    let audit = world.json(&["audit", "list", "--last", "0"]);
    let changes = audit.as_array().expect("lines").iter();
    let changes = changes.filter(|line| line["action"] == "authority_changed").count();
    assert!(changes >= 3, "each step is in the audit");
}

#[test]
fn a_site_s_no_is_told_seen_and_final_and_its_ledger_tells_what_left() {
    let mut world = World::start("policy", None, WEEK_S, "info");
    let willing: Vec<_> = (1..=2).map(|i| world.run_site(i, 3, "")).collect();
    let unwilling = world.run_site(3, 3, "[policy]\nlocal_epochs_max = 1\n");
    world.until("all three are there", || {
        let clients = world.json(&["clients"]);
        (clients.as_array().map(Vec::len) == Some(3)).then_some(())
    });
    let job = world.submit(&spec(3, 2));
    let done = world.completed(&job);
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["submitted_by"], "admin/ada");
    let refusals = done["refusals"].as_array().expect("a list");
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0]["client"], "site-3");
    let reason = refusals[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("local_epochs_max is 1") && reason.contains("asks for 2"), "{reason}");
    let told = succeed(world.tributary(&["status", &job], "ada", 0));
    assert!(told.contains("refused by") && told.contains("site-3"), "{told}");
    let asked: usize = (1..=3)
        .map(|round| {
            let round = world.json(&["round", &job, &round.to_string()]);
            let tasks = round["round"]["tasks"].as_array().cloned().unwrap_or_default();
            tasks.iter().filter(|task| task["client"] == "site-3").count()
        })
        .sum();
    assert!(asked <= 1, "it was asked once, and never again: {asked}");

    let rounds = |config| {
        let mut command = world.client(&["ledger"], config);
        command.arg("--json");
        let lines = succeed(command);
        let rounds: Vec<u64> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .filter(|line| line["what"] == "update")
            .inspect(|line| {
                assert_eq!((&line["job"], &line["privacy"]), (&job.as_str().into(), &"none".into()))
            })
            .filter_map(|line| line["round"].as_u64())
            .collect();
        rounds
    };
    let of_willing: usize = willing.iter().map(|config| rounds(config).len()).sum();
    assert_eq!(of_willing, 6, "two updates a round");
    assert_eq!(rounds(&unwilling), Vec::<u64>::new(), "no update left the unwilling site");
    let mut told = world.client(&["ledger"], &unwilling);
    told.arg("--json");
    let told: Vec<String> = succeed(told)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|line| format!("{} {}", line["what"], line["detail"]))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("offer") && told[0].contains("train_examples"), "{told:?}");
    assert!(told[1].contains("reason") && told[1].contains("local_epochs_max is 1"), "{told:?}");
    let shown = succeed(world.client(&["ledger"], &willing[0]));
    assert!(shown.contains("the chain holds"), "{shown}");
    let ledger = willing[0].with_file_name("state").join("ledger.jsonl");
    let changed = std::fs::read_to_string(&ledger).expect("a ledger").replacen(
        "\"round\":2",
        "\"round\":3",
        1,
    );
    std::fs::write(&ledger, changed).expect("changed");
    let error = fail(world.client(&["ledger"], &willing[0]));
    assert!(error.contains("does not follow"), "{error}");
}

#[test]
fn a_revocation_reaches_every_replica() {
    let Some(postgres) = Postgres::shared().expect("postgres") else { return };
    let database = postgres.database().expect("a database");
    let mut world = World::start("replicas", Some(database), WEEK_S, "info");
    world.add_coordinator();
    // Two agents at the first replica; operator otto at the second.
    for i in 1..=2 {
        world.run_site(i, 2, "");
    }
    let created = world.json(&["token", "create", "--name", "otto", "--role", "operator"]);
    let mut enroll = world.tributary(&["enroll"], "otto", 1);
    enroll.env("TRIBUTARY_TOKEN", created["token"].as_str().expect("a token"));
    succeed(enroll);
    succeed(world.tributary(&["status"], "otto", 1));
    let denied = fail(world.tributary(&["token", "create", "--name", "x"], "otto", 1));
    assert!(denied.contains("may not call"), "{denied}");

    // Said at the second replica, felt at the first: the agent's long poll is cut, and it ends.
    let revoke = ["client", "revoke", "site-1", "--reason", "stolen"];
    let said = succeed(world.tributary(&revoke, "ada", 1));
    assert!(said.contains("client/site-1 is cut off; 1 of its certificates"), "{said}");
    let refused = world.clients[0].wait_for_line("was revoked", std::time::Duration::from_secs(60));
    refused.expect("the agent says why it ends");
    // And the other way round, with an operator.
    succeed(world.tributary(&["identities", "--revoke", "operator/otto"], "ada", 0));
    world.until("otto is out at the second replica", || {
        let output = world.tributary(&["status"], "otto", 1).output().expect("it runs");
        (!output.status.success()).then_some(())
    });
    assert!(world.clients[1].is_running().expect("asked"), "the others notice nothing");
    let verified = world.json(&["audit", "verify"]);
    assert!(verified["lines"].as_u64() >= Some(8), "one chain over both: {verified}");
}

#[test]
fn the_audit_can_be_taken_home_and_held_against_the_coordinator() {
    let world = World::start("audit", None, WEEK_S, "info");
    let exported = world.path("audit.jsonl");
    let lines = succeed(world.tributary(&["audit", "export"], "ada", 0));
    std::fs::write(&exported, &lines).expect("written");
    world.json(&["token", "create", "--name", "site-1"]);
    let exported = exported.display().to_string();
    let against = ["audit", "verify", "--against", &exported];
    let verified = world.json(&against);
    assert_eq!(verified["lines"].as_u64(), Some(lines.lines().count() as u64 + 1));
    std::fs::write(&exported, lines.replacen("ada", "eve", 1)).expect("written");
    let error = fail(world.tributary(&against, "ada", 0));
    assert!(error.contains("was rewritten"), "{error}");
    let table = succeed(world.tributary(&["audit", "list"], "ada", 0));
    assert!(table.contains("token_created") && table.contains("client/site-1"), "{table}");
}
