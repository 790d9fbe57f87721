//! Enrolment and renewal: a token becomes this machine's first certificate; each certificate is
//! exchanged for the next one at two thirds of its life, without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_util::sync::CancellationToken;
use tributary_core::digest::Digest;
use tributary_core::identity::Token;
use tributary_proto::v1;
use tributary_proto::v1::enrollment_service_client::EnrollmentServiceClient;

use super::remote::{AddressError, Link, Place, Remote, is_secure, provider};
use super::{Backoff, CALL, CallError, limited};
use crate::identity::{Credential, IdentityFault, Request};

/// How often an enrolment whose answer was lost is asked again, with the same request.
const TRIES: u32 = 3;
/// Longest sleep between two looks at the clock: a machine that was suspended must not oversleep.
const NAP: Duration = Duration::from_secs(60);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Tokens are sent over TLS alone.
    #[error(
        "expected an address that begins with https://, found {0}: a token is never sent in the clear"
    )]
    Plain(String),
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// This machine's side failed.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
    /// The coordinator does not answer, or is not the one that the token names.
    #[error("{0}")]
    Away(String),
    /// The coordinator says no.
    #[error("{message}")]
    Refused {
        /// The stable code.
        reason: String,
        /// The sentence.
        message: String,
    },
    /// The answer is not what was asked for.
    #[error("expected a certificate of {expected}, found one of {found}")]
    Other {
        /// The token's.
        expected: String,
        /// The answer's.
        found: String,
    },
}

impl From<CallError> for EnrollError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { reason, message } => EnrollError::Refused { reason, message },
            CallError::Away(text, _) | CallError::Held(text) | CallError::Local(text) => {
                EnrollError::Away(text)
            }
        }
    }
}

/// Trades a token for this machine's certificate, and stores it in `dir`. The coordinator must prove,
/// before anything is sent, that the authority whose fingerprint is in the token vouches for it.
///
/// # Errors
/// See [`EnrollError`]; nothing is stored then.
pub async fn enroll(
    place: impl Into<Place>,
    token: &Token,
    dir: &Path,
) -> Result<Credential, EnrollError> {
    let place = place.into();
    if !is_secure(&place.address) {
        return Err(EnrollError::Plain(place.address));
    }
    let pinned = Arc::new(Pinned { authority: token.authority });
    let remote = Remote::judged(&place, pinned)?;
    let request = Request::new()?;
    let message = v1::EnrollRequest {
        secret: token.secret().to_vec().into(),
        csr: request.csr.clone().into(),
    };
    let mut backoff = Backoff::new();
    let mut tries = 0;
    let given = loop {
        tries += 1;
        let mut client = EnrollmentServiceClient::new(remote.connect_lazy());
        match limited(CALL, client.enroll(message.clone())).await {
            Ok(answer) => break answer.credential.unwrap_or_default(),
            Err(CallError::Away(_, asked)) if tries < TRIES => {
                tokio::time::sleep(backoff.wait(asked)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let credential = credential(&request, given)?;
    let identity = credential.identity();
    if (identity.role, &identity.name) != (token.role, &token.name) {
        let expected = format!("{}/{}", token.role, token.name);
        return Err(EnrollError::Other { expected, found: identity.to_string() });
    }
    credential.save(dir)?;
    Ok(credential)
}

fn credential(request: &Request, given: v1::Credential) -> Result<Credential, IdentityFault> {
    let authorities = given.authorities.iter().map(|ca| ca.to_vec()).collect();
    Credential::given(request, given.certificate.to_vec(), authorities)
}

/// Trades the certificate that a link shows for the next one, stores it, and lets the link go on
/// with it.
///
/// # Errors
/// See [`EnrollError`]; the certificate stays as it is then.
pub async fn renew(
    place: impl Into<Place>,
    link: &Link,
    dir: &Path,
) -> Result<Credential, EnrollError> {
    let request = Request::new()?;
    let message = v1::RenewRequest { csr: request.csr.clone().into() };
    let mut client = EnrollmentServiceClient::new(link.clone());
    let answer = limited(CALL, client.renew(message)).await?;
    let credential = credential(&request, answer.credential.unwrap_or_default())?;
    let remote = Remote::secure(place, &credential)?;
    credential.save(dir)?;
    link.exchange(remote.connect_lazy());
    Ok(credential)
}

/// Why a certificate is not renewed by the coordinator: another authority gave it.
const EXTERNAL: &str = "external_certificate";

/// Renews whenever it is due, until stopped. A coordinator that is away is asked again; a refusal is
/// the agent's own next call's to say.
pub(crate) async fn keep_fresh(
    place: Place,
    link: Link,
    dir: PathBuf,
    mut due: SystemTime,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new();
    while !stop.is_cancelled() {
        let wait = match due.duration_since(SystemTime::now()) {
            Ok(left) if !left.is_zero() => left.min(NAP),
            _ => match renew(place.clone(), &link, &dir).await {
                Ok(credential) => {
                    backoff.reset();
                    due = credential.renew_at();
                    tracing::info!(identity = %credential.identity(), "certificate renewed");
                    continue;
                }
                Err(EnrollError::Refused { reason, message }) if reason == EXTERNAL => {
                    tracing::warn!(%message, "put the next certificate into place by its means");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificate could not be renewed; trying again");
                    backoff.wait(None)
                }
            },
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Accepts a coordinator that the pinned authority vouches for, and no other: the authority's own
/// certificate must be in the chain, and the rest is verified as ever (names, dates, usage).
#[derive(Debug)]
struct Pinned {
    authority: Digest,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|ca| Digest::of(ca) == self.authority);
        let Some(authority) = pinned else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().map_err(|e| rustls::Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
