//! Tokens, certificates, revocation and the audit, as the database keeps them.

use std::time::Duration;

use tokio::task::JoinSet;
use tributary_coordinator::store::{By, NewCertificate, Redeemed};
use tributary_core::digest::Digest;
use tributary_core::identity::Role;
use tributary_core::round::Phase;

use crate::fixture::{Fixture, open_tasks};
use crate::guards::tamper;

fn by() -> By {
    By { who: "admin/ada".to_owned(), address: "127.0.0.1".to_owned() }
}

fn certificate(name: &str, mark: u32) -> NewCertificate {
    NewCertificate {
        fingerprint: Digest::of(format!("{name} {mark}").as_bytes()),
        role: Role::Client,
        name: name.parse().expect("a name"),
        der: "00".to_owned(),
        not_after_us: i64::MAX,
    }
}

async fn token(fixture: &Fixture, name: &str, ttl: Duration) -> Digest {
    let hash = Digest::of(format!("token of {name}, {ttl:?}").as_bytes());
    let name = name.parse().expect("a name");
    fixture.store.create_token(hash, (Role::Client, &name), ttl, &by()).await.expect("created");
    hash
}

async fn enrolled(fixture: &Fixture, name: &str) -> NewCertificate {
    let hash = token(fixture, name, Duration::from_secs(60)).await;
    let new = certificate(name, 0);
    let redeemed = fixture.store.redeem(hash, Digest::of(b"request"), &new, "here").await;
    assert_eq!(redeemed.expect("redeemed"), Redeemed::New);
    new
}

pub(crate) async fn one_of_many_at_once_gets_the_token(fixture: &Fixture) {
    let hash = token(fixture, "site-1", Duration::from_secs(60)).await;
    let mut racing = JoinSet::new();
    for mark in 0..8_u32 {
        let store = fixture.store.clone();
        racing.spawn(async move {
            let new = certificate("site-1", mark);
            let request = Digest::of(&mark.to_le_bytes());
            store.redeem(hash, request, &new, "here").await.expect("answered")
        });
    }
    let redeemed = racing.join_all().await;
    assert_eq!(redeemed.iter().filter(|r| **r == Redeemed::New).count(), 1, "{redeemed:?}");
    assert_eq!(redeemed.iter().filter(|r| **r == Redeemed::Refused).count(), 7);
    let past = token(fixture, "site-2", Duration::ZERO).await;
    let new = certificate("site-2", 0);
    let late = fixture.store.redeem(past, Digest::of(b"r"), &new, "here");
    assert_eq!(late.await.expect("answered"), Redeemed::Refused);
}

pub(crate) async fn a_certificate_ends_with_its_identity_and_begins_anew(fixture: &Fixture) {
    let first = enrolled(fixture, "site-1").await;
    let store = &fixture.store;
    let good = |fingerprint| async move {
        store.certificate(fingerprint).await.expect("read").is_some_and(|row| !row.revoked)
    };
    assert!(good(first.fingerprint).await);
    let second = certificate("site-1", 1);
    assert!(store.renew_certificate(first.fingerprint, &second, &by()).await.expect("renewed"));
    assert!(good(first.fingerprint).await && good(second.fingerprint).await, "both for a while");
    let third = certificate("site-1", 2);
    assert!(store.renew_certificate(second.fingerprint, &third, &by()).await.expect("renewed"));
    assert!(!good(first.fingerprint).await, "two at most");
    // Another's certificate renews nothing of site-1.
    let other = enrolled(fixture, "site-2").await;
    let stolen = certificate("site-1", 3);
    assert!(!store.renew_certificate(other.fingerprint, &stolen, &by()).await.expect("refused"));

    let name = "site-1".parse().expect("a name");
    assert_eq!(store.revoke(Role::Client, &name, "lost", &by()).await.expect("revoked"), 2);
    assert!(!good(second.fingerprint).await && !good(third.fingerprint).await);
    assert!(good(other.fingerprint).await);
    assert!(store.is_revoked(Role::Client, &name).await.expect("read"));
    assert!(!store.is_revoked(Role::Operator, &name).await.expect("read"), "another role's name");
    let cut = store.revoked_certificates().await.expect("read");
    assert!(cut.contains(&third.fingerprint) && !cut.contains(&other.fingerprint));
    let fourth = certificate("site-1", 4);
    assert!(!store.renew_certificate(third.fingerprint, &fourth, &by()).await.expect("refused"));
}

