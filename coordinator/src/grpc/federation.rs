//! The federation's service: the coordinator itself, its clients, who is let in and out, the audit.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Request, Response, Status};
use tributary_core::identity::{Role, Token};
use tributary_core::name::ClientName;
use tributary_proto::convert::{WireFault, audit_to_wire, binding_to_wire, parse};
use tributary_proto::fault::status;
use tributary_proto::v1::federation_service_server::FederationService;
use tributary_proto::{PROTOCOL_VERSION, v1};

use super::enrollment::keeper;
use super::gate::{Caller, Gate};
use super::job::page_size;
use super::status::of_store;
use crate::authority::secret;
use crate::driver::Hub;
use crate::ingest;
use crate::store::{ClientRow, IdentityRow};

/// A token's life unless asked for another: long enough to walk to the machine.
const TOKEN_TTL_S_DEFAULT: u32 = 3600;
/// What may be asked for: a minute to a week.
const TOKEN_TTL_S: std::ops::RangeInclusive<u32> = 60..=604_800;
/// Longest reason of a revocation.
const REASON_CHARS_MAX: usize = 200;

pub(super) struct Federation {
    pub(super) hub: Arc<Hub>,
    pub(super) gate: Arc<Gate>,
}

#[tonic::async_trait]
impl FederationService for Federation {
    async fn get_federation(
        &self,
        _request: Request<v1::GetFederationRequest>,
    ) -> Result<Response<v1::GetFederationResponse>, Status> {
        Ok(Response::new(v1::GetFederationResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_version: PROTOCOL_VERSION,
            database: self.hub.store.engine().to_owned(),
            uptime_s: self.hub.started.elapsed().as_secs(),
        }))
    }

    async fn list_clients(
        &self,
        _request: Request<v1::ListClientsRequest>,
    ) -> Result<Response<v1::ListClientsResponse>, Status> {
        let rows = self.hub.store.clients().await.map_err(|error| of_store(&error))?;
        let clients = rows.into_iter().map(client_to_wire).collect();
        Ok(Response::new(v1::ListClientsResponse { clients }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let keeper = keeper(&self.gate)?;
        let by = Caller::of(&request).by();
        let request = request.into_inner();
        let (role, name) = member_from_wire(&request.role, &request.name)?;
        let ttl_s = if request.ttl_s == 0 { TOKEN_TTL_S_DEFAULT } else { request.ttl_s };
        if !TOKEN_TTL_S.contains(&ttl_s) {
            let expected = format!("{} to {}", TOKEN_TTL_S.start(), TOKEN_TTL_S.end());
            return Err(WireFault::new("ttl_s", expected, ttl_s.to_string()).into());
        }
        let secret =
            secret().map_err(|error| status(Code::Internal, "no_randomness", error.to_string()))?;
        let authority = keeper.held().authority.fingerprint();
        let token = Token::new(role, name.clone(), authority, secret);
        let (hash, ttl) = (Token::hash(token.secret()), Duration::from_secs(ttl_s.into()));
        let created = self.hub.store.create_token(hash, (role, &name), ttl, &by).await;
        let expires_at_us = created.map_err(|error| of_store(&error))?;
        Ok(Response::new(v1::CreateTokenResponse {
            token: token.reveal().to_string(),
            expires_at_us,
        }))
    }

    async fn list_identities(
        &self,
        _request: Request<v1::ListIdentitiesRequest>,
    ) -> Result<Response<v1::ListIdentitiesResponse>, Status> {
        let rows = self.hub.store.identities().await.map_err(|error| of_store(&error))?;
        let identities = rows.into_iter().map(identity_to_wire).collect();
        Ok(Response::new(v1::ListIdentitiesResponse { identities }))
    }

    async fn revoke_identity(
        &self,
        request: Request<v1::RevokeIdentityRequest>,
    ) -> Result<Response<v1::RevokeIdentityResponse>, Status> {
        let by = Caller::of(&request).by();
        let request = request.into_inner();
        let (role, name) = member_from_wire(&request.role, &request.name)?;
        let reason = request.reason.chars().filter(|c| !c.is_control());
        let reason: String = reason.take(REASON_CHARS_MAX).collect();
        let revoked = self.hub.store.revoke(role, &name, &reason, &by).await;
        let certificates = revoked.map_err(|error| of_store(&error))?;
        self.gate.forget();
        tracing::info!(%role, %name, certificates, "revoked");
        if role == Role::Client {
            ingest::release(&self.hub, &name).await;
        }
        let certificates = u32::try_from(certificates).unwrap_or(u32::MAX);
        Ok(Response::new(v1::RevokeIdentityResponse { certificates }))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let request = request.into_inner();
        let (after, limit) = (request.after_sequence, page_size(request.page_size));
        // The head first: what is appended meanwhile is behind it.
        let head = self.hub.store.audit_head().await;
        let (head_sequence, head_digest) = head.map_err(|error| of_store(&error))?;
        let lines = self.hub.store.audit_lines(after, limit).await;
        let lines = lines.map_err(|error| of_store(&error))?;
        let lines = lines.into_iter().map(audit_to_wire).collect();
        let head_digest = head_digest.to_string();
        Ok(Response::new(v1::ListAuditResponse { lines, head_sequence, head_digest }))
    }
}

fn member_from_wire(role: &str, name: &str) -> Result<(Role, ClientName), WireFault> {
    Ok((parse("role", role)?, parse("name", name)?))
}

fn client_to_wire(row: ClientRow) -> v1::ClientInfo {
    v1::ClientInfo {
        client: row.hello.name.to_string(),
        instance_id: row.hello.instance,
        software: row.hello.version,
        bindings: row.hello.bindings.iter().map(binding_to_wire).collect(),
        present: row.present,
        first_seen_us: row.first_seen_us,
        last_seen_us: row.last_seen_us,
    }
}

fn identity_to_wire(row: IdentityRow) -> v1::IdentityInfo {
    v1::IdentityInfo {
        role: row.role.word().to_owned(),
        name: row.name.to_string(),
        enrolled_at_us: row.enrolled_at_us,
        not_after_us: row.not_after_us,
        revoked_at_us: row.revoked_at_us.unwrap_or(0),
        revoked_by: row.revoked_by,
        reason: row.reason,
    }
}
