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

use std::path::Path;

use tributary_testing::Postgres;
use world::{World, binary, certificates, fail, spec, succeed};

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
        command.args(["--output", "json"]);
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
    told.args(["--output", "json"]);
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
    let table = succeed(world.tributary(&["audit"], "ada", 0));
    assert!(table.contains("token_created") && table.contains("client/site-1"), "{table}");
}

#[test]
fn a_second_agent_is_refused_while_the_first_works_and_a_restart_is_not() {
    let mut world = World::start("twice", None, WEEK_S, "info");
    let config = world.run_site(1, 1, "");
    world.until("the site is there", || {
        let clients = world.json(&["clients"]);
        (clients.as_array().map(Vec::len) == Some(1)).then_some(())
    });
    // Its identity, copied to another machine.
    let elsewhere = config.with_file_name("elsewhere");
    std::fs::create_dir_all(elsewhere.join("identity")).expect("a folder");
    let key = "identity/identity.pem";
    let state = config.with_file_name("state");
    std::fs::copy(state.join(key), elsewhere.join(key)).expect("copied");
    let text = std::fs::read_to_string(&config).expect("a file");
    let other = config.with_file_name("other.toml");
    let text = text.replace("state_dir = \"state\"", "state_dir = \"elsewhere\"");
    std::fs::write(&other, text).expect("written");
    let command = world.client(&["run"], &other);
    world.clients.push(tributary_testing::Process::spawn(command).expect("spawn"));
    let patience = std::time::Duration::from_secs(60);
    let said = world.clients[1].wait_for_line("another agent with this identity", patience);
    said.expect("the second one is told why");
    // The first one is killed and started again: it is at work at once, and the second one is not.
    world.clients[0].sigkill().expect("killed");
    let command = world.client(&["run"], &config);
    world.clients[0] = tributary_testing::Process::spawn(command).expect("spawn");
    let job = world.submit(&spec(2, 1));
    assert_eq!(world.completed(&job)["status"], "completed");
    assert!(world.clients[0].lines().iter().any(|line| line.contains("receipt")));
    assert!(!world.clients[1].lines().iter().any(|line| line.contains("receipt")));
    let audit = world.json(&["audit", "list", "--last", "0"]);
    let lines = audit.as_array().expect("lines");
    let noticed = lines.iter().find(|line| line["action"] == "identity_in_use").expect("audited");
    assert_eq!(noticed["actor"], "client/site-1");
}

#[test]
fn a_job_whose_rounds_span_renewals_loses_none_of_them() {
    let result = |name: &str, ttl_s: u32| {
        let mut world = World::start(name, None, ttl_s, "info");
        let sites: Vec<_> = (1..=2).map(|i| world.run_site(i, 2, "")).collect();
        let identity = sites[0].with_file_name("state").join("identity/identity.pem");
        let first = certificates(&identity);
        // With certificates of a drill, jobs are done until one of them has seen a renewal.
        let mut results = Vec::new();
        loop {
            let before = certificates(&identity);
            let job = world.submit(&spec(4, 2));
            let done = world.completed(&job);
            assert_eq!(done["status"], "completed");
            assert_eq!(done["rounds_committed"], 4);
            let rounds = world.json(&["rounds", &job]);
            let whole = |round: &serde_json::Value| round["updates"] == 2 && round["attempt"] == 1;
            assert!(rounds.as_array().expect("rounds").iter().all(whole), "{rounds:#}");
            results.push(done["result_digest"].as_str().expect("a digest").to_owned());
            let renewed = certificates(&identity)[0] != before[0];
            if ttl_s == WEEK_S || renewed {
                break;
            }
        }
        assert_eq!(certificates(&identity)[0] != first[0], ttl_s == DRILL_S);
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        results.remove(0)
    };
    assert_eq!(result("spans", DRILL_S), result("undisturbed", WEEK_S));
}

