//! The federation's certificate authority: it signs for roles and names, never for what a request
//! asks, and only ever on this machine's keys.
//!
//! A certificate says `spiffe://FEDERATION/ROLE/NAME` and nothing else about its holder. Requests
//! are taken apart for their public key alone; subject, names, usages and dates are ours.

mod folder;
mod keeper;
mod key;
mod member;

pub use folder::{Import, init, promote, retire, rotate};
pub use keeper::{Held, Keeper};
pub use member::{Member, MemberError, member_of};

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use time::OffsetDateTime;
use tributary_core::digest::Digest;
use tributary_core::identity::{Identity, Role};
use tributary_core::name::{ClientName, FederationName};
use zeroize::Zeroizing;

use crate::store::NewCertificate;

/// A certificate is good from a little before its making: clocks differ.
const SKEW: Duration = Duration::from_secs(300);
/// Longest certificate request: a P-256 one has 300 bytes, a 4096-bit RSA one 1700.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Why the authority cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is one already.
    #[error(
        "{0} holds a certificate authority already: it is never remade, because every client trusts \
         it (`ca rotate` replaces it step by step)"
    )]
    Exists(String),
    /// There is none.
    #[error("{0} holds no certificate authority: make one with `tributary-coordinator ca init`")]
    Missing(String),
    /// There is part of one.
    #[error(
        "{dir} holds {found} and no current.pem, which is half a certificate authority: put back what \
         is missing from a backup, or, where nobody was ever enrolled by it, remove the folder and run \
         `ca init`"
    )]
    Half {
        /// The folder.
        dir: String,
        /// What is there.
        found: String,
    },
    /// A file is not what it must be, or cannot be had.
    #[error("{path}: {what}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A rotation step out of order.
    #[error("{0}")]
    Step(&'static str),
    /// A peer's request is none.
    #[error("expected a certificate request (PKCS#10) signed by its own key: {0}")]
    Request(String),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The federation's certificate authorities as they are now.
pub struct Authority {
    federation: FederationName,
    issuer: Issuer<'static, key::Key>,
    current: CertificateDer<'static>,
    /// Trusted as well: the next one before its time, the previous one after it.
    others: Vec<CertificateDer<'static>>,
    /// An authority of somebody else whose members may come in.
    external: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// The federation.
    #[must_use]
    pub fn federation(&self) -> &FederationName {
        &self.federation
    }

    /// SHA-256 of the certificate that signs now: what tokens carry.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.current)
    }

    /// Every certificate authority of the federation that is trusted, the signing one first.
    #[must_use]
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        std::iter::once(&self.current).chain(&self.others).cloned().collect()
    }

    /// Authorities of others, whose members may come in.
    #[must_use]
    pub fn external(&self) -> &[CertificateDer<'static>] {
        &self.external
    }

    /// Signs a member's certificate. Only the request's key counts.
    ///
    /// # Errors
    /// When the request is none, or its signature is not by its key.
    pub fn sign(
        &self,
        request: &[u8],
        (role, name): (Role, &ClientName),
        ttl: Duration,
    ) -> Result<NewCertificate, AuthorityError> {
        self.sign_at(request, (role, name), SystemTime::now(), ttl)
    }

    /// As [`Authority::sign`], at another time than now.
    ///
    /// # Errors
    /// As `sign`.
    pub fn sign_at(
        &self,
        request: &[u8],
        (role, name): (Role, &ClientName),
        now: SystemTime,
        ttl: Duration,
    ) -> Result<NewCertificate, AuthorityError> {
        if request.len() > REQUEST_BYTES_MAX {
            let text = format!("expected at most {REQUEST_BYTES_MAX} bytes");
            return Err(AuthorityError::Request(text));
        }
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        let identity = Identity { federation: self.federation.clone(), role, name: name.clone() };
        let mut params = leaf(name.as_str(), now, ttl);
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity.to_string())?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let signed = request.signed_by(&self.issuer)?;
        let der = signed.der();
        Ok(NewCertificate {
            fingerprint: Digest::of(der),
            role,
            name: name.clone(),
            der: hex_of(der),
            not_after_us: micros(now + ttl),
        })
    }

    /// A certificate for a coordinator's own port: its chain with the authority, and its key, whose bytes
    /// are cleared when they go.
    ///
    /// # Errors
    /// When a name is no DNS name.
    pub fn serve_as(
        &self,
        names: &[String],
        ttl: Duration,
    ) -> Result<(Vec<CertificateDer<'static>>, Zeroizing<PrivateKeyDer<'static>>), AuthorityError>
    {
        let mut params = leaf("coordinator", SystemTime::now(), ttl);
        let uri = format!("spiffe://{}/coordinator", self.federation);
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri)?));
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = Zeroizing::new(KeyPair::generate()?);
        let signed = params.signed_by(&*key, &self.issuer)?;
        let chain = vec![signed.der().clone(), self.current.clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der());
        let key = key.map_err(|error| AuthorityError::Request(error.to_owned()))?;
        Ok((chain, Zeroizing::new(key)))
    }
}

/// What every certificate of ours has that is no authority's.
fn leaf(name: &str, now: SystemTime, ttl: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = OffsetDateTime::from(now - SKEW);
    params.not_after = OffsetDateTime::from(now + ttl);
    params.serial_number = Some(serial());
    params.use_authority_key_identifier_extension = true;
    params
}

/// A serial number that nobody can guess and no other certificate has.
fn serial() -> SerialNumber {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    // Positive, and no leading zero byte.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn hex_of(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of a stored certificate.
#[must_use]
pub fn der_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Thirty-two bytes that nobody can guess.
///
/// # Errors
/// When the system gives none.
pub fn secret() -> anyhow::Result<[u8; tributary_core::identity::SECRET_BYTES]> {
    let mut bytes = [0; tributary_core::identity::SECRET_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
