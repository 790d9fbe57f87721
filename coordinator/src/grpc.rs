//! The only door: gRPC services over one port, with health and reflection.
//!
//! `door` shakes hands, `gate` asks who calls and `access` (one table, deny by default) whether they
//! may. Handlers then check the message (`proto/convert`), call a room, and turn its answer into the
//! wire's words. `status` is the only table from error to gRPC code.

mod access;
mod body;
mod calls;
mod door;
mod enrollment;
mod federation;
mod gate;
mod job;
mod participant;
mod rates;
mod round;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
mod status;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tributary_proto::v1::enrollment_service_server::EnrollmentServiceServer;
use tributary_proto::v1::federation_service_server::FederationServiceServer;
use tributary_proto::v1::job_service_server::JobServiceServer;
use tributary_proto::v1::participant_service_server::ParticipantServiceServer;
use tributary_proto::v1::round_service_server::RoundServiceServer;
use tributary_proto::{
    CONNECTION_WINDOW_BYTES, KEEPALIVE, MESSAGE_BYTES_MAX, PIECE_BYTES, STREAM_WINDOW_BYTES,
};

use crate::authority::Keeper;
use crate::config::Limits;
use crate::driver::Hub;
use door::Door;
use gate::{Gate, GateLayer};

/// Calls that one connection may have open: a client needs three, an operator's tool a few.
const CALLS_PER_CONNECTION_MAX: u32 = 64;
/// A piece of an update comes in one frame, with what is around it; a slow link is not taken for longer.
const FRAME_BYTES: u32 = 2 * PIECE_BYTES as u32;
/// How long open calls may take to finish after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// Largest list of headers of a call.
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// Serves until `stop`, then drains for a while. Without a keeper of certificates everybody who
/// reaches the port may do everything: the configuration allows that on loopback alone.
///
/// # Errors
/// When the transport fails.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    keeper: Option<Arc<Keeper>>,
    limits: Limits,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<ParticipantServiceServer<participant::Participants>>().await;
    health_reporter.set_serving::<JobServiceServer<job::Jobs>>().await;
    health_reporter.set_serving::<RoundServiceServer<round::Rounds>>().await;
    health_reporter.set_serving::<FederationServiceServer<federation::Federation>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tributary_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let gate = Arc::new(Gate::new(hub.store.clone(), keeper, &limits));
    let mut router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .layer(GateLayer(gate.clone()))
        .add_routes(routes(hub, gate.clone(), stop.clone()))
        .add_service(health);
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => router = router.add_service(v1).add_service(v1alpha),
        _ => tracing::error!("server reflection is off: the descriptors do not load"),
    }
    let incoming = ReceiverStream::new(Door::new(gate, limits, stop.clone()).open(listener));
    let draining = stop.clone();
    let server = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => result,
        () = async { draining.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("calls were still open when the drain time ended");
            Ok(())
        }
    }
}

/// The services of our own.
fn routes(hub: Arc<Hub>, gate: Arc<Gate>, stop: CancellationToken) -> Routes {
    let participants =
        participant::Participants { hub: hub.clone(), gate: gate.clone(), stop: stop.clone() };
    let uploads = Semaphore::new(job::CHECKPOINT_UPLOADS_MAX);
    let jobs = job::Jobs { hub: hub.clone(), stop, uploads };
    let enrollment = enrollment::Enrollment { gate: gate.clone() };
    let federation = federation::Federation { hub: hub.clone(), gate };
    // How long a message of each method may be is for `access` to say; `body` counts.
    let participants =
        ParticipantServiceServer::new(participants).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(participants)
        .add_service(EnrollmentServiceServer::new(enrollment))
        .add_service(JobServiceServer::new(jobs))
        .add_service(RoundServiceServer::new(round::Rounds { hub }))
        .add_service(FederationServiceServer::new(federation))
}

/// Binds the port, so that the caller knows the address before anything is served.
///
/// # Errors
/// When the address cannot be had.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
