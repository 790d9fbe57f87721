//! What is let in: tokens and identities as texts, requests for certificates, and certificates.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tributary_client::identity::{Credential, Request};
use tributary_coordinator::authority::{Authority, der_of, init, member_of};
use tributary_core::identity::{Identity, Role, Token};
use tributary_core::name::ClientName;

use crate::{Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "token", run: token, words: TEXTS },
    Target { name: "certificate_request", run: request, words: DER },
    Target { name: "certificate", run: certificate, words: DER },
    Target { name: "identity_file", run: identity_file, words: PEM },
];

const TEXTS: &[&str] = &[
    "tributary1",
    "_",
    "client",
    "admin",
    "viewer",
    "operator",
    "spiffe://",
    "/",
    "..",
    "%2f",
    "\0",
    "\u{202e}",
    "é",
    "0",
    "f",
];
/// Beginnings of what DER holds: sequence, integer, bits, bytes, an indefinite and a long length.
const DER: &[&str] =
    &["0", "\u{2}\u{1}", "\u{3}\u{2}\0", "\u{4}", "\u{30}\u{0}", "spiffe://", "\u{6}\u{3}U"];
const PEM: &[&str] = &[
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----END PRIVATE KEY-----\n",
    "-----BEGIN EC PRIVATE KEY-----\n",
    "=",
    "\n",
    "\r\n",
    "AAAA",
];

fn name() -> ClientName {
    "site-a".parse().expect("a name")
}

/// An authority of this process alone.
fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        init(dir.path(), &"hospitals".parse().expect("a name"), None).expect("made");
        Authority::load(dir.path()).expect("read").expect("there")
    })
}

/// A token, or an identity's URI; each has one spelling, but for white space around a token.
fn token(bytes: &[u8], _: &Path) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let (token, identity) = (text.parse::<Token>(), text.parse::<Identity>());
    if let Ok(token) = &token {
        // Hexadecimal digits of either case are read.
        assert_eq!(token.reveal().to_lowercase(), text.trim().to_lowercase());
        let shown = format!("{token:?}");
        assert!(!shown.contains(&hex::encode(&token.secret()[..8])), "{shown}");
    }
    if let Ok(identity) = &identity {
        assert_eq!(identity.to_string(), text);
    }
    match token.is_ok() || identity.is_ok() || text.parse::<Role>().is_ok() {
        true => Verdict::Accepted,
        false => Verdict::Refused,
    }
}

/// Whatever a request says, its certificate says what we say.
fn request(bytes: &[u8], _: &Path) -> Verdict {
    let hour = Duration::from_secs(3600);
    let signed = authority().sign(bytes, (Role::Client, &name()), hour);
    if let Ok(signed) = &signed {
        let der = CertificateDer::from(der_of(&signed.der).expect("hex"));
        let member = member_of(&der, authority().federation()).expect("a member");
        assert_eq!(member.identity.to_string(), "spiffe://hospitals/client/site-a");
    }
    Verdict::of(&signed)
}

/// (A handshake has verified it before; here it is only read.)
fn certificate(bytes: &[u8], _: &Path) -> Verdict {
    let member = member_of(&CertificateDer::from(bytes), &"hospitals".parse().expect("a name"));
    if let Ok(member) = &member {
        assert_eq!(member.identity.federation.as_str(), "hospitals");
    }
    Verdict::of(&member)
}

/// A client's file of this process alone: a key has no place in the repository.
pub(super) fn fresh_identity() -> Vec<u8> {
    let request = Request::new().expect("random bytes");
    let hour = Duration::from_secs(3600);
    let signed = authority().sign(&request.csr, (Role::Client, &name()), hour).expect("signed");
    let trusted = authority().trusted().iter().map(|der| der.to_vec()).collect();
    let certificate = der_of(&signed.der).expect("hex");
    let dir = tempfile::tempdir().expect("a folder");
    let credential = Credential::given(&request, certificate, trusted).expect("its own");
    std::fs::read(credential.save(dir.path()).expect("saved")).expect("read")
}

/// A client's own file: a key, its certificate, whom it trusts. One whose time is past is refused.
fn identity_file(bytes: &[u8], folder: &Path) -> Verdict {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("identity.pem");
    std::fs::write(&path, bytes).expect("room");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    let loaded = Credential::load(folder);
    if let Ok(credential) = &loaded {
        assert!(!credential.authorities().is_empty());
        assert!(!format!("{credential:?}").contains("PRIVATE"));
    }
    Verdict::of(&loaded)
}
