//! What the authority signs, and what it never does twice.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tributary_core::digest::Digest;
use tributary_core::identity::Role;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{Authority, AuthorityError, Import, Keeper, der_of, init, member_of, promote, retire};

const DAY: Duration = Duration::from_secs(86_400);

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    init(dir.path(), &"hospitals".parse().expect("a name"), None).expect("made");
    dir
}

fn load(dir: &tempfile::TempDir) -> Authority {
    Authority::load(dir.path()).expect("read").expect("there")
}

#[test]
fn it_is_made_once_with_a_key_for_its_owner_alone() {
    let dir = folder();
    let mode =
        |name| dir.path().join(name).metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode("current.key"), 0o600);
    let before = load(&dir).fingerprint();
    let again = init(dir.path(), &"hospitals".parse().expect("a name"), None);
    assert!(matches!(again, Err(AuthorityError::Exists(_))));
    // Half a folder is not made whole by a new key either.
    std::fs::remove_file(dir.path().join("current.key")).expect("removed");
    assert!(Authority::load(dir.path()).is_err());
    let again = init(dir.path(), &"hospitals".parse().expect("a name"), None);
    assert!(matches!(again, Err(AuthorityError::Exists(_))));
    let kept: CertificateDer<'static> =
        PemObject::from_pem_file(dir.path().join("current.pem")).expect("still there");
    assert_eq!(before, Digest::of(&kept));
}

#[test]
fn half_an_authority_is_never_none_at_all() {
    let name = "hospitals".parse().expect("a name");
    for lost in ["current.pem", "current.key"] {
        let dir = folder();
        std::fs::remove_file(dir.path().join(lost)).expect("removed");
        assert!(Authority::load(dir.path()).is_err(), "{lost}");
        init(dir.path(), &name, None).expect_err("never remade");
    }
    // Whatever is left of it.
    for left in ["federation", "current.key", "next.pem", "previous.pem", "external.pem"] {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(left), "").expect("written");
        let loaded = Authority::load(dir.path()).map(|found| found.is_some());
        assert!(matches!(loaded, Err(AuthorityError::Half { .. })), "{left}: {loaded:?}");
    }
    let nothing = tempfile::tempdir().expect("a folder");
    assert!(Authority::load(nothing.path()).expect("read").is_none());
    assert!(Authority::load(&nothing.path().join("nowhere")).expect("read").is_none());
}

#[test]
fn of_many_who_make_it_at_once_one_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let makers: Vec<_> = (0..8)
        .map(|i| {
            let path = dir.path().to_owned();
            std::thread::spawn(move || {
                init(&path, &format!("federation-{i}").parse().expect("a name"), None).is_ok()
            })
        })
        .collect();
    let made = makers.into_iter().map(|maker| maker.join().expect("it ran"));
    assert_eq!(made.filter(|made| *made).count(), 1);
    load(&dir);
}

#[test]
fn an_end_that_is_near_is_said_beforehand() {
    let keeper = Keeper::open(folder().path(), Vec::new(), DAY).expect("read").expect("there");
    let (held, now) = (keeper.held(), SystemTime::now());
    assert_eq!(held.warning(now), None);
    assert_eq!(held.warning(now + DAY * 2 / 3), None, "it is renewed now");
    let late = held.warning(now + DAY - Duration::from_secs(1800)).expect("it was not renewed");
    assert!(late.contains("port's certificate"), "{late}");
}

#[test]
fn the_port_s_certificate_is_made_anew_when_two_thirds_of_its_life_are_over() {
    let dir = folder();
    let keeper = Keeper::open(dir.path(), Vec::new(), DAY).expect("read").expect("there");
    let (first, now) = (keeper.held(), SystemTime::now());
    let minute = Duration::from_secs(60);
    assert_eq!(keeper.refresh_at(now + DAY * 2 / 3 - minute).expect("read"), None);
    assert!(Arc::ptr_eq(&first, &keeper.held()), "it is not due");
    let changed = keeper.refresh_at(now + DAY * 2 / 3 + minute).expect("read");
    assert_eq!(changed, None, "who is trusted is as before");
    let second = keeper.held();
    assert!(!Arc::ptr_eq(&first.server, &second.server), "handshakes go by another certificate");
    assert_eq!(first.authority.trusted(), second.authority.trusted());
    // A folder that cannot be read leaves everything as it is.
    std::fs::write(dir.path().join("current.key"), "no key").expect("written");
    keeper.refresh_at(now).expect_err("no key");
    assert!(Arc::ptr_eq(&second, &keeper.held()));
}