#[test]
fn an_authority_that_is_there_already_is_taken_over() {
    let mut world = World::start("import", None, WEEK_S, "info");
    let (certificate, key) = (world.path("ca/current.pem"), world.path("ca/current.key"));
    let taken = world.path("taken");
    let import = |certificate: &Path, key: &Path| {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let args = ["ca", "init", "--federation", "hospitals", "--import", &certificate];
        let mut command = world.coordinator(&args, 1);
        command.args(["--import-key", &key]).env("TRIBUTARY__CA_DIR", &taken);
        command
    };
    let stranger = world.path("ada").join("identity.pem");
    let error = fail(import(&certificate, &stranger));
    assert!(error.contains("belong together"), "{error}");
    let told = succeed(import(&certificate, &key));
    let shown = succeed(world.coordinator(&["ca", "show"], 0));
    assert_eq!(told, shown, "the same authority, and the same fingerprint");
    use std::os::unix::fs::PermissionsExt;
    let mode = taken.join("current.key").metadata().expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = fail(import(&certificate, &key));
    assert!(again.contains("never remade"), "{again}");
    // A coordinator that serves with it lets in whom the other one let in.
    world.coordinators[0].sigkill().expect("killed");
    std::fs::rename(world.path("ca"), world.path("lost")).expect("lost");
    std::fs::rename(&taken, world.path("ca")).expect("the imported one in its place");
    world.restart_coordinator(0);
    world.json(&["status"]);
}

/// A service's shell command, as docker-compose.yml has it, with its folders elsewhere.
fn compose_command(service: &str, folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let compose = std::fs::read_to_string(root.join("docker-compose.yml")).expect("a file");
    let service = compose.split(&format!("\n  {service}:")).nth(1).expect("the service");
    let command = service.split("      - >-\n").nth(1).expect("its command");
    let command = command.split("\n    depends_on:").next().expect("its end");
    let folded: Vec<&str> = command.lines().map(str::trim).collect();
    let command = folded.join(" ").replace("$$", "$");
    // Longer paths first: one is the beginning of the others.
    ["/var/lib/tributary-tokens", "/var/lib/tributary-site", "/var/lib/tributary"]
        .iter()
        .zip(["tokens", "state", ""])
        .fold(command, |command, (from, to)| {
            command.replace(from, folder.join(to).to_str().expect("a path").trim_end_matches('/'))
        })
}

#[test]
fn the_compose_file_s_setup_makes_authority_and_token_once() {
    let Some(postgres) = Postgres::shared().expect("postgres") else { return };
    let database = postgres.database().expect("a database");
    let dir = tempfile::tempdir().expect("a folder");
    let in_its_place = |mut command: std::process::Command| {
        command.env("TRIBUTARY__DATABASE_URL", &database).env("NO_COLOR", "1");
        command.env("TRIBUTARY__DATA_DIR", dir.path()).env("TRIBUTARY_FEDERATION", "local");
        command
    };
    let script = compose_command("setup", dir.path());
    let setup = || {
        let binaries = binary("tributary-coordinator").parent().expect("a folder").to_owned();
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-euc", &script]).env("PATH", binaries);
        succeed(in_its_place(command))
    };
    let token = || std::fs::read_to_string(dir.path().join("admin.token")).expect("a token");
    let made = setup();
    assert!(made.contains("federation local"), "{made}");
    let first = token();
    assert_eq!(setup(), made, "the same authority");
    assert_ne!(token(), first, "nobody has used the first one: a fresh one stands in its place");
    let port = tributary_testing::free_port().expect("a port");
    let mut serve = std::process::Command::new(binary("tributary-coordinator"));
    serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    let coordinator = tributary_testing::Process::spawn(in_its_place(serve)).expect("spawn");
    let patience = std::time::Duration::from_secs(60);
    coordinator.wait_for_line("serving", patience).expect("it serves");
    let mut enroll = std::process::Command::new(env!("CARGO_BIN_EXE_tributary"));
    enroll.args(["enroll", "--coordinator", &format!("https://localhost:{port}")]);
    enroll.arg("--token-file").arg(dir.path().join("admin.token"));
    enroll.arg("--identity").arg(dir.path().join("ada"));
    assert!(succeed(enroll).contains("spiffe://local/admin/admin"));
    let used = token();
    // A site's container, twice: enrolled once, and at work each time.
    let site = dir.path().join("site");
    std::fs::create_dir_all(&site).expect("a folder");
    let state = dir.path().join("state");
    let sample = include_str!("../../docs/samples/site-compose.toml");
    let file = sample.replace("coordinator:7443", &format!("localhost:{port}"));
    let file = file.replace("/var/lib/tributary-site", state.to_str().expect("a path"));
    std::fs::write(site.join("client.toml"), file).expect("written");
    std::fs::write(site.join("rows.csv"), "age,sick\n50,1\n61,0\n").expect("written");
    let script = compose_command("site-a", dir.path());
    let script = script.replace("coordinator:7443", &format!("localhost:{port}"));
    let script = script.replace("/site/", &format!("{}/", site.display()));
    for _ in 0..2 {
        let binaries = binary("tributary-client").parent().expect("a folder").to_owned();
        let mut command = std::process::Command::new("/bin/sh");
        let path = format!("{}:/usr/bin:/bin", binaries.display());
        command.args(["-euc", &script]).env("PATH", path).env("TRIBUTARY_SITE", "site-a");
        let agent = tributary_testing::Process::spawn(command).expect("spawn");
        agent.wait_for_line("started", patience).expect("it works");
    }
    let enrolled = std::fs::read_to_string(state.join("identity/identity.pem")).expect("a key");
    assert!(enrolled.contains("BEGIN CERTIFICATE"));
    let tokens = || {
        ["site-a", "site-b"].map(|site| {
            std::fs::read_to_string(dir.path().join(format!("tokens/{site}.token"))).expect("made")
        })
    };
    let before = tokens();
    assert_eq!(setup(), made, "a later start leaves who is enrolled as they are");
    assert_eq!(token(), used);
    assert_eq!(tokens()[0], before[0]);
    assert_ne!(tokens()[1], before[1], "nobody has used this one");
}

