//! Secrets, planted and looked for in everything that any process says, at trace level.

use std::path::Path;

use tributary_testing::Postgres;

use crate::DRILL_S;
use crate::world::{World, certificates, fail, spec, succeed};

/// A password of a database that is nobody's.
const PASSWORD: &str = "hunter2-of-the-database";

/// The lines of a private key that tell it.
fn key(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("a key");
    let key = text.split("PRIVATE KEY-----").nth(1).expect("a key").trim().to_owned();
    key.lines().filter(|line| line.len() == 64).map(str::to_owned).collect()
}

/// A token's secret as text, and as the numbers of a byte string's debug form.
fn secret(token: &str) -> [String; 2] {
    let secret = token.split('_').nth(2).expect("a secret").to_owned();
    assert_eq!(secret.len(), 64);
    let byte = |i: usize| u8::from_str_radix(&secret[2 * i..2 * i + 2], 16).expect("hex");
    let numbers: Vec<String> = (0..8).map(|i| byte(i).to_string()).collect();
    [numbers.join(", "), secret]
}

/// A URL of the same database with a password in it, which a cluster that trusts this machine ignores.
fn with_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (user, place) = rest.split_once('@').unwrap_or(("postgres", rest));
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:{PASSWORD}@{place}")
}

#[test]
fn no_secret_is_ever_said_even_at_trace_level() {
    let postgres = Postgres::shared().expect("postgres");
    let database = postgres.map(|postgres| postgres.database().expect("a database"));
    let database = database.map(|url| with_password(&url));
    let has_database = database.is_some();
    let mut world = World::start("canary", database, DRILL_S, "trace");
    let configs: Vec<_> = (1..=2).map(|i| world.run_site(i, 2, "")).collect();
    let identity = configs[0].with_file_name("state").join("identity/identity.pem");
    let files = [identity.clone(), world.path("ada").join("identity.pem")];
    // Keys before and after a renewal: each is a new one.
    let mut canaries: Vec<String> = files.iter().flat_map(|file| key(file)).collect();
    let first = certificates(&identity);
    let job = world.submit(&spec(2, 2));
    assert_eq!(world.completed(&job)["status"], "completed");
    world.until("a renewal", || {
        world.json(&["status"]);
        (certificates(&identity)[0] != first[0]).then_some(())
    });
    canaries.extend(files.iter().flat_map(|file| key(file)));
    canaries.extend(key(&world.path("ca/current.key")));
    // A token that is refused is as secret as one that is good.
    let token = world.secrets[1].clone();
    let mut again = world.client(&["enroll", &world.at(0)], &configs[1]);
    again.args(["--token", &token]);
    fail(again);
    let mut from_file = world.client(&["enroll", &world.at(0)], &configs[1]);
    let file = world.path("token");
    std::fs::write(&file, &token).expect("written");
    fail({
        from_file.arg("--token-file").arg(&file);
        from_file
    });
    succeed(world.coordinator(&["check-config"], 0));
    canaries.extend(world.secrets.iter().flat_map(|token| secret(token)));
    if has_database {
        canaries.push(PASSWORD.to_owned());
    }
    assert!(canaries.len() >= 12, "{} canaries", canaries.len());
    let said = world.said();
    assert!(said.len() > 1000, "trace says much: {}", said.len());
    for part in ["enrolled", "TRACE", "token"] {
        assert!(said.iter().any(|line| line.contains(part)), "{part} was never said");
    }
    for canary in &canaries {
        let line = said.iter().find(|line| line.contains(canary.as_str()));
        assert!(line.is_none(), "a secret was said: {line:?}");
    }
}
