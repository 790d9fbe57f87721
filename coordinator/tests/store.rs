//! The store's contract, run on SQLite and on a real Postgres: one suite, stamped on both.

#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/guards.rs"]
mod guards;
#[path = "store/jobs.rs"]
mod jobs;
#[path = "store/members.rs"]
mod members;
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
    jobs::jobs_are_listed_newest_first_in_pages,
    jobs::a_refused_change_leaves_no_trace,
    jobs::clients_are_rosters_and_quiet_polls_are_not_written,
    jobs::a_second_agent_of_an_identity_is_refused_and_a_restart_is_not,
    races::a_stale_token_cannot_write,
    races::leases_expire_and_owners_take_their_own_back,
    races::a_lease_is_free_once_its_holders_session_is_gone,
    races::hints_reach_other_sessions,
    races::an_acceptance_is_in_the_accepted_set_or_refused,
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
