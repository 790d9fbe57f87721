//! The authority's folder, made once and rotated in three steps.
//!
//! ```text
//! CA/federation                  the federation's name
//! CA/current.pem  current.key    signs now; the key is 0600
//! CA/next.pem     next.key       trusted already, signs after `promote`
//! CA/previous.pem                still trusted, until `retire`
//! CA/external.pem                an authority of somebody else, put here by hand
//! CA/lock                        held by whoever changes any of these
//! ```
//!
//! A rotation: `rotate` makes the next one and lets it be trusted; after a certificate's life every
//! client has heard of it; `promote` lets it sign; after another life nothing of the previous one is
//! in use; `retire` ends the trust in it. Every file is written whole, under another name, and moved.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use tributary_core::identity::federation_uri;
use tributary_core::name::FederationName;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::key::Key;
use super::{Authority, AuthorityError, SKEW, serial};

/// How long an authority's certificate is good: rotating it is a drill, not a deadline.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Most certificates in `external.pem`.
const EXTERNAL_MAX: usize = 16;
/// What a folder holds that is, or was, an authority's. One of these without `current.pem` is half an
/// authority, and never "none": without one a loopback port is open to everybody.
const PARTS: [&str; 7] = [
    "federation",
    "current.key",
    "next.pem",
    "next.key",
    "previous.pem",
    "external.pem",
    "current.pem.new",
];

/// An authority that exists already.
#[derive(Debug, Clone)]
pub struct Import {
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PKCS#8 PEM.
    pub key: PathBuf,
}

/// Makes the authority, or takes over an existing one; never twice.
///
/// # Errors
/// When there is one already, a file cannot be written, or the imported one cannot sign.
pub fn init(
    dir: &Path,
    federation: &FederationName,
    import: Option<&Import>,
) -> Result<(), AuthorityError> {
    fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
    // Of two at once, the later one finds what the first one made.
    let _alone = alone(dir)?;
    if dir.join("current.pem").exists() {
        return Err(AuthorityError::Exists(dir.display().to_string()));
    }
    if dir.join("current.key").exists() {
        return Err(half(dir, "current.key"));
    }
    let (certificate, key) = match import {
        Some(import) => {
            let key = Zeroizing::new(read(&import.key)?);
            (read(&import.certificate)?, key)
        }
        None => make(federation)?,
    };
    check(&certificate, &key, dir)?;
    write(&dir.join("federation"), &format!("{federation}\n"), 0o644)?;
    write(&dir.join("current.key"), &key, 0o600)?;
    write(&dir.join("current.pem"), &certificate, 0o644)
}

/// Makes the next authority, which is trusted from now on and does not sign yet.
///
/// # Errors
/// When there is a next one already, or a file cannot be written.
pub fn rotate(dir: &Path) -> Result<(), AuthorityError> {
    let _alone = alone(dir)?;
    let federation = read_federation(dir)?;
    if dir.join("next.pem").exists() {
        return Err(AuthorityError::Step(
            "a next authority is there already: `ca promote` lets it sign",
        ));
    }
    let (certificate, key) = make(&federation)?;
    write(&dir.join("next.key"), &key, 0o600)?;
    write(&dir.join("next.pem"), &certificate, 0o644)
}

/// Lets the next authority sign; the one before stays trusted.
///
/// # Errors
/// When there is no next one, or the previous one was not retired.
pub fn promote(dir: &Path) -> Result<(), AuthorityError> {
    let _alone = alone(dir)?;
    if !dir.join("next.pem").exists() {
        return Err(AuthorityError::Step("there is no next authority: `ca rotate` makes one"));
    }
    // Without its key the next one is half promoted: an earlier call was killed.
    let begun = !dir.join("next.key").exists();
    if !begun {
        if dir.join("previous.pem").exists() {
            return Err(AuthorityError::Step(
                "the previous authority is still trusted: `ca retire` ends that first",
            ));
        }
        let certificate = read(&dir.join("current.pem"))?;
        write(&dir.join("previous.pem"), &certificate, 0o644)?;
    }
    // A coordinator that reads between these two finds a key of another certificate, says so, and
    // goes on with what it had until it reads again.
    for name in ["key", "pem"].into_iter().skip(usize::from(begun)) {
        let (from, to) = (dir.join(format!("next.{name}")), dir.join(format!("current.{name}")));
        fs::rename(&from, &to).map_err(|error| at(&to, &error))?;
    }
    sync(dir)
}

/// Ends the trust in the previous authority.
///
/// # Errors
/// When there is none.
pub fn retire(dir: &Path) -> Result<(), AuthorityError> {
    let _alone = alone(dir)?;
    let path = dir.join("previous.pem");
    if !path.exists() {
        return Err(AuthorityError::Step(
            "there is no previous authority: `ca promote` comes first",
        ));
    }
    fs::remove_file(&path).map_err(|error| at(&path, &error))?;
    sync(dir)
}

