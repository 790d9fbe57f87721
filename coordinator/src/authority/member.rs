//! Whose certificate this is: the one URI in it, taken apart.

use rustls::pki_types::CertificateDer;
use tributary_core::digest::Digest;
use tributary_core::identity::Identity;
use tributary_core::name::FederationName;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The holder of a certificate that the handshake has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Role and name.
    pub identity: Identity,
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// The certificate's end, seconds since 1970.
    pub not_after_s: i64,
}

/// Why a certificate is nobody's here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// It does not parse.
    #[error("expected a certificate, found other bytes")]
    Form,
    /// It names nobody, or more than one.
    #[error("expected exactly one URI spiffe://FEDERATION/ROLE/NAME in the certificate")]
    Uri,
    /// It is another federation's.
    #[error("expected a certificate of this federation, found another's")]
    Federation,
}

/// Whose certificate this is.
///
/// # Errors
/// When it is nobody's of this federation.
pub fn member_of(
    certificate: &CertificateDer<'_>,
    federation: &FederationName,
) -> Result<Member, MemberError> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| MemberError::Form)?;
    if !rest.is_empty() {
        return Err(MemberError::Form);
    }
    let names = parsed.subject_alternative_name().map_err(|_| MemberError::Form)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(MemberError::Uri) };
    let identity: Identity = uri.parse().map_err(|_| MemberError::Uri)?;
    if identity.federation != *federation {
        return Err(MemberError::Federation);
    }
    Ok(Member {
        identity,
        fingerprint: Digest::of(certificate),
        not_after_s: parsed.validity().not_after.timestamp(),
    })
}
