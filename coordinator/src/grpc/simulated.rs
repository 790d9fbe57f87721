//! The services as calls reach them behind a loopback port, for a simulation that carries the calls.

use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Layer, ServiceExt};

use super::door::Peer;
use super::gate::{Gate, GateLayer};
use crate::config::Limits;
use crate::driver::Hub;

/// A call that is under way.
pub type Called = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;
/// What answers calls.
pub type Call = Arc<dyn Fn(http::Request<Body>) -> Called + Send + Sync>;

pub(crate) fn call(hub: Arc<Hub>, limits: Limits, stop: CancellationToken) -> Call {
    let gate = Arc::new(Gate::new(hub.store.clone(), None, &limits));
    let service = GateLayer(gate.clone()).layer(super::routes(hub, gate, stop).prepare());
    Arc::new(move |mut request| {
        request.extensions_mut().insert(Peer::local());
        let service = service.clone();
        Box::pin(async move {
            match service.oneshot(request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        })
    })
}
