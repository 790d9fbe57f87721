//! The walls and manners of the house, asserted over the whole tree.

use std::sync::OnceLock;

use xtask::tidy::{Finding, Tree, manners, migrations, packages, shape, source, walls};

/// Fewer sources than this are some other tree.
const SOURCES_MIN: usize = 50;

fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    let tree = TREE.get_or_init(|| Tree::read(&xtask::root()).expect("read the tree"));
    assert!(tree.sources.len() > SOURCES_MIN, "only {} sources", tree.sources.len());
    tree
}

fn none(findings: &[Finding]) {
    let list: String = findings.iter().map(|finding| format!("  {finding}\n")).collect();
    assert!(findings.is_empty(), "{} to put right:\n{list}", findings.len());
}

fn none_in_sources(check: impl Fn(&source::Source) -> Vec<Finding>) {
    none(&tree().sources.iter().flat_map(check).collect::<Vec<_>>());
}

#[test]
fn packages_depend_in_one_direction() {
    let (packages, dependencies) = packages::read().expect("metadata");
    none(&packages::direction(&packages, &dependencies));
}

#[test]
fn manifests_name_strangers_in_their_rooms_only() {
    let (_, dependencies) = packages::read().expect("metadata");
    none(&packages::families(&dependencies));
}

#[test]
fn core_links_nothing_that_waits_sleeps_opens_or_guesses() {
    none(&packages::core_links().expect("tree"));
}

#[test]
fn core_names_no_file_clock_thread_or_random_order() {
    none_in_sources(walls::purity);
}

#[test]
fn the_coordinator_never_links_candle() {
    none(&packages::coordinator_links().expect("tree"));
}

#[test]
fn tonic_sqlx_object_store_and_candle_are_named_in_their_rooms_only() {
    none_in_sources(walls::names);
}

#[test]
fn sql_lives_in_the_store_alone() {
    none_in_sources(walls::sql);
}

#[test]
fn weights_never_pass_through_the_round_machine() {
    none_in_sources(walls::weightless);
}

#[test]
fn every_file_begins_with_its_subject() {
    none_in_sources(shape::subject);
}

#[test]
fn files_are_short() {
    none_in_sources(shape::files);
    none(&shape::stale(&tree().sources));
}

#[test]
fn functions_are_short() {
    none_in_sources(shape::functions);
}

#[test]
fn modules_are_named_after_nouns() {
    none_in_sources(shape::modules);
}

#[test]
fn nothing_is_imported_by_glob() {
    none_in_sources(manners::globs);
}

#[test]
fn nothing_is_unfinished_or_ignored() {
    none_in_sources(manners::unfinished);
}

#[test]
fn unsafe_stays_in_the_audited_modules() {
    none_in_sources(manners::audited);
}

#[test]
fn no_file_names_a_machine() {
    none(&tree().texts.iter().flat_map(manners::local).collect::<Vec<_>>());
}

#[test]
fn migrations_follow_one_number_line() {
    none(&migrations::numbers(&tree().texts));
}
