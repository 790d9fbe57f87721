//! The port itself: connections are counted, shaken hands with beside each other, and cut when their
//! certificate is revoked. A peer that is slow, silent or one of thousands takes nothing from others.

mod connection;
mod counts;

pub(super) use connection::{Peer, Who};
pub(super) use counts::network;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use crate::authority::{Held, Keeper, member_of};
use crate::config::Limits;
use crate::store::{By, StoreError};
use connection::Connection;
use counts::{Bad, Counts};

/// Connections that have shaken hands and wait for the server to take them: it takes them at once.
const READY: usize = 64;
/// How long a connection without a certificate may stay: an enrolment takes a second.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);
/// How often revocations and changes of the authority are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long calls may go on over a connection whose certificate has ended: longer than an upload.
const PAST_S: i64 = 900;
/// How long to wait when the system gives no more sockets.
const NO_SOCKET: Duration = Duration::from_millis(100);

/// What accepts.
pub(super) struct Door {
    gate: Arc<Gate>,
    limits: Limits,
    counts: Arc<Counts>,
    stop: CancellationToken,
}

impl Door {
    pub(super) fn new(gate: Arc<Gate>, limits: Limits, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { gate, limits, counts: Arc::default(), stop })
    }

    /// Accepts until stopped; what comes out has shaken hands.
    pub(super) fn open(
        self: Arc<Self>,
        listener: TcpListener,
    ) -> mpsc::Receiver<std::io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(READY);
        tokio::spawn(self.clone().watch());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = self.stop.cancelled() => return,
                };
                match accepted {
                    Ok((socket, address)) => self.clone().take(socket, address, sender.clone()),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(NO_SOCKET).await;
                    }
                }
            }
        });
        receiver
    }

    /// Takes one connection, or drops it where there are too many.
    fn take(
        self: Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        ready: mpsc::Sender<std::io::Result<Connection>>,
    ) {
        // Small answers must not wait for an acknowledgement of the ones before.
        let _ = socket.set_nodelay(true);
        // Nor must a keep-alive wait behind what a slow link has not sent.
        #[cfg(target_os = "linux")]
        let _ =
            socket2::SockRef::from(&socket).set_tcp_notsent_lowat(tributary_proto::UNSENT_BYTES);
        let Some(counted) = Counts::connection(&self.counts, self.limits.connections_max) else {
            tracing::debug!(%address, "too many connections");
            return;
        };
        if self.gate.keeper.is_none() {
            tokio::spawn(async move {
                let connection = Connection::plain(socket, address, counted);
                let _ = ready.send(Ok(connection)).await;
            });
            return;
        }
        let from = address.ip();
        let of_one = self.limits.handshakes_per_address_max;
        let Some(shaking) =
            Counts::handshake(&self.counts, from, self.limits.handshakes_max, of_one)
        else {
            tracing::debug!(%address, "too many handshakes");
            return;
        };
        tokio::spawn(async move {
            let connection = self.shake(socket, address, counted).await;
            drop(shaking);
            if let Some(connection) = connection {
                let _ = ready.send(Ok(connection)).await;
            }
        });
    }

    async fn shake(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        counted: counts::Counted,
    ) -> Option<Connection> {
        let held = self.gate.keeper.as_ref()?.held();
        let acceptor = TlsAcceptor::from(held.server.clone());
        let limit = Duration::from_secs(self.limits.handshake_timeout_s.into());
        let stream = match tokio::time::timeout(limit, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.note(address.ip(), "handshake_refused", error.to_string()).await;
                return None;
            }
            Err(_) => {
                let detail = format!("no handshake within {} s", limit.as_secs());
                self.note(address.ip(), "handshake_refused", detail).await;
                return None;
            }
        };
        let who = match whose(&stream, &held) {
            Ok(who) => who,
            Err(error) => {
                self.note(address.ip(), "foreign_certificate", error.to_string()).await;
                return None;
            }
        };
        let cut = CancellationToken::new();
        let place = match &who {
            Who::Member { member, .. } => {
                let most = self.limits.connections_per_identity_max;
                Counts::member(&self.counts, member, most, cut.clone())
            }
            _ => {
                let most = self.limits.unknown_connections_max;
                let of_one = self.limits.unknown_connections_per_address_max;
                Counts::unknown(&self.counts, address.ip(), most, of_one)
            }
        };
        let Some(place) = place else {
            // Its certificate was verified: the audit can say whose connections they are.
            let by = By { who: who.to_string(), address: address.ip().to_string() };
            let detail = "a connection more than its limit".to_owned();
            let event = by.refused("too_many_connections", "the port".to_owned(), detail);
            self.gate.note(event).await;
            return None;
        };
        if matches!(who, Who::Unknown) {
            let cut = cut.clone();
            tokio::spawn(async move {
                tokio::time::sleep(UNKNOWN_LIFE).await;
                cut.cancel();
            });
        }
        Some(Connection::tls(stream, Peer::new(who, address), cut, (counted, place)))
    }

    async fn note(&self, from: IpAddr, action: &'static str, detail: String) {
        let by = By { who: "unknown".to_owned(), address: from.to_string() };
        self.gate.note(by.refused(action, "the port".to_owned(), detail)).await;
    }

    /// Cuts the connections of revoked certificates, and sees a rotation of the authority.
    async fn watch(self: Arc<Self>) {
        let Some(keeper) = self.gate.keeper.clone() else { return };
        let mut said = Said::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.stop.cancelled() => return,
            }
            self.look(&keeper, &mut said).await;
            match self.bad().await {
                Ok(bad) => {
                    let cut = self.counts.cut(&bad);
                    if cut > 0 {
                        tracing::info!(
                            connections = cut,
                            "cut: their certificates are good no longer"
                        );
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot look for revocations"),
            }
        }
    }

    async fn bad(&self) -> Result<Bad, StoreError> {
        let store = &self.gate.store;
        Ok(Bad {
            certificates: store.revoked_certificates().await?,
            identities: store.revoked_identities().await?,
            past_s: now_s() - PAST_S,
        })
    }

    /// Reads the authority again where it changed, and says what an operator should know of it.
    async fn look(&self, keeper: &Arc<Keeper>, said: &mut Said) {
        let reading = keeper.clone();
        // It reads files: not on a thread that serves calls.
        let read = tokio::task::spawn_blocking(move || reading.refresh()).await;
        let trouble = match read {
            Ok(Ok(changed)) => {
                if let Some(detail) = changed {
                    let by = By { who: "local".to_owned(), address: "local".to_owned() };
                    self.gate.note(by.did("authority_changed", "ca".to_owned(), detail)).await;
                }
                keeper.held().warning(SystemTime::now())
            }
            Ok(Err(error)) => Some(format!("the authority cannot be read again: {error}")),
            Err(error) => Some(format!("the authority cannot be read again: {error}")),
        };
        if let Some(trouble) = said.again(trouble, Instant::now()) {
            tracing::warn!("{trouble}");
        }
    }
}