pub(crate) async fn a_revocation_ends_tokens_that_are_under_way(fixture: &Fixture) {
    let hash = token(fixture, "site-1", Duration::from_secs(60)).await;
    let name = "site-1".parse().expect("a name");
    fixture.store.revoke(Role::Client, &name, "", &by()).await.expect("revoked");
    let new = certificate("site-1", 0);
    let late = fixture.store.redeem(hash, Digest::of(b"r"), &new, "here").await;
    assert_eq!(late.expect("answered"), Redeemed::Refused);
    let hash = token(fixture, "site-1", Duration::from_secs(61)).await;
    let again = fixture.store.redeem(hash, Digest::of(b"r"), &new, "here").await;
    assert_eq!(again.expect("answered"), Redeemed::New, "a token after it lets in again");
    assert!(!fixture.store.is_revoked(Role::Client, &name).await.expect("read"));
}

pub(crate) async fn who_enrolls_anew_need_not_wait_for_who_was_here_before(fixture: &Fixture) {
    use tributary_coordinator::store::Greeting;
    let mut first = crate::fixture::hello(1);
    fixture.store.hello(&first).await.expect("hello");
    first.instance = "another".to_owned();
    let refused = fixture.store.hello(&first).await.expect("hello");
    assert_eq!(refused, Greeting::InUse);
    enrolled(fixture, "site-1").await;
    let greeted = fixture.store.hello(&first).await.expect("hello");
    assert_eq!(greeted, Greeting::Changed, "the earlier one has no certificate any more");
}

pub(crate) async fn the_revoked_and_the_unwilling_are_in_no_roster(fixture: &Fixture) {
    let job = fixture.job("roster").await;
    for site in ["site-0", "site-1"] {
        let name = site.parse().expect("a name");
        fixture.store.revoke(Role::Client, &name, "", &by()).await.expect("revoked");
    }
    fixture
        .store
        .revoke(Role::Operator, &"site-2".parse().expect("a name"), "", &by())
        .await
        .expect("an operator of a client's name");
    let waiting = fixture.settle(&job, 10).await;
    let phase = |state: &tributary_core::round::JobState| state.round.as_ref().map(|r| r.phase);
    assert_eq!(phase(&waiting), Some(Phase::Selecting), "two of the four are left");
    for site in ["site-0", "site-1"] {
        enrolled(fixture, site).await;
    }
    let training = fixture.settle(&job, 20).await;
    assert_eq!(phase(&training), Some(Phase::Training), "all four are back");
    assert!(!open_tasks(&training).is_empty());

    let other = fixture.job("refused").await;
    let site = "site-3".parse().expect("a name");
    for _ in 0..2 {
        fixture.store.refuse_job(&other, &site, "too many epochs").await.expect("refused");
    }
    let waiting = fixture.settle(&other, 10).await;
    assert_eq!(phase(&waiting), Some(Phase::Selecting), "three of the four are left");
    let refusals = fixture.store.refusals(&other).await.expect("read");
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].reason, "too many epochs");
    assert!(fixture.store.refusals(&job).await.expect("read").is_empty(), "of that job alone");
}

pub(crate) async fn many_writers_make_one_audit_that_nobody_rewrites(fixture: &Fixture) {
    let mut writing = JoinSet::new();
    for i in 0..20 {
        let store = fixture.store.clone();
        writing.spawn(async move {
            let event = by().did("token_created", format!("client/{i}"), "x".repeat(10_000));
            store.audit(&event).await.expect("written");
        });
    }
    writing.join_all().await;
    let lines = fixture.store.audit_lines(0, 1000).await.expect("read");
    let sequences: Vec<u64> = lines.iter().map(|line| line.sequence).collect();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
    assert!(lines.iter().all(|line| line.detail.len() <= 300), "long words are cut");
    assert_eq!(fixture.store.verify_audit().await.expect("verified"), None);
    for sql in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE sequence = 20"] {
        let error = tamper(fixture, sql).await.expect_err("append-only").to_string();
        assert!(error.contains("append-only"), "{error}");
    }
    let drop: &[&str] = match fixture.url.starts_with("sqlite") {
        true => &["DROP TRIGGER audit_is_not_changed", "DROP TRIGGER audit_is_not_deleted"],
        false => &["DROP TRIGGER audit_is_not_changed ON audit"],
    };
    for sql in drop {
        tamper(fixture, sql).await.expect("a determined administrator");
    }
    tamper(fixture, "DELETE FROM audit WHERE sequence = 20").await.expect("cut");
    assert_eq!(fixture.store.verify_audit().await.expect("verified"), Some(20), "the end is cut");
    tamper(fixture, "UPDATE audit SET actor = 'x' WHERE sequence = 7").await.expect("changed");
    assert_eq!(fixture.store.verify_audit().await.expect("verified"), Some(7));
}
