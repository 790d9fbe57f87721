//! The way to a coordinator: plain on loopback, TLS 1.3 with this machine's certificate elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt};
use tributary_proto::{CONNECTION_WINDOW_BYTES, KEEPALIVE, STREAM_WINDOW_BYTES};

use super::proxy::Egress;
use crate::identity::Credential;

/// How long a connection may take, its handshake included.
const CONNECT: Duration = Duration::from_secs(5);

/// A coordinator's address that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "coordinator: expected an address such as https://fl.example.org:7443, found {found}: {why}"
)]
pub struct AddressError {
    found: String,
    why: String,
}

/// A coordinator, and how to reach it: one address, or several of its replicas.
pub struct Remote {
    endpoint: Endpoint,
    ways: Arc<Ways>,
}

/// Where a coordinator is, and which way leads there.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) address: String,
    egress: Egress,
}

impl Place {
    /// An address, or a list of its replicas', reached by this way out.
    #[must_use]
    pub fn new(address: &str, egress: Egress) -> Self {
        Self { address: address.to_owned(), egress }
    }
}

/// Reached directly.
impl From<&str> for Place {
    fn from(address: &str) -> Self {
        Self::new(address, Egress::default())
    }
}

/// Reached directly.
impl From<&String> for Place {
    fn from(address: &String) -> Self {
        Self::new(address, Egress::default())
    }
}

/// The replicas' addresses. The one that answered last is asked first; when its connection breaks,
/// the next one is.
struct Ways {
    addresses: Vec<Way>,
    next: AtomicUsize,
    tls: Option<Arc<ClientConfig>>,
    egress: Egress,
}

struct Way {
    name: Option<ServerName<'static>>,
    address: String,
}

/// The addresses of a list: `https://a:7443,https://b:7443`.
fn listed(addresses: &str) -> impl Iterator<Item = &str> {
    addresses.split(',').map(str::trim)
}

/// Whether an address (or every one of a list) asks for TLS, and so for an identity.
#[must_use]
pub fn is_secure(address: &str) -> bool {
    listed(address).all(|one| one.starts_with("https://"))
}

impl Remote {
    /// A coordinator on this very machine, without certificates.
    ///
    /// # Errors
    /// When the address is none.
    pub fn plain(address: &str) -> Result<Self, AddressError> {
        // Nothing of this machine goes out of the site.
        Self::with(&Place::from(address), None)
    }

    /// A coordinator that must prove itself to the credential's authorities, and is shown its
    /// certificate.
    ///
    /// # Errors
    /// When the address is none, or the credential cannot be used.
    pub fn secure(place: impl Into<Place>, credential: &Credential) -> Result<Self, AddressError> {
        let place = place.into();
        let wrong = |error: rustls::Error| fault(&place.address, error.to_string());
        let mut roots = RootCertStore::empty();
        for authority in credential.authorities() {
            roots.add(authority.clone()).map_err(wrong)?;
        }
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(wrong)?;
        let own = SingleCertAndKey::from(credential.certified().map_err(wrong)?);
        let config = builder.with_root_certificates(roots).with_client_cert_resolver(Arc::new(own));
        Self::with_config(&place, config)
    }

