//! Who this machine is in the federation: a key that was made here and never leaves, the certificate
//! for it, and the authorities that are trusted; one file, so that the three change together.
//!
//! ```text
//! DIR/identity.pem   mode 0600: the key, its certificate, then every trusted authority
//! ```

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tributary_core::identity::Identity;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

/// The one file.
const FILE: &str = "identity.pem";
/// Longest of it: a key and some twenty certificates.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why there is no identity to go on with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFault {
    /// Nobody enrolled here.
    #[error("{0} holds no identity: enroll with a token of an admin of the federation")]
    Missing(String),
    /// The file is not what it must be, or cannot be had.
    #[error("{path}: {what}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The file's certificate is past.
    #[error("the certificate in {0} is past: enroll again with a new token")]
    Past(String),
    /// A key or a request could not be made.
    #[error("cannot make a key: {0}")]
    Make(#[from] rcgen::Error),
}

/// A fresh key and the request for its certificate.
pub struct Request {
    key: Zeroizing<KeyPair>,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
}

impl Request {
    /// Makes a key and its request. What the request asks for does not count; its key does.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new() -> Result<Self, IdentityFault> {
        let key = Zeroizing::new(KeyPair::generate()?);
        let csr = CertificateParams::default().serialize_request(&*key)?.der().to_vec();
        Ok(Self { key, csr })
    }
}

/// Key, certificate and trust. Its `Debug` prints whose it is, and nothing of the key.
pub struct Credential {
    key: Zeroizing<String>,
    chain: CertificateDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
    identity: Identity,
    not_after: SystemTime,
    obtained: SystemTime,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.identity)
    }
}

impl Credential {
    /// A credential that was just given for a request.
    ///
    /// # Errors
    /// When the certificate is not for the request's key, or names nobody.
    pub fn given(
        request: &Request,
        certificate: Vec<u8>,
        authorities: Vec<Vec<u8>>,
    ) -> Result<Self, IdentityFault> {
        let key = Zeroizing::new(request.key.serialize_pem());
        let chain = CertificateDer::from(certificate);
        let authorities = authorities.into_iter().map(CertificateDer::from).collect();
        Self::check("the coordinator's answer", key, chain, authorities, SystemTime::now())
    }

    fn check(
        from: &str,
        key: Zeroizing<String>,
        chain: CertificateDer<'static>,
        authorities: Vec<CertificateDer<'static>>,
        obtained: SystemTime,
    ) -> Result<Self, IdentityFault> {
        let fault =
            |what: &str| IdentityFault::File { path: from.to_owned(), what: what.to_owned() };
        // The error of a key that does not parse says nothing of the key.
        let pair = KeyPair::from_pem(&key).map(Zeroizing::new);
        let pair = pair.map_err(|_| fault("expected a private key in PEM"))?;
        let (_, parsed) =
            X509Certificate::from_der(&chain).map_err(|_| fault("expected a certificate"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.der_bytes() {
            return Err(fault("expected certificate and key to belong together"));
        }
        if authorities.is_empty() {
            return Err(fault("expected at least one authority behind the certificate"));
        }
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let uri = names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.parse::<Identity>().ok(),
            _ => None,
        });
        let identity = uri.ok_or_else(|| fault("expected spiffe://FEDERATION/ROLE/NAME in it"))?;
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
        Ok(Self { key, chain, authorities, identity, not_after, obtained })
    }

    /// The same, trusting other authorities: where the coordinator's is another than the one that
    /// gave the certificate.
    #[must_use]
    pub fn trusting(mut self, authorities: Vec<Vec<u8>>) -> Self {
        self.authorities = authorities.into_iter().map(CertificateDer::from).collect();
        self
    }

