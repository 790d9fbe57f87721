//! The store's contract, run on SQLite and on a real Postgres: one suite, stamped on both.

#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/guards.rs"]
mod guards;
#[path = "store/jobs.rs"]
mod jobs;
#[path = "store/members.rs"]
mod members;
#[path = "store/outcomes.rs"]
mod outcomes;
#[path = "store/races.rs"]
mod races;

/// Stamps every test of the contract on one engine.
macro_rules! contract {
    ($engine:ident: $($module:ident::$test:ident),+ $(,)?) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    if let Some(fixture) = super::fixture::$engine().await {
                        super::$module::$test(&fixture).await;
                        fixture.store.close().await;
                    }
                }
            )+
        }
    };
}

macro_rules! on_both {
    ($($tests:tt)+) => {
        contract!(sqlite: $($tests)+);
        contract!(postgres: $($tests)+);
    };
}

on_both! {
    jobs::creating_is_idempotent,
    jobs::a_whole_job_is_stored_step_by_step,
    jobs::an_unchanged_state_writes_nothing,
    jobs::sums_are_asked_for_and_pooled_before_the_first_round,
    jobs::clients_of_an_older_protocol_are_in_no_roster_of_such_a_job,
    jobs::jobs_are_listed_newest_first_in_pages,
    jobs::a_page_of_rounds_ends_with_a_whole_round,
    jobs::a_refused_change_leaves_no_trace,
    jobs::clients_are_rosters_and_quiet_polls_are_not_written,
    jobs::a_second_agent_of_an_identity_is_refused_and_a_restart_is_not,
    jobs::what_a_driver_waits_for_stands_until_its_next_step,
    jobs::a_failed_task_keeps_its_code,
    outcomes::each_end_writes_its_outcome_beside_the_receipts,
    outcomes::sums_are_settled_before_the_first_round_opens,
    outcomes::an_acceptance_that_meets_a_cancel_is_settled_or_refused,
    races::a_stale_token_cannot_write,
    races::leases_expire_and_owners_take_their_own_back,
    races::a_lease_is_free_once_its_holders_session_is_gone,
    races::hints_reach_other_sessions,
    races::an_acceptance_is_in_the_accepted_set_or_refused,
    races::sums_are_in_the_pool_or_refused,
    races::passes_and_acceptances_take_their_locks_in_one_order,
    races::the_same_update_twice_is_one_row,
    members::one_of_many_at_once_gets_the_token,
    members::a_certificate_ends_with_its_identity_and_begins_anew,
    members::a_revocation_ends_tokens_that_are_under_way,
    members::who_enrolls_anew_need_not_wait_for_who_was_here_before,
    members::the_revoked_and_the_unwilling_are_in_no_roster,
    members::many_writers_make_one_audit_that_nobody_rewrites,
    guards::the_event_chain_is_append_only_and_verified,
    guards::a_corrupt_row_is_an_error_that_names_it,
    guards::refusals_are_kept_newest_first,
    guards::only_final_rounds_are_collected_and_each_of_them_twice,
    guards::a_newer_schema_is_refused,
    guards::a_missing_schema_says_what_to_run,
}

