//! The ephemeral cluster: databases, a rough stop, and nothing left behind.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tributary_testing::Postgres;

const SOON: Duration = Duration::from_secs(30);

/// What one statement answers, through the client program.
fn ask(url: &str, statement: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-X", "-q", "-A", "-t", "-w", "-d", url, "-c", statement])
        .output()
        .expect("run psql");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

fn port_of(url: &str) -> u16 {
    let (_, rest) = url.rsplit_once(':').expect("a port");
    rest.split('/').next().expect("digits").parse().expect("a number")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_database_is_new_and_durability_is_on() {
    let Some(postgres) = Postgres::shared().expect("start") else { return };
    let (one, two) = (postgres.database().expect("one"), postgres.database().expect("two"));
    assert_ne!(one, two);
    ask(&one, "CREATE TABLE t (x int)").expect("create");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(ask(&one, tables).as_deref(), Ok("1"));
    assert_eq!(ask(&two, tables).as_deref(), Ok("0"));
    if postgres.is_own() {
        assert!(one.starts_with("postgres://tributary@127.0.0.1:"), "{one}");
        assert_eq!(ask(&one, "SHOW fsync").as_deref(), Ok("on"));
        assert_eq!(ask(&one, "SHOW synchronous_commit").as_deref(), Ok("on"));
        assert_eq!(ask(&one, "SHOW listen_addresses").as_deref(), Ok("127.0.0.1"));
    }
}

#[test]
fn a_server_given_by_url_gets_databases_and_loses_them_again() {
    let Some(own) = Postgres::start_own().expect("start") else { return };
    let server = own.database().expect("database");
    let count = "SELECT count(*) FROM pg_database WHERE NOT datistemplate";
    assert_eq!(ask(&server, count).as_deref(), Ok("2"));
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "every_database_is_new_and_durability_is_on"]);
    command.env("TRIBUTARY_TEST_POSTGRES_URL", &server);
    let output = command.output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    wait_until("the databases are dropped", || ask(&server, count).as_deref() == Ok("2"));
}

#[test]
fn committed_rows_survive_an_immediate_stop() {
    let Some(postgres) = Postgres::start_own().expect("start") else { return };
    let url = postgres.database().expect("database");
    ask(&url, "CREATE TABLE t (x int); INSERT INTO t VALUES (7)").expect("write");
    postgres.kill_immediate().expect("kill");
    ask(&url, "SELECT 1").expect_err("nobody serves");
    assert!(postgres.kill_immediate().is_err(), "a stopped server cannot be killed");
    postgres.restart().expect("start again");
    assert_eq!(ask(&url, "SELECT x FROM t").as_deref(), Ok("7"));
    postgres.restart().expect("a running server restarts");
    assert_eq!(ask(&url, "SELECT x FROM t").as_deref(), Ok("7"));
}

#[test]
fn dropping_stops_the_server_and_removes_its_files() {
    let Some(postgres) = Postgres::start_own().expect("start") else { return };
    let url = postgres.database().expect("database");
    let data = PathBuf::from(ask(&url, "SHOW data_directory").expect("folder"));
    assert!(data.is_dir());
    drop(postgres);
    assert!(!data.parent().expect("cluster").exists(), "{} is left", data.display());
    TcpStream::connect(("127.0.0.1", port_of(&url))).expect_err("the port is free");
}

/// Run by the next test in a process of its own, which is then killed.
#[test]
fn started_by_the_killed_process() {
    if std::env::var_os("TRIBUTARY_TESTING_VICTIM").is_none() {
        return;
    }
    let postgres = Postgres::shared().expect("start").expect("programs");
    let url = postgres.database().expect("database");
    let folder = ask(&url, "SHOW data_directory").expect("folder");
    println!("\nvictim {url} {folder}");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_test_process_leaves_no_server_and_no_files() {
    if Postgres::shared().expect("start").is_none() {
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "started_by_the_killed_process", "--nocapture"]);
    command.env("TRIBUTARY_TESTING_VICTIM", "1").env_remove("TRIBUTARY_TEST_POSTGRES_URL");
    let mut victim = command.stdout(Stdio::piped()).spawn().expect("start");
    let line = BufReader::new(victim.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("victim ").map(str::to_owned))
        .expect("the victim speaks");
    let (url, data) = line.split_once(' ').expect("two words");
    let cluster = Path::new(data).parent().expect("cluster").to_owned();
    assert!(cluster.is_dir());
    victim.kill().expect("kill");
    victim.wait().expect("reap");
    wait_until("the folder goes", || !cluster.exists());
    TcpStream::connect(("127.0.0.1", port_of(url))).expect_err("the port is free");
}
