//! Each key of a policy, kept and named.

use std::time::{Duration, SystemTime};

use tributary_core::binding::Binding;
use tributary_core::document::read_document;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::SiteSums;

use super::Policy;

fn policy(text: &str) -> Policy {
    read_document(text, 1000, Policy::read).expect("a policy")
}

fn spec() -> JobSpec {
    JobSpec::parse(
        "[job]\nname = \"digits-v2\"\nrounds = 3\n[data]\nkind = \"image\"\nclasses = 2\n\
         [model]\ninput = { shape = [3] }\nlayers = [{ linear = 2 }]\n\
         [train]\nlocal_epochs = 5\nbatch_size = 10\n\
         optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n[cohort]\nmin_updates = 2\n",
    )
    .expect("a spec")
}

#[test]
fn a_site_without_a_policy_agrees() {
    assert_eq!(Policy::default().refuses(&spec(), ""), None);
    assert_eq!(policy("").closed_for(SystemTime::now()), None);
}

#[test]
fn every_bound_is_kept_and_its_key_named() {
    for (text, agrees) in [
        ("jobs = [\"digits-*\", \"x\"]", true),
        ("jobs = [\"digits\"]", false),
        ("operators = [\"ada\"]", true),
        ("operators = [\"operator/ada\"]", true),
        ("operators = [\"bob\", \"admin/ada\"]", false),
        ("local_epochs_max = 5", true),
        ("local_epochs_max = 4", false),
        ("batch_size_max = 9", false),
        ("parameters_max = 8", true),
        ("parameters_max = 7", false),
        ("rounds_max = 2", false),
        ("min_updates = 2", true),
        ("min_updates = 3", false),
    ] {
        let refused = policy(text).refuses(&spec(), "operator/ada");
        assert_eq!(refused.is_none(), agrees, "{text}: {refused:?}");
        let key = text.split(' ').next().expect("a key");
        assert!(refused.is_none_or(|reason| reason.contains(key)), "{text}");
    }
    assert!(policy("operators = [\"a*\"]").refuses(&spec(), "").is_some(), "nobody known");
}

#[test]
fn hours_may_span_midnight() {
    let at = |hour: u64, minute: u64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 20_000 + (hour * 60 + minute) * 60)
    };
    let night = policy("hours_utc = \"20:00-06:30\"");
    for (hour, minute, open) in [(20, 0, true), (23, 59, true), (6, 29, true), (6, 30, false)] {
        assert_eq!(night.closed_for(at(hour, minute)).is_none(), open, "{hour}:{minute}");
    }
    assert_eq!(night.closed_for(at(19, 0)), Some(Duration::from_secs(3600)));
    let day = policy("hours_utc = \"08:00-17:00\"");
    assert_eq!(day.closed_for(at(17, 0)), Some(Duration::from_secs(15 * 3600)));
    assert_eq!(day.closed_for(at(8, 0)), None);
}

#[test]
fn faults_are_named() {
    let text = "jobs = []\noperators = [3]\nhours_utc = \"8-17\"\nlocal_epochs_max = 0\n";
    let faults = read_document(text, 1000, Policy::read).expect_err("faulty").to_string();
    for part in ["jobs:", "operators[0]", "hours_utc", "local_epochs_max"] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
}

fn binding(name: &str, rows: (u64, u64)) -> Binding {
    Binding {
        name: name.to_owned(),
        kind: "image".to_owned(),
        classes: 2,
        targets: 0,
        vocabulary: 0,
        shape: vec![3],
        train_examples: rows.0,
        evaluate_examples: rows.1,
    }
}

#[test]
fn a_data_set_is_for_the_jobs_that_the_site_names() {
    let bound = [binding("scans", (9, 9)), binding("open", (9, 9))];
    let other = [Binding { classes: 3, ..binding("scans", (9, 9)) }];
    let only = "[data]\nscans = [\"study-*\"]\n";
    for (text, bound, expected) in [
        ("", &bound[..], Ok(Some("scans".to_owned()))),
        ("[data]\nscans = [\"digits-*\"]\n", &bound, Ok(Some("scans".to_owned()))),
        (only, &bound, Ok(Some("open".to_owned()))),
        (only, &bound[..1], Err("policy.data.scans does not name digits-v2".to_owned())),
        ("", &other, Ok(None)),
        (only, &other, Err("no data set of this site serves digits-v2".to_owned())),
    ] {
        assert_eq!(policy(text).data_for(&spec(), bound), expected, "{text}");
    }
}

#[test]
fn counts_below_the_floor_are_not_told() {
    let policy = policy("statistics_min_examples = 50\n");
    let told = |rows| {
        let offered = policy.offered(binding("scans", rows));
        (offered.train_examples, offered.evaluate_examples)
    };
    assert_eq!(told((500, 50)), (500, 50));
    assert_eq!(told((37, 49)), (50, 0));
    assert_eq!(told((0, 0)), (0, 0));
    assert!(policy.withholds(49) && !policy.withholds(50));
    let reason = policy.keeps(37).expect("kept");
    assert!(reason.contains("statistics_min_examples is 50") && !reason.contains("37"), "{reason}");
    assert_eq!(policy.keeps(50), None);
    assert_eq!(Policy::default().keeps(0), None);
}

#[test]
fn sums_are_given_above_the_floors_of_the_site() {
    let text = "[job]\nname = \"f\"\nrounds = 1\n[data]\nkind = \"image\"\nclasses = 2\n\
                normalise = \"federated\"\n[model]\ninput = { shape = [3] }\n\
                layers = [{ linear = 2 }]\n[train]\nbatch_size = 1\n\
                optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n[cohort]\n";
    let spec = JobSpec::parse(text).expect("a spec");
    for (text, agrees) in [
        ("", true),
        ("statistics = true", true),
        ("statistics = false", false),
        ("statistics_clients_min = 3", true),
        ("statistics_clients_min = 4", false),
    ] {
        let policy = policy(text);
        assert_eq!(policy.refuses(&spec, ""), None, "{text}: to train is another question");
        let refused = policy.refuses_statistics(&spec);
        assert_eq!(refused.is_none(), agrees, "{text}: {refused:?}");
        let key = text.split(' ').next().expect("a key");
        assert!(refused.is_none_or(|reason| reason.contains(key)), "{text}");
    }
    let sums = || SiteSums {
        rows: 49,
        tokens: vec![("a".to_owned(), 5), ("b".to_owned(), 4)],
        ..SiteSums::default()
    };
    let refused = policy("statistics_rows_min = 50").told(sums()).expect_err("too few");
    assert!(refused.contains("statistics_rows_min is 50"), "{refused}");
    assert!(!refused.contains("49"), "{refused}");
    assert_eq!(policy("statistics_rows_min = 49").told(sums()), Ok(sums()));
    let told = policy("token_count_min = 5").told(sums()).expect("enough rows");
    assert_eq!((told.tokens, told.left_out), (vec![("a".to_owned(), 5)], 4));
}