#[test]
fn only_the_key_of_a_request_counts() {
    let authority = load(&folder());
    let key = KeyPair::generate().expect("a key");
    let mut greedy = CertificateParams::default();
    greedy.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let uri = "spiffe://hospitals/admin/root".try_into().expect("ascii");
    greedy.subject_alt_names = vec![SanType::URI(uri)];
    greedy.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let request = greedy.serialize_request(&key).expect("a request");
    let name = "site-a".parse().expect("a name");
    let signed = authority.sign(request.der(), (Role::Client, &name), DAY).expect("signed");
    let der = CertificateDer::from(der_of(&signed.der).expect("hex"));
    let member = member_of(&der, authority.federation()).expect("a member");
    assert_eq!(member.identity.to_string(), "spiffe://hospitals/client/site-a");
    assert_eq!(member.fingerprint, signed.fingerprint);
    let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().expect("one").expect("there").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let life = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
    assert_eq!(life, 86_400 + 300);
    let other = "elsewhere".parse().expect("a name");
    assert!(member_of(&der, &other).is_err(), "another federation's");
}

#[test]
fn what_is_no_request_is_refused() {
    let authority = load(&folder());
    let key = KeyPair::generate().expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("a request");
    let name = "site-a".parse().expect("a name");
    let mut forged = request.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for bad in [&[][..], &[0x30], &forged, &vec![0x30; super::REQUEST_BYTES_MAX + 1]] {
        let refused = authority.sign(bad, (Role::Client, &name), DAY);
        assert!(matches!(refused, Err(AuthorityError::Request(_))));
    }
}

#[test]
fn a_rotation_goes_step_by_step_and_no_other_way() {
    let dir = folder();
    let keeper = Keeper::open(dir.path(), vec!["localhost".to_owned()], DAY).expect("read");
    let keeper = keeper.expect("there");
    let first = keeper.held().authority.fingerprint();
    assert!(promote(dir.path()).is_err() && retire(dir.path()).is_err(), "not yet");
    assert_eq!(keeper.refresh().expect("read"), None, "nothing changed");

    super::rotate(dir.path()).expect("a next one");
    assert!(super::rotate(dir.path()).is_err(), "one at a time");
    assert!(keeper.refresh().expect("read").is_some());
    let held = keeper.held();
    assert_eq!((held.authority.fingerprint(), held.authority.trusted().len()), (first, 2));

    promote(dir.path()).expect("it signs");
    keeper.refresh().expect("read");
    let held = keeper.held();
    assert_ne!(held.authority.fingerprint(), first);
    assert_eq!(held.authority.trusted().len(), 2, "the first one is trusted still");
    super::rotate(dir.path()).expect("a third");
    assert!(promote(dir.path()).is_err(), "the first one must be retired before");

    retire(dir.path()).expect("no longer trusted");
    keeper.refresh().expect("read");
    assert_eq!(keeper.held().authority.trusted().len(), 2, "the second and the third");
    assert!(keeper.held().authority.trusted().iter().all(|ca| { Digest::of(ca) != first }));
}

#[test]
fn a_killed_promotion_is_taken_up_again() {
    let dir = folder();
    super::rotate(dir.path()).expect("a next one");
    let path = |name: &str| dir.path().join(name);
    std::fs::copy(path("current.pem"), path("previous.pem")).expect("copied");
    std::fs::rename(path("next.key"), path("current.key")).expect("moved");
    assert!(Authority::load(dir.path()).is_err(), "certificate and key are two");
    promote(dir.path()).expect("finished");
    assert_eq!(load(&dir).trusted().len(), 2);
}

#[test]
fn an_authority_that_exists_can_be_taken_over() {
    let (made, taken) = (folder(), tempfile::tempdir().expect("a folder"));
    let import = Import {
        certificate: made.path().join("current.pem"),
        key: made.path().join("current.key"),
    };
    let federation = "hospitals".parse().expect("a name");
    init(taken.path(), &federation, Some(&import)).expect("taken over");
    assert_eq!(load(&taken).fingerprint(), load(&made).fingerprint());
    // Another key than the certificate's, or a certificate that may not sign, is not taken.
    let other = folder();
    let foreign = Import { key: other.path().join("current.key"), ..import.clone() };
    let fresh = tempfile::tempdir().expect("a folder");
    assert!(init(fresh.path(), &federation, Some(&foreign)).is_err());
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::default().self_signed(&key).expect("a certificate");
    let (certificate, key_file) = (fresh.path().join("c.pem"), fresh.path().join("k.pem"));
    std::fs::write(&certificate, leaf.pem()).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let leaf = Import { certificate, key: key_file };
    assert!(init(&fresh.path().join("ca"), &federation, Some(&leaf)).is_err());
}