impl Authority {
    /// Reads the folder; `None` where no authority was ever made.
    ///
    /// # Errors
    /// When a file is not what it must be, or only part of an authority is there.
    pub fn load(dir: &Path) -> Result<Option<Self>, AuthorityError> {
        if !dir.join("current.pem").exists() {
            let left = PARTS.iter().find(|name| dir.join(name).exists());
            return left.map_or(Ok(None), |name| Err(half(dir, name)));
        }
        let federation = read_federation(dir)?;
        let certificate = read(&dir.join("current.pem"))?;
        let key = Zeroizing::new(read(&dir.join("current.key"))?);
        let (current, issuer) = check(&certificate, &key, dir)?;
        let mut others = Vec::new();
        for name in ["next.pem", "previous.pem"] {
            others.extend(certificates(&dir.join(name), 1)?);
        }
        let external = certificates(&dir.join("external.pem"), EXTERNAL_MAX)?;
        Ok(Some(Self { federation, issuer, current, others, external }))
    }
}

type Made = (String, Zeroizing<String>);

fn make(federation: &FederationName) -> Result<Made, AuthorityError> {
    let key = Zeroizing::new(KeyPair::generate()?);
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let serial = serial();
    // Each has its own subject: a verifier finds an issuer by it.
    let mark: String = serial.to_bytes().iter().take(4).map(|b| format!("{b:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("Tributary {federation} {mark}"));
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(federation_uri(federation))?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::from(now - SKEW);
    params.not_after = OffsetDateTime::from(now + AUTHORITY_LIFE);
    params.serial_number = Some(serial);
    let certificate = params.self_signed(&*key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

/// Whether certificate and key belong together and may sign.
fn check(
    certificate: &str,
    key: &str,
    dir: &Path,
) -> Result<(CertificateDer<'static>, Issuer<'static, Key>), AuthorityError> {
    let fault = |what: String| AuthorityError::File { path: dir.display().to_string(), what };
    let der = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| fault(format!("expected a certificate in PEM: {error}")))?;
    // The error of a key that does not parse says nothing of the key.
    let key = KeyPair::from_pem(key)
        .map(Key::from)
        .map_err(|_| fault("expected a private key (PKCS#8) in PEM".to_owned()))?;
    let parsed = X509Certificate::from_der(&der);
    let (_, parsed) = parsed.map_err(|error| fault(format!("expected a certificate: {error}")))?;
    if !parsed.is_ca() {
        return Err(fault("expected the certificate of an authority (CA: true)".to_owned()));
    }
    if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
        return Err(fault("expected certificate and key to belong together".to_owned()));
    }
    if !parsed.validity().is_valid() {
        return Err(fault("expected a certificate that is good today".to_owned()));
    }
    let issuer = Issuer::from_ca_cert_der(&der, key)?;
    Ok((der, issuer))
}

fn certificates(path: &Path, most: usize) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let fault = |what: String| AuthorityError::File { path: path.display().to_string(), what };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
    let found: Result<Vec<_>, _> = read.take(most + 1).collect();
    let found = found.map_err(|error| fault(error.to_string()))?;
    if found.is_empty() || found.len() > most {
        let found = found.len();
        return Err(fault(format!("expected 1 to {most} certificates in PEM, found {found}")));
    }
    Ok(found)
}

fn read_federation(dir: &Path) -> Result<FederationName, AuthorityError> {
    let path = dir.join("federation");
    if !path.exists() {
        return Err(AuthorityError::Missing(dir.display().to_string()));
    }
    let text = read(&path)?;
    text.trim().parse().map_err(|error: tributary_core::name::NameError| AuthorityError::File {
        path: path.display().to_string(),
        what: error.to_string(),
    })
}

/// Held while the folder is changed; it ends with the process, however that ends.
fn alone(dir: &Path) -> Result<File, AuthorityError> {
    if !dir.exists() {
        return Err(AuthorityError::Missing(dir.display().to_string()));
    }
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(|error| at(&path, &error))?;
    lock.lock().map_err(|error| at(&path, &error))?;
    Ok(lock)
}

fn half(dir: &Path, found: &str) -> AuthorityError {
    AuthorityError::Half { dir: dir.display().to_string(), found: found.to_owned() }
}

fn at(path: &Path, error: &std::io::Error) -> AuthorityError {
    AuthorityError::File { path: path.display().to_string(), what: error.to_string() }
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|error| at(path, &error))
}

/// Writes a file whole: a reader finds the old one or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // What an earlier try left could have another mode.
    let _ = fs::remove_file(&new);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| at(&new, &error))?;
    fs::rename(&new, path).map_err(|error| at(path, &error))?;
    sync(path.parent().unwrap_or(Path::new(".")))
}

fn sync(dir: &Path) -> Result<(), AuthorityError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| at(dir, &error))
}