/// What was said last: the same is said again after an hour, not a second.
#[derive(Default)]
struct Said(Option<(String, Instant)>);

/// See [`Said`].
const SAY_EVERY: Duration = Duration::from_secs(3600);

impl Said {
    /// What is to be said now, of what could be said.
    fn again(&mut self, now_so: Option<String>, now: Instant) -> Option<String> {
        let Some(text) = now_so else {
            self.0 = None;
            return None;
        };
        match &self.0 {
            Some((said, at)) if *said == text && now.duration_since(*at) < SAY_EVERY => None,
            _ => {
                self.0 = Some((text.clone(), now));
                Some(text)
            }
        }
    }
}

/// Seconds since 1970.
pub(super) fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn whose(stream: &TlsStream<TcpStream>, held: &Held) -> Result<Who, crate::authority::MemberError> {
    let presented: Option<&CertificateDer<'static>> =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let Some(certificate) = presented else { return Ok(Who::Unknown) };
    let member = member_of(certificate, held.authority.federation())?;
    Ok(Who::Member { member, external: held.is_external(certificate) })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Said;

    #[test]
    fn the_same_trouble_is_said_once_an_hour() {
        let (mut said, start) = (Said::default(), Instant::now());
        let trouble = |text: &str| Some(text.to_owned());
        assert_eq!(said.again(trouble("a"), start), trouble("a"));
        let soon = start + Duration::from_secs(1);
        assert_eq!(said.again(trouble("a"), soon), None);
        assert_eq!(said.again(trouble("b"), soon), trouble("b"), "another is news");
        assert_eq!(said.again(trouble("b"), soon + super::SAY_EVERY), trouble("b"));
        assert_eq!(said.again(None, soon), None);
        assert_eq!(said.again(trouble("b"), soon), trouble("b"), "it came back");
    }
}
