//! The way to a coordinator, and its errors in words that help.

use std::time::Duration;

use anyhow::anyhow;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tributary_proto::v1::federation_service_client::FederationServiceClient;
use tributary_proto::v1::job_service_client::JobServiceClient;
use tributary_proto::v1::round_service_client::RoundServiceClient;
use tributary_proto::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

async fn channel(at: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(at.to_owned())
        .map_err(|error| anyhow!("{at} is no address such as http://127.0.0.1:7443: {error}"))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    endpoint.connect().await.map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(String::new, |e| format!(": {e}"));
        anyhow!(
            "no coordinator answers at {at}{why}; start one with `tributary-coordinator serve`, \
             or name another with --coordinator"
        )
    })
}

pub(crate) async fn jobs(at: &str) -> anyhow::Result<JobServiceClient<Channel>> {
    Ok(JobServiceClient::new(channel(at).await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

pub(crate) async fn rounds(at: &str) -> anyhow::Result<RoundServiceClient<Channel>> {
    Ok(RoundServiceClient::new(channel(at).await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

pub(crate) async fn federation(at: &str) -> anyhow::Result<FederationServiceClient<Channel>> {
    let client = FederationServiceClient::new(channel(at).await?);
    Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// A status as an error: the coordinator's own sentence, without the transport's words.
pub(crate) fn said(status: Status) -> anyhow::Error {
    match tributary_proto::fault::reason(&status) {
        Some(_) => anyhow!("{}", status.message()),
        None => anyhow!("{}: {}", status.code(), status.message()),
    }
}