#[test]
fn an_external_authority_s_agent_works_until_it_is_revoked() {
    use tributary_client::identity::{Credential, Request};
    use tributary_coordinator::authority::{Authority, der_of, init};
    use tributary_core::identity::Role;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut world = World::start("external", None, WEEK_S, "info");
    let theirs = world.path("theirs");
    init(&theirs, &"hospitals".parse().expect("a name"), None).expect("made");
    std::fs::copy(theirs.join("current.pem"), world.path("ca/external.pem")).expect("trusted");
    let authority = Authority::load(&theirs).expect("read").expect("there");
    // What the external authority hands out: a certificate, and its key, as files.
    let given = |name: &str| {
        let request = Request::new().expect("a key");
        let (name, now) = (name.parse().expect("a name"), std::time::SystemTime::now());
        let day = std::time::Duration::from_secs(86_400);
        let signed = authority.sign_at(&request.csr, (Role::Client, &name), now, day);
        let der = der_of(&signed.expect("signed").der).expect("hex");
        let trusted = authority.trusted().iter().map(|ca| ca.to_vec()).collect();
        let folder = world.path(&format!("given-{name}"));
        let credential = Credential::given(&request, der, trusted).expect("a credential");
        // One file has both, key first, and the importer takes from it what it is asked for.
        credential.save(&folder).expect("saved")
    };
    let (files, other) = (given("site-1"), given("site-2"));
    let config = crate::site::write(&world.path(""), 1, 1, &world.at(0));
    let trust = world.path("ca/current.pem");
    let import = |files: &Path| {
        let mut command = world.client(&["identity", "import"], &config);
        command.arg("--certificate").arg(files).arg("--key").arg(files);
        command.arg("--trust").arg(&trust);
        command
    };
    let error = fail(import(&other));
    assert!(error.contains("spiffe://hospitals/client/site-2"), "{error}");
    succeed(import(&files));
    let command = world.client(&["run"], &config);
    world.clients.push(tributary_testing::Process::spawn(command).expect("spawn"));
    let job = world.submit(&spec(2, 1));
    assert_eq!(world.completed(&job)["status"], "completed");
    // Its long poll is cut, and it is told why when it comes again.
    succeed(world.tributary(&["client", "revoke", "site-1"], "ada", 0));
    let patience = std::time::Duration::from_secs(60);
    world.clients[0].wait_for_line("was revoked", patience).expect("it says why it ends");
    let said = world.coordinators[0].lines();
    assert!(said.iter().any(|line| line.contains("good no longer")), "{said:?}");
}