    /// A coordinator that `verifier` judges; no certificate is shown.
    pub(super) fn judged(
        place: &Place,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<Self, AddressError> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| fault(&place.address, error.to_string()))?;
        let config =
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Self::with_config(place, config)
    }

    fn with_config(place: &Place, mut config: ClientConfig) -> Result<Self, AddressError> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Each handshake verifies against what is trusted now.
        config.resumption = Resumption::disabled();
        Self::with(place, Some(Arc::new(config)))
    }

    fn with(place: &Place, tls: Option<Arc<ClientConfig>>) -> Result<Self, AddressError> {
        let mut first = None;
        let mut addresses = Vec::new();
        for address in listed(&place.address) {
            let uri: http::Uri = address
                .parse()
                .map_err(|e: http::uri::InvalidUri| fault(address, e.to_string()))?;
            let host = uri.host().unwrap_or_default();
            let Some(port) = uri.port_u16() else {
                return Err(fault(address, "the port is missing (7443?)".to_owned()));
            };
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(bare).map_err(|e| fault(address, e.to_string()));
            let name = if tls.is_some() { Some(name?) } else { None };
            addresses.push(Way { name, address: format!("{host}:{port}") });
            if first.is_none() {
                // tonic refuses https without a TLS of its own; the handshake is ours, the scheme is
                // told.
                first = Some(endpoint(&format!("http://{host}:{port}"))?.origin(uri));
            }
        }
        let endpoint = first.ok_or_else(|| fault(&place.address, "it is empty".to_owned()))?;
        let egress = place.egress.clone();
        let ways = Arc::new(Ways { addresses, next: AtomicUsize::new(0), tls, egress });
        Ok(Self { endpoint, ways })
    }

    /// Connects when first needed, and again whenever the connection breaks.
    #[must_use]
    pub fn connect_lazy(&self) -> Channel {
        let ways = self.ways.clone();
        let connector = tower::service_fn(move |_: http::Uri| ways.clone().connect());
        self.endpoint.connect_with_connector_lazy(connector)
    }

    /// Connects now.
    ///
    /// # Errors
    /// When nobody answers, or one side does not accept the other's certificate.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let ways = self.ways.clone();
        let connector = tower::service_fn(move |_: http::Uri| ways.clone().connect());
        self.endpoint.connect_with_connector(connector).await
    }
}

/// A connection, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Ways {
    /// Asks one address after the other, once around, beginning behind the one that was asked last.
    async fn connect(self: Arc<Self>) -> std::io::Result<TokioIo<Box<dyn Wire>>> {
        let mut failed = std::io::Error::other("no address");
        for _ in 0..self.addresses.len() {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
            let shaken = tokio::time::timeout(CONNECT, self.shake(&self.addresses[at])).await;
            match shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(wire) => return Ok(TokioIo::new(wire)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn shake(&self, way: &Way) -> std::io::Result<Box<dyn Wire>> {
        let socket = self.egress.connect(&way.address).await?;
        match (&self.tls, &way.name) {
            (Some(tls), Some(name)) => {
                let connector = TlsConnector::from(tls.clone());
                Ok(Box::new(connector.connect(name.clone(), socket).await?))
            }
            _ => Ok(Box::new(socket)),
        }
    }
}

pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn fault(found: &str, why: String) -> AddressError {
    AddressError { found: found.to_owned(), why }
}

fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|error| fault(address, error.to_string()))?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

/// A connection that can be exchanged for one with another certificate: new calls take the new one,
/// calls that are under way end on the old one.
#[derive(Clone)]
pub struct Link(Arc<RwLock<Carrier>>);

/// What carries calls.
#[derive(Clone)]
enum Carrier {
    Channel(Channel),
    Other(Carry),
}

/// Calls carried by something that is no socket.
pub type Carry = Arc<dyn Fn(http::Request<Body>) -> Answer + Send + Sync>;

impl Link {
    /// Begins with this connection.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self(Arc::new(RwLock::new(Carrier::Channel(channel))))
    }

    /// Calls go by this way, which no certificate belongs to.
    #[must_use]
    pub fn carried(carry: Carry) -> Self {
        Self(Arc::new(RwLock::new(Carrier::Other(carry))))
    }

    /// Goes on with another.
    pub fn exchange(&self, channel: Channel) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Carrier::Channel(channel);
    }

    fn carrier(&self) -> Carrier {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An answer that is on its way.
pub type Answer =
    std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Body>, tower::BoxError>> + Send>>;

impl Service<http::Request<Body>> for Link {
    type Response = http::Response<Body>;
    type Error = tower::BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The connection of the moment is asked for when the call is made.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        match self.carrier() {
            Carrier::Channel(channel) => {
                Box::pin(async move { Ok(channel.oneshot(request).await?) })
            }
            Carrier::Other(carry) => carry(request),
        }
    }
}
