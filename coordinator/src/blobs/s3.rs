//! A bucket of an S3-compatible server as the store.
//!
//! Calls are tried again for [`RETRY`] alone: whoever asked for a blob has a retry of its own and says
//! what it waits for, and minutes of silence in here would hide an outage from all of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig,
};

use crate::config::{S3Config, bucket};

/// How long one call is tried again: over a hiccup, not over an outage.
const RETRY: Duration = Duration::from_secs(4);
/// Tries again of one call.
const RETRIES_MAX: usize = 5;
/// Waits between tries, the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one call may take: 8 MiB at 300 kB/s.
const CALL: Duration = Duration::from_secs(30);

/// What is written, read and deleted at the start, to know that the keys may do all of it.
const PROBE: &str = "probe";

/// The variables that hold the keys.
const KEY_VARIABLES: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
/// The one that is set with keys that last for hours.
const TOKEN_VARIABLE: &str = "AWS_SESSION_TOKEN";

/// The keys, which nothing prints.
pub(super) struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Keys {
    /// The keys of these variables.
    ///
    /// # Errors
    /// When one is not set.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let [id, secret] = KEY_VARIABLES.map(|name| {
            let set = variable(name).filter(|value| !value.is_empty());
            set.with_context(|| {
                format!("{name} is not set: the bucket's keys come by {}", KEY_VARIABLES.join(", "))
            })
        });
        Ok(Self { id: id?, secret: secret?, token: variable(TOKEN_VARIABLE) })
    }
}

/// Opens the bucket that `blobs` names, and proves that it can be used.
///
/// # Errors
/// What is wrong with configuration or keys, or what the server refuses.
pub(super) async fn open(
    blobs: &str,
    config: &S3Config,
    keys: Keys,
) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let (bucket, prefix) = bucket(blobs).context("expected blobs to begin with s3://")?;
    let store = client(bucket, config, keys)?;
    let prefix = Path::parse(prefix).context("the prefix of blobs cannot be a key's beginning")?;
    let store = Arc::new(PrefixStore::new(store, prefix));
    let whom = config.endpoint.as_deref().unwrap_or("Amazon S3");
    probe(&*store).await.with_context(|| format!("bucket {bucket} at {whom} cannot be used"))?;
    Ok(store)
}

pub(super) fn client(bucket: &str, config: &S3Config, keys: Keys) -> anyhow::Result<AmazonS3> {
    // Where TLS is made without a provider it panics; whoever called us may have installed none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = ClientOptions::new()
        .with_allow_http(config.is_plain())
        .with_connect_timeout(CONNECT)
        .with_timeout(CALL);
    if let Some(file) = &config.ca_file {
        let shown = file.display();
        let pem = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        let certificates = Certificate::from_pem_bundle(&pem);
        let certificates = certificates.with_context(|| format!("{shown} holds no PEM"))?;
        anyhow::ensure!(!certificates.is_empty(), "{shown} holds no certificate");
        options = options.with_no_system_certificates(true);
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: BACKOFF.0, max_backoff: BACKOFF.1, base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_client_options(options)
        .with_retry(retry)
        .with_access_key_id(keys.id)
        .with_secret_access_key(keys.secret);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(address(endpoint, bucket, config.path_style));
    }
    if let Some(token) = keys.token {
        builder = builder.with_token(token);
    }
    builder.build().context("cannot make a client for S3")
}

/// Where the bucket answers: at the endpoint, or at its own name there.
fn address(endpoint: &str, bucket: &str, path_style: bool) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
        _ => endpoint.to_owned(),
    }
}

/// Writes, reads, lists and deletes: what a key may not do is known before the first job needs it.
async fn probe(store: &dyn ObjectStore) -> anyhow::Result<()> {
    let name = format!("{PROBE}/{}", uuid::Uuid::new_v4());
    let path = Path::parse(&name)?;
    let content = bytes::Bytes::from_static(b"tributary");
    store.put(&path, content.clone().into()).await.context("it cannot be written to")?;
    let read = async { store.get(&path).await?.bytes().await };
    let read = read.await.context("it cannot be read from")?;
    anyhow::ensure!(read == content, "expected what was written, found {} bytes", read.len());
    let listed = store.list_with_delimiter(Some(&Path::from(PROBE))).await;
    let listed = listed.context("it cannot be listed")?;
    let found = listed.objects.iter().any(|object| object.location == path);
    anyhow::ensure!(found, "what was written a moment ago is not listed");
    store.delete(&path).await.context("nothing can be deleted from it")
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_bucket_is_in_the_path_or_in_the_host_s_name() {
        let at = "https://s3.example.org:9000";
        assert_eq!(address(at, "models", true), at);
        assert_eq!(address(&format!("{at}/"), "models", true), at);
        assert_eq!(address(at, "models", false), "https://models.s3.example.org:9000");
    }
}
