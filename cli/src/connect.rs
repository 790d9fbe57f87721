//! The way to a coordinator, and its errors in words that help.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use tonic::Status;
use tonic::transport::Channel;
use tributary_client::identity::Credential;
use tributary_client::rpc::{Egress, Link, Place, Proxy, Remote, is_secure, renew};
use tributary_proto::MESSAGE_BYTES_MAX;
use tributary_proto::v1::federation_service_client::FederationServiceClient;
use tributary_proto::v1::job_service_client::JobServiceClient;
use tributary_proto::v1::round_service_client::RoundServiceClient;

static IDENTITY: OnceLock<PathBuf> = OnceLock::new();
static EGRESS: OnceLock<Egress> = OnceLock::new();

/// Where this operator's identity lies; said once, before the first call.
pub(crate) fn use_identity(dir: PathBuf) {
    // A second word would be a mistake of ours; the first one stands.
    let _ = IDENTITY.set(dir);
}

/// The way out of this network; said once, before the first call.
pub(crate) fn use_proxy(proxy: Option<Proxy>) {
    let egress = proxy.map_or_else(Egress::from_environment, Egress::through);
    // As above.
    let _ = EGRESS.set(egress);
}

/// A coordinator, by the way that was said.
pub(crate) fn place(at: &str) -> Place {
    Place::new(at, EGRESS.get().cloned().unwrap_or_default())
}

/// The identity's folder, unless one is named: `$XDG_CONFIG_HOME/tributary`, or below the home.
pub(crate) fn identity_default() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    config.or_else(home).unwrap_or_default().join("tributary")
}

async fn channel(at: &str) -> anyhow::Result<Channel> {
    if !is_secure(at) {
        return Remote::plain(at)?.connect().await.map_err(|error| nobody(at, &error));
    }
    let dir = IDENTITY.get().cloned().unwrap_or_else(identity_default);
    let mut credential = Credential::load(&dir)
        .context("`tributary enroll URL --token …` takes a token of an admin")?;
    if credential.renew_at() < SystemTime::now() {
        let link = Link::new(Remote::secure(place(at), &credential)?.connect_lazy());
        match renew(place(at), &link, &dir).await {
            Ok(renewed) => credential = renewed,
            Err(error) => tracing::warn!(%error, "the certificate could not be renewed"),
        }
    }
    Remote::secure(place(at), &credential)?.connect().await.map_err(|error| nobody(at, &error))
}

fn nobody(at: &str, error: &tonic::transport::Error) -> anyhow::Error {
    let mut why = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        why = format!("{why}: {error}");
        source = error.source();
    }
    anyhow!(
        "no coordinator answers at {at}{why}; start one with `tributary-coordinator serve`, or name \
         another with --coordinator"
    )
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
        None => {
            let source = std::error::Error::source(&status);
            let why = source.map_or_else(String::new, |error| format!(": {error}"));
            anyhow!("{}: {}{why}", status.code(), status.message())
        }
    }
}