    /// What another authority gave, from its files: a certificate, its key (PKCS#8), and whom to trust
    /// as the coordinator's authority; all PEM.
    ///
    /// # Errors
    /// When a file cannot be read, or they do not belong together, or the certificate is past.
    pub fn import(certificate: &Path, key: &Path, trust: &Path) -> Result<Self, IdentityFault> {
        let read = |path: &Path| {
            let text = fs::read(path).map(Zeroizing::new);
            text.map_err(|error| fault_of(path, error.to_string()))
        };
        let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, IdentityFault> {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
            found.map_err(|error| fault_of(path, error.to_string()))
        };
        let parsed = PrivateKeyDer::from_pem_slice(&read(key)?).map(Zeroizing::new);
        let parsed =
            parsed.map_err(|_| fault_of(key, "expected a private key in PEM".to_owned()))?;
        let pem = Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", parsed.secret_der())));
        let mut chain = certificates(certificate)?.into_iter();
        let nothing = || fault_of(certificate, "expected a certificate in PEM".to_owned());
        let (first, name) = (chain.next().ok_or_else(nothing)?, certificate.display().to_string());
        let credential = Self::check(&name, pem, first, certificates(trust)?, SystemTime::now())?;
        if credential.not_after < SystemTime::now() {
            return Err(IdentityFault::Past(name));
        }
        Ok(credential)
    }

    /// Reads a folder's identity.
    ///
    /// # Errors
    /// When there is none, others may read it, it is not what it must be, or it is past.
    pub fn load(dir: &Path) -> Result<Self, IdentityFault> {
        let path = dir.join(FILE);
        let name = path.display().to_string();
        let fault = |what: String| IdentityFault::File { path: name.clone(), what };
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(IdentityFault::Missing(dir.display().to_string()));
            }
            Err(error) => return Err(fault(error.to_string())),
        };
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(fault(format!(
                "expected mode 0600, found {mode:04o}: others can read the key"
            )));
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(fault(format!("expected at most {FILE_BYTES_MAX} bytes")));
        }
        let text = fs::read(&path).map(Zeroizing::new).map_err(|error| fault(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&text).map(Zeroizing::new);
        let key = key.map_err(|_| fault("expected a private key in PEM".to_owned()))?;
        let key = Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", key.secret_der())));
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let mut certificates = certificates.map_err(|error| fault(error.to_string()))?.into_iter();
        let chain = certificates.next();
        let chain = chain.ok_or_else(|| fault("expected a certificate in PEM".to_owned()))?;
        let obtained = meta.modified().map_err(|error| fault(error.to_string()))?;
        let credential = Self::check(&name, key, chain, certificates.collect(), obtained)?;
        if credential.not_after < SystemTime::now() {
            return Err(IdentityFault::Past(name));
        }
        Ok(credential)
    }

    /// Writes a folder's identity: the old one stands until the new one is whole and on disk.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, dir: &Path) -> Result<PathBuf, IdentityFault> {
        let path = dir.join(FILE);
        let new = dir.join("identity.new");
        let mut text = Zeroizing::new(self.key.to_string());
        for certificate in std::iter::once(&self.chain).chain(&self.authorities) {
            text.push_str(&pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec())));
        }
        let write = || {
            fs::create_dir_all(dir)?;
            // What a killed process left could have another mode.
            let _ = fs::remove_file(&new);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error: std::io::Error| IdentityFault::File {
            path: path.display().to_string(),
            what: error.to_string(),
        })?;
        Ok(path)
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The certificate's end.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When the next one is due: two thirds of its life after it came.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.obtained).unwrap_or_default();
        self.obtained + life * 2 / 3
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain
    }

    /// The authorities that it trusts.
    #[must_use]
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// What a handshake shows and signs with. (What rustls is given by value it does not clear.)
    pub(crate) fn certified(&self) -> Result<CertifiedKey, rustls::Error> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|_| rustls::Error::General("the identity's key is no key".to_owned()))?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&Zeroizing::new(key))?;
        Ok(CertifiedKey::new(vec![self.chain.clone()], signing))
    }
}

fn fault_of(path: &Path, what: String) -> IdentityFault {
    IdentityFault::File { path: path.display().to_string(), what }
}
