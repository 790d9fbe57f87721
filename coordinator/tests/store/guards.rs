//! What the database itself refuses, and what the store makes of rows and schemas that are not ours.

use sqlx::{AssertSqlSafe, Connection};
use tributary_coordinator::store::{RejectionRow, StoreError};
use tributary_core::digest::Digest;

use crate::fixture::{Fixture, hello};

/// Runs a statement as somebody with a database shell would.
pub(crate) async fn tamper(fixture: &Fixture, sql: &str) -> Result<(), sqlx::Error> {
    let sql = AssertSqlSafe(sql.to_owned());
    if fixture.url.starts_with("sqlite") {
        let mut shell = sqlx::SqliteConnection::connect(&fixture.url).await?;
        sqlx::query(sql).execute(&mut shell).await?;
        shell.close().await
    } else {
        let mut shell = sqlx::PgConnection::connect(&fixture.url).await?;
        sqlx::query(sql).execute(&mut shell).await?;
        shell.close().await
    }
}

pub(crate) async fn the_event_chain_is_append_only_and_verified(fixture: &Fixture) {
    let job = fixture.job("chain").await;
    fixture.settle(&job, 10).await;
    assert_eq!(fixture.store.verify_events(&job).await.expect("verify"), None);
    for sql in ["UPDATE events SET detail = 'x'", "DELETE FROM events WHERE sequence = 2"] {
        let error = tamper(fixture, sql).await.expect_err("append-only").to_string();
        assert!(error.contains("append-only"), "{error}");
    }
    let drop = match fixture.url.starts_with("sqlite") {
        true => "DROP TRIGGER events_are_not_changed",
        false => "DROP TRIGGER events_are_not_changed ON events",
    };
    tamper(fixture, drop).await.expect("a determined administrator");
    tamper(fixture, "UPDATE events SET detail = 'x' WHERE sequence = 2").await.expect("changed");
    assert_eq!(fixture.store.verify_events(&job).await.expect("verify"), Some(2));
}

pub(crate) async fn a_corrupt_row_is_an_error_that_names_it(fixture: &Fixture) {
    let job = fixture.job("corrupt").await;
    tamper(fixture, "UPDATE jobs SET checkpoint = 'sha256:none'").await.expect("changed");
    let error = fixture.store.job(&job).await.expect_err("corrupt");
    assert!(
        matches!(&error, StoreError::Corrupt { table: "jobs", column: "checkpoint", .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(job.as_str()), "{error}");
    let word = tamper(fixture, "UPDATE jobs SET status = 'lost'").await;
    assert!(word.is_err(), "the schema refuses a word that is none");
}

pub(crate) async fn refusals_are_kept_newest_first(fixture: &Fixture) {
    let job = fixture.job("refusals").await;
    for code in ["first", "second"] {
        let row = RejectionRow {
            job: Some(job.clone()),
            round: 1,
            client: hello(0).name,
            code: code.to_owned(),
            detail: "x".repeat(10_000),
            at_us: 0,
        };
        fixture.store.record_rejection(&row).await.expect("recorded");
    }
    let rows = fixture.store.rejections(&job, 10).await.expect("rows");
    assert_eq!(rows.iter().map(|r| r.code.as_str()).collect::<Vec<_>>(), ["second", "first"]);
    assert_eq!(rows[0].detail.len(), 500, "a hostile sentence is cut");
    assert!(rows[0].at_us > 0);
}

pub(crate) async fn a_newer_schema_is_refused(fixture: &Fixture) {
    tamper(fixture, "UPDATE _sqlx_migrations SET version = 999 WHERE version = 1")
        .await
        .expect("changed");
    for error in [fixture.store.check_schema().await, fixture.store.migrate().await] {
        let error = error.expect_err("newer").to_string();
        assert!(error.contains("newer than this version"), "{error}");
    }
}

pub(crate) async fn a_missing_schema_says_what_to_run(fixture: &Fixture) {
    tamper(fixture, "DELETE FROM _sqlx_migrations").await.expect("changed");
    let error = fixture.store.check_schema().await.expect_err("older").to_string();
    assert!(error.contains("tributary-coordinator migrate"), "{error}");
}

pub(crate) async fn only_final_rounds_are_collected_and_each_of_them_twice(fixture: &Fixture) {
    use std::time::Duration;
    use tributary_core::round::Event;
    let due = |grace| fixture.store.rounds_to_collect(grace);
    let job = fixture.job("collected").await;
    let tasks = crate::fixture::open_tasks(&fixture.settle(&job, 10).await);
    fixture.accept(&tasks[0], Digest::of(b"0")).await.expect("accept");
    fixture.accept(&tasks[1], Digest::of(b"1")).await.expect("accept");
    assert_eq!(due(Duration::ZERO).await.expect("store"), [], "it trains: receipts were given");
    fixture.event(&job, 100_010, Event::Tick { roster: None }).await.expect("close");
    assert_eq!(due(Duration::ZERO).await.expect("store"), [], "it is being folded");
    let folded = Event::Folded(crate::fixture::facts(1));
    fixture.event(&job, 100_020, folded).await.expect("commit");
    let first = due(Duration::from_secs(60)).await.expect("store");
    assert_eq!(first.iter().map(|r| (r.number, r.again)).collect::<Vec<_>>(), [(1, false)]);
    fixture.store.round_collected(&first[0]).await.expect("store");
    assert_eq!(due(Duration::from_secs(60)).await.expect("store"), [], "not again so soon");
    let last = due(Duration::ZERO).await.expect("store");
    assert_eq!(last.iter().map(|r| (r.number, r.again)).collect::<Vec<_>>(), [(1, true)]);
    fixture.store.round_collected(&last[0]).await.expect("store");
    assert_eq!(due(Duration::ZERO).await.expect("store"), [], "done");
    // A job that ends leaves no round behind.
    fixture.settle(&job, 100_030).await;
    let reason = "enough".to_owned();
    fixture.event(&job, 100_040, Event::Cancel { reason }).await.expect("cancel");
    let ended = due(Duration::ZERO).await.expect("store");
    assert_eq!(ended.iter().map(|r| r.number).collect::<Vec<_>>(), [2]);
}