/// The fourth migration makes two of SQLite's tables anew: what stands in them comes along, and what
/// refers to them still does.
#[tokio::test]
async fn rows_survive_the_tables_that_are_made_anew() {
    use sqlx::Connection;
    let mut shell = sqlx::SqliteConnection::connect("sqlite::memory:").await.expect("connect");
    let run = async |shell: &mut sqlx::SqliteConnection, sql: &'static str| {
        sqlx::raw_sql(sql).execute(shell).await.map(|_| ())
    };
    for sql in [
        "PRAGMA foreign_keys = ON",
        include_str!("../../migrations/sqlite/0001_initial.sql"),
        include_str!("../../migrations/sqlite/0002_identity.sql"),
        include_str!("../../migrations/sqlite/0003_replicas.sql"),
        "INSERT INTO jobs (id, name, request_id, spec, spec_digest, data_need, status, clock_ms, \
         checkpoint, result, event_sequence, event_digest, version, created_at_us, updated_at_us) \
         VALUES ('j', 'j', 'r', '', '', '', 'running', 0, '', '', 0, '', 1, 0, 0)",
        "INSERT INTO tasks VALUES ('t', 'j', 'train', 1, 1, 'a', 'accepted', 0, 'i', 3, 4, 'd', 5, \
         'why', 6, 7)",
        "INSERT INTO updates VALUES ('t', 'j', 'train', 1, 'a', 'd', 5, 8, '{}', 2, 9)",
        "BEGIN",
        include_str!("../../migrations/sqlite/0004_statistics.sql"),
        "COMMIT",
    ] {
        run(&mut shell, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let counted = "SELECT (SELECT COUNT(*) FROM tasks WHERE progress_total = 4 AND reason = 'why') \
                   + (SELECT COUNT(*) FROM updates WHERE bytes = 8 AND position = 2)";
    let rows: i64 = sqlx::query_scalar(counted).fetch_one(&mut shell).await.expect("counted");
    assert_eq!(rows, 2);
    run(
        &mut shell,
        "INSERT INTO tasks SELECT 's', job, 'statistics', 0, 1, client, 'offered', 0, \
        NULL, 0, 0, NULL, NULL, NULL, 0, 0 FROM tasks",
    )
    .await
    .expect("a kind that is new");
    let stranger = "INSERT INTO updates VALUES ('x', 'j', 'train', 1, 'a', 'd', 5, 8, '{}', 2, 9)";
    let refused = run(&mut shell, stranger).await.expect_err("no such task").to_string();
    assert!(refused.contains("FOREIGN KEY"), "{refused}");
    let other = "UPDATE tasks SET kind = 'other'";
    let refused = run(&mut shell, other).await.expect_err("no such kind").to_string();
    assert!(refused.contains("CHECK"), "{refused}");
}

/// Receipts of an earlier version get the outcomes that its rows tell.
#[tokio::test]
async fn receipts_of_an_earlier_version_get_their_outcomes() {
    use sqlx::Connection;
    let mut shell = sqlx::SqliteConnection::connect("sqlite::memory:").await.expect("connect");
    let mut sql = [
        include_str!("../../migrations/sqlite/0001_initial.sql"),
        include_str!("../../migrations/sqlite/0002_identity.sql"),
        include_str!("../../migrations/sqlite/0003_replicas.sql"),
        include_str!("../../migrations/sqlite/0004_statistics.sql"),
        include_str!("../../migrations/sqlite/0005_divergence.sql"),
    ]
    .join("\n");
    let jobs = [
        ("going", "running", "NULL"),
        ("done", "completed", "NULL"),
        ("cut", "cancelled", "'cancelled: enough'"),
        ("broken", "failed", "'fold_failed: gone'"),
        ("wild", "failed", "'diverged: round 2: NaN'"),
    ];
    let task = |job: &str, kind: &str, round: u32, accepted: bool| {
        let digest = if accepted { "'d'" } else { "NULL" };
        format!(
            "INSERT INTO tasks (id, job, kind, round, attempt, client, state, lease_until_ms, \
             progress, progress_total, accepted_digest, created_at_us, updated_at_us) VALUES \
             ('{job} {kind} {round} {accepted}', '{job}', '{kind}', {round}, 1, 'a', 'x', 0, 0, \
             0, {digest}, 0, 0);\n"
        )
        .replace("'x'", if accepted { "'accepted'" } else { "'lapsed'" })
    };
    for (job, status, reason) in jobs {
        sql += &format!(
            "INSERT INTO jobs (id, name, request_id, spec, spec_digest, data_need, status, reason, \
             clock_ms, checkpoint, result, event_sequence, event_digest, version, created_at_us, \
             updated_at_us, constants) VALUES ('{job}', 'j', '{job}', '', '', '', '{status}', \
             {reason}, 0, '', '', 0, '', 1, 0, 0, 'c');\n\
             INSERT INTO rounds (job, number, attempt, phase, checkpoint_in, cohort_size, \
             cap_exponent, opened_ms, created_at_us, updated_at_us) VALUES \
             ('{job}', 1, 1, 'missed', '', 1, 1, 0, 0, 0), \
             ('{job}', 1, 2, 'committed', '', 1, 1, 0, 0, 0), \
             ('{job}', 2, 1, 'missed', '', 1, 1, 0, 0, 0);\n"
        );
        sql += &task(job, "statistics", 0, true);
        sql += &task(job, "train", 1, true);
        sql += &task(job, "train", 1, false);
        sql += &task(job, if job == "done" { "evaluate" } else { "train" }, 2, true);
    }
    sql += include_str!("../../migrations/sqlite/0006_outcomes.sql");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut shell).await.expect("migrated");
    let said: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT id, outcome FROM tasks").fetch_all(&mut shell).await.expect("rows");
    assert_eq!(said.len(), 4 * jobs.len());
    for (id, outcome) in said {
        let expected = match id.as_str() {
            _ if id.ends_with("false") => None,
            _ if id.ends_with("statistics 0 true") => Some("pooled"),
            _ if id.ends_with("train 1 true") => Some("folded"),
            "done evaluate 2 true" => Some("scored"),
            "cut train 2 true" => Some("job_cancelled"),
            "broken train 2 true" => Some("job_failed"),
            "wild train 2 true" => Some("diverged"),
            _ => None,
        };
        assert_eq!(outcome.as_deref(), expected, "{id}");
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_sqlite_file_is_refused() {
    let fixture = fixture::sqlite().await.expect("sqlite");
    let error = tributary_coordinator::store::Store::open(&fixture.url)
        .await
        .err()
        .expect("the file is taken")
        .to_string();
    assert!(error.contains("in use by another coordinator"), "{error}");
}
