//! The enrolment's service: a token becomes a certificate, a certificate its successor.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tonic::{Code, Request, Response, Status};
use tributary_core::digest::Digest;
use tributary_core::identity::{Identity, SECRET_BYTES, Token};
use tributary_proto::fault::status;
use tributary_proto::v1;
use tributary_proto::v1::enrollment_service_server::EnrollmentService;

use super::gate::{Caller, Gate};
use super::status::{of_authority, of_store};
use crate::authority::{Held, Keeper, der_of, member_of};
use crate::store::{NewCertificate, Redeemed};

pub(super) struct Enrollment {
    pub(super) gate: Arc<Gate>,
}

impl Enrollment {
    fn keeper(&self) -> Result<&Arc<Keeper>, Status> {
        keeper(&self.gate)
    }

    /// The same words whatever is wrong with a token: a guess learns nothing.
    async fn refused(&self, caller: &Caller) -> Status {
        let detail = "unknown, used, or past".to_owned();
        let event = caller.by().refused("enrollment_refused", "a token".to_owned(), detail);
        self.gate.note(event).await;
        let text = "expected a token that is known, unused and not past: ask for a new one";
        status(Code::PermissionDenied, "token_refused", text)
    }
}

/// The authority, where this coordinator has one.
pub(super) fn keeper(gate: &Gate) -> Result<&Arc<Keeper>, Status> {
    gate.keeper.as_ref().ok_or_else(|| {
        let text = "this coordinator has no certificate authority: `tributary-coordinator ca init` \
                    makes one";
        status(Code::FailedPrecondition, "no_authority", text)
    })
}

#[tonic::async_trait]
impl EnrollmentService for Enrollment {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let keeper = self.keeper()?;
        let caller = Caller::of(&request);
        let request = request.into_inner();
        if request.secret.len() != SECRET_BYTES {
            return Err(self.refused(&caller).await);
        }
        let (hash, asked) = (Token::hash(&request.secret), Digest::of(&request.csr));
        let store = &self.gate.store;
        let token = store.token(hash, asked).await.map_err(|error| of_store(&error))?;
        let Some((role, name)) = token.grants else { return Err(self.refused(&caller).await) };
        let held = keeper.held();
        // Signed before the token is used: a request that is none costs nobody a token.
        let new = held
            .authority
            .sign(&request.csr, (role, &name), keeper.ttl())
            .map_err(|error| of_authority(&error))?;
        let redeemed = store.redeem(hash, asked, &new, &caller.by().address).await;
        let der = match redeemed.map_err(|error| of_store(&error))? {
            Redeemed::New => new.der,
            Redeemed::Again(der) => der,
            Redeemed::Refused => return Err(self.refused(&caller).await),
        };
        self.gate.forget();
        tracing::info!(%role, %name, "enrolled");
        let credential = Some(credential(&held, &der)?);
        Ok(Response::new(v1::EnrollResponse { credential }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let keeper = self.keeper()?;
        let caller = Caller::of(&request);
        let Caller::Member { identity: Identity { role, name, .. }, fingerprint, external, .. } =
            &caller
        else {
            let text = "expected a certificate to renew, found none";
            return Err(status(Code::Unauthenticated, "certificate_needed", text));
        };
        if *external {
            let text = "this certificate is renewed by the authority that gave it";
            return Err(status(Code::FailedPrecondition, "external_certificate", text));
        }
        let held = keeper.held();
        let request = request.into_inner();
        let new: NewCertificate = held
            .authority
            .sign(&request.csr, (*role, name), keeper.ttl())
            .map_err(|error| of_authority(&error))?;
        let renewed = self.gate.store.renew_certificate(*fingerprint, &new, &caller.by()).await;
        if !renewed.map_err(|error| of_store(&error))? {
            let text = "this certificate is good no longer: enroll again with a new token";
            return Err(status(Code::Unauthenticated, "certificate_revoked", text));
        }
        tracing::info!(%role, %name, "certificate renewed");
        let credential = Some(credential(&held, &new.der)?);
        Ok(Response::new(v1::RenewResponse { credential }))
    }
}

fn credential(held: &Held, der: &str) -> Result<v1::Credential, Status> {
    let damaged = || status(Code::Internal, "certificate_damaged", "a stored certificate is none");
    let der = CertificateDer::from(der_of(der).ok_or_else(damaged)?);
    let member = member_of(&der, held.authority.federation()).map_err(|_| damaged())?;
    let authorities = held.authority.trusted();
    Ok(v1::Credential {
        certificate: der.to_vec().into(),
        authorities: authorities.iter().map(|ca| ca.to_vec().into()).collect(),
        identity: member.identity.to_string(),
        not_after_us: member.not_after_s.saturating_mul(1_000_000),
    })
}
