//! The federation's service: the coordinator itself, and its clients.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tributary_proto::convert::binding_to_wire;
use tributary_proto::v1::federation_service_server::FederationService;
use tributary_proto::{PROTOCOL_VERSION, v1};

use super::status::of_store;
use crate::driver::Hub;
use crate::store::ClientRow;

pub(super) struct Federation {
    pub(super) hub: Arc<Hub>,
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
