//! One connection: bytes in the clear or in TLS, whose it is, and what cuts it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::counts::Counted;
use crate::authority::Member;

/// Whose connection it is.
#[derive(Debug, Clone)]
pub(in crate::grpc) enum Who {
    /// Somebody on this very machine, without certificates.
    Local,
    /// Somebody without a certificate.
    Unknown,
    /// A member; `external` where an authority of somebody else vouches for it.
    Member { member: Member, external: bool },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Local => f.write_str("local"),
            Who::Unknown => f.write_str("unknown"),
            Who::Member { member, .. } => {
                write!(f, "{}/{}", member.identity.role, member.identity.name)
            }
        }
    }
}

/// What every call of a connection knows of its peer.
#[derive(Debug, Clone)]
pub(in crate::grpc) struct Peer(Arc<(Who, SocketAddr)>);

impl Peer {
    pub(super) fn new(who: Who, address: SocketAddr) -> Self {
        Self(Arc::new((who, address)))
    }

    /// Somebody on this very machine.
    #[cfg(feature = "simulation")]
    pub(in crate::grpc) fn local() -> Self {
        Self::new(Who::Local, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(in crate::grpc) fn who(&self) -> &Who {
        &self.0.0
    }

    /// Without the port, which changes with every connection.
    pub(in crate::grpc) fn address(&self) -> String {
        self.0.1.ip().to_string()
    }
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that the server works on.
pub(in crate::grpc) struct Connection {
    socket: Socket,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _places: (Counted, Option<Counted>),
}

impl Connection {
    pub(super) fn plain(socket: TcpStream, address: SocketAddr, counted: Counted) -> Self {
        let cut = Box::pin(CancellationToken::new().cancelled_owned());
        let peer = Peer::new(Who::Local, address);
        Self { socket: Socket::Plain(socket), peer, cut, _places: (counted, None) }
    }

    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        peer: Peer,
        cut: CancellationToken,
        (counted, place): (Counted, Counted),
    ) -> Self {
        let cut = Box::pin(cut.cancelled_owned());
        let socket = Socket::Tls(Box::new(stream));
        Self { socket, peer, cut, _places: (counted, Some(place)) }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "cut: its certificate is good no longer",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
