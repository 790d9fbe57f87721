//! Keeps a running coordinator's certificates fresh: its own is renewed at two thirds of its life,
//! and a rotation of the authority is seen within a second, both without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tributary_core::digest::Digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::{Authority, AuthorityError};

/// The files that say what is trusted and who signs.
const FILES: [&str; 6] =
    ["federation", "current.pem", "current.key", "next.pem", "previous.pem", "external.pem"];
/// What connections speak: gRPC is HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// The authority and the port's own certificate, as they are now.
pub struct Keeper {
    dir: PathBuf,
    names: Vec<String>,
    ttl: Duration,
    held: RwLock<Arc<Held>>,
}

/// One reading of the folder.
pub struct Held {
    /// The authority.
    pub authority: Authority,
    /// What a handshake goes by.
    pub(crate) server: Arc<ServerConfig>,
    files: Digest,
    renew_at: SystemTime,
    /// The end of the port's own certificate.
    ends: SystemTime,
    /// The end of every trusted authority, with what it is.
    authority_ends: Vec<(String, SystemTime)>,
}

/// How long before an authority's end a coordinator begins to say so: two rotations with certificates
/// of a week.
const AUTHORITY_WARNING: Duration = Duration::from_secs(42 * 86_400);

impl Keeper {
    /// Reads the folder; `None` where no authority was made. The port answers to `names`, and every
    /// certificate that is given is good for `ttl`.
    ///
    /// # Errors
    /// When a file is not what it must be.
    pub fn open(
        dir: &Path,
        names: Vec<String>,
        ttl: Duration,
    ) -> Result<Option<Self>, AuthorityError> {
        let Some(held) = read(dir, &names, ttl)? else { return Ok(None) };
        Ok(Some(Self { dir: dir.to_owned(), names, ttl, held: RwLock::new(Arc::new(held)) }))
    }

    /// What is so now.
    #[must_use]
    pub fn held(&self) -> Arc<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long a certificate that is given now is good.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Reads the folder again where it changed or the port's certificate is due; what changed in the
    /// trust, for the audit. On an error everything stays as it was.
    ///
    /// # Errors
    /// When a file is not what it must be.
    pub fn refresh(&self) -> Result<Option<String>, AuthorityError> {
        self.refresh_at(SystemTime::now())
    }

    pub(super) fn refresh_at(&self, now: SystemTime) -> Result<Option<String>, AuthorityError> {
        let before = self.held();
        let changed = digest(&self.dir) != before.files;
        if !changed && now < before.renew_at {
            return Ok(None);
        }
        let missing = || AuthorityError::Missing(self.dir.display().to_string());
        let after = read(&self.dir, &self.names, self.ttl)?.ok_or_else(missing)?;
        let what = changed.then(|| after.summary());
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        Ok(what)
    }
}

impl Held {
    /// Who signs and who is trusted, for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let names: Vec<String> = self
            .authority
            .trusted()
            .iter()
            .map(|ca| Digest::of(ca).hex()[..16].to_owned())
            .collect();
        let external = self.authority.external().len();
        format!("signing {}, trusted {}, external {external}", names[0], names.join(" "))
    }

    /// What an operator should do something about: an authority that ends soon, or a certificate of
    /// the port that ought to have been renewed and was not.
    pub(crate) fn warning(&self, now: SystemTime) -> Option<String> {
        let left = |end: SystemTime| end.duration_since(now).unwrap_or_default();
        // Renewed at two thirds: with less than a sixth of its life left something is wrong.
        let late = self.ends.duration_since(self.renew_at).unwrap_or_default() / 2;
        if left(self.ends) < late {
            let hours = left(self.ends).as_secs() / 3600;
            return Some(format!(
                "the port's certificate ends in {hours} h and could not be renewed: see the errors \
                 above, or start again"
            ));
        }
        let soon = self.authority_ends.iter().find(|(_, end)| left(*end) < AUTHORITY_WARNING);
        soon.map(|(what, end)| {
            let days = left(*end).as_secs() / 86_400;
            format!("{what} ends in {days} days: rotate it (`ca rotate`), or nobody gets in")
        })
    }

    /// Whether a verified certificate was given by an authority of somebody else.
    #[must_use]
    pub fn is_external(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, leaf)) = X509Certificate::from_der(certificate) else { return false };
        let named = |ca: &CertificateDer<'_>| {
            X509Certificate::from_der(ca)
                .is_ok_and(|(_, ca)| ca.subject().as_raw() == leaf.issuer().as_raw())
        };
        self.authority.external().iter().any(named) && !self.authority.trusted().iter().any(named)
    }
}

fn read(dir: &Path, names: &[String], ttl: Duration) -> Result<Option<Held>, AuthorityError> {
    let files = digest(dir);
    let Some(authority) = Authority::load(dir)? else { return Ok(None) };
    let server = Arc::new(server_config(&authority, names, ttl).map_err(|error| {
        AuthorityError::File { path: dir.display().to_string(), what: error.to_string() }
    })?);
    let now = SystemTime::now();
    let (renew_at, ends) = (now + ttl * 2 / 3, now + ttl);
    let signing = authority.trusted();
    let ours = signing.iter().map(|ca| ("the certificate authority", ca));
    let external = authority.external().iter().map(|ca| ("an external authority", ca));
    let authority_ends = ours.chain(external).filter_map(|(what, ca)| {
        let short = &Digest::of(ca).hex()[..16];
        Some((format!("{what} {short}"), end_of(ca)?))
    });
    let authority_ends = authority_ends.collect();
    Ok(Some(Held { authority, server, files, renew_at, ends, authority_ends }))
}

/// Until when a certificate is good.
fn end_of(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn digest(dir: &Path) -> Digest {
    // The key is among them.
    let contents: Vec<Zeroizing<Vec<u8>>> = FILES
        .iter()
        .map(|name| Zeroizing::new(std::fs::read(dir.join(name)).unwrap_or_default()))
        .collect();
    Digest::of_fields("tributary/ca/v1", contents.iter().map(|bytes| bytes.as_slice()))
}

/// TLS 1.3 alone. A certificate is optional at the handshake, because who enrolls has none; what may
/// be done without one is for the table of roles to say. Sessions are not resumed: each handshake
/// verifies against what is trusted now.
fn server_config(
    authority: &Authority,
    names: &[String],
    ttl: Duration,
) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for ca in authority.trusted().iter().chain(authority.external()) {
        roots.add(ca.clone())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let (chain, key) = authority.serve_as(names, ttl)?;
    // From a reference: what rustls is given by value it does not clear.
    let own = CertifiedKey::new(chain, rustls::crypto::ring::sign::any_supported_type(&key)?);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
