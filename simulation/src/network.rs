//! The network: calls of clients to replicas, by the services themselves and without a socket. Calls are
//! lost, late, doubled, and cut off in their middle; what comes back is what its messages encode to.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::{self, StreamExt};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tributary_client::rpc::{Answer, Carry};
use tributary_coordinator::simulation::Call;

use crate::chance::Chance;
use crate::node::Node;
use crate::op::{CLIENTS, REPLICAS};

/// The operator's number among those who call.
pub(crate) const OPERATOR: usize = CLIENTS;
/// How long a connection that nobody answers hangs before it is known to be broken: keep-alive.
const SILENT_MS: u64 = 30_000;
/// How late the second of two equal calls may come.
const ECHO_MS: u64 = 8_000;
/// Longest way of a message on a good day.
const WAY_MS: u64 = 5;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What befalls calls now.
#[derive(Default)]
pub(crate) struct Weather {
    pub(crate) cuts: BTreeSet<(usize, usize)>,
    pub(crate) deaf: BTreeSet<usize>,
    pub(crate) lose: u64,
    pub(crate) repeat: u64,
    pub(crate) slow_ms: u64,
}

/// The network of one run.
pub(crate) struct Network {
    pub(crate) chance: Arc<Chance>,
    weather: Mutex<Weather>,
    /// What answers at each replica's address.
    servers: Mutex<[Option<(Node, Call)>; REPLICAS]>,
    /// Which replica each caller speaks to.
    routes: Mutex<[usize; CLIENTS + 1]>,
}

/// One call's way.
#[derive(Clone)]
struct Path {
    network: Arc<Network>,
    from: usize,
    to: usize,
    server: Node,
}

fn broken(what: &str) -> BoxError {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, what.to_owned()).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    pub(crate) fn new(chance: Arc<Chance>) -> Arc<Self> {
        let routes = std::array::from_fn(|caller| caller % REPLICAS);
        Arc::new(Self {
            chance,
            weather: Mutex::default(),
            servers: Mutex::default(),
            routes: Mutex::new(routes),
        })
    }

    pub(crate) fn weather(&self) -> MutexGuard<'_, Weather> {
        lock(&self.weather)
    }

    /// What answers at a replica's address from now on.
    pub(crate) fn serve(&self, replica: usize, server: Option<(Node, Call)>) {
        lock(&self.servers)[replica] = server;
    }

    /// A process's link.
    pub(crate) fn link(self: &Arc<Self>, from: usize, node: Node) -> Carry {
        let network = self.clone();
        Arc::new(move |request| -> Answer {
            let (network, node) = (network.clone(), node.clone());
            Box::pin(async move {
                node.pass().await;
                let answer = network.clone().call(from, request).await;
                if answer.is_err() {
                    // Whoever is in front of the replicas tries another one.
                    lock(&network.routes)[from] += 1;
                }
                node.pass().await;
                answer
            })
        })
    }

    async fn call(
        self: Arc<Self>,
        from: usize,
        request: Request<Body>,
    ) -> Result<Response<Body>, BoxError> {
        let to = lock(&self.routes)[from] % REPLICAS;
        self.trip().await;
        let server = lock(&self.servers)[to].clone();
        let Some((server, call)) = server.filter(|(node, _)| !node.is_gone()) else {
            return Err(broken("nobody listens"));
        };
        let path = Path { network: self.clone(), from, to, server };
        if !path.is_open() {
            return Err(path.silence().await);
        }
        if self.loses() {
            return Err(broken("the call was lost"));
        }
        let request = path.clone().send(request, &call).await;
        let answering = path.answered(call, request);
        let answer = tokio::select! {
            biased;
            answer = answering => answer?,
            () = path.server.ended() => return Err(broken("the replica is gone")),
        };
        self.trip().await;
        if !path.is_open() || self.weather().deaf.contains(&from) {
            return Err(path.silence().await);
        }
        if self.loses() {
            return Err(broken("the answer was lost"));
        }
        Ok(answer.map(|body| path.carried(body)))
    }

    fn loses(&self) -> bool {
        let lose = self.weather().lose;
        self.chance.percent(lose)
    }

    async fn trip(&self) {
        let slow = self.weather().slow_ms;
        self.chance.nap(WAY_MS + slow).await;
    }
}

impl Path {
    fn is_open(&self) -> bool {
        !self.network.weather().cuts.contains(&(self.from, self.to))
    }

    /// A call that nobody answers: it is refused at once, or hangs.
    async fn silence(&self) -> BoxError {
        if self.network.chance.percent(50) {
            tokio::time::sleep(Duration::from_millis(SILENT_MS)).await;
        }
        broken("no way there")
    }

    /// The request as it arrives; another one like it may arrive later.
    async fn send(self, request: Request<Body>, call: &Call) -> Request<Body> {
        let repeat = self.network.weather().repeat;
        let (parts, body) = request.into_parts();
        if !self.network.chance.percent(repeat) {
            return Request::from_parts(parts, self.carried(body));
        }
        let mut whole = BytesMut::new();
        let mut frames = Box::pin(frames(self.carried(body)));
        while let Some(Ok(frame)) = frames.next().await {
            if let Ok(data) = frame.into_data() {
                whole.extend_from_slice(&data);
            }
        }
        let whole = whole.freeze();
        let again = Request::from_parts(parts.clone(), single(whole.clone()));
        let call = call.clone();
        tokio::spawn(async move {
            self.network.chance.nap(ECHO_MS).await;
            if self.is_open() && self.server.runs().await {
                drain(call(again).await).await;
            }
        });
        Request::from_parts(parts, single(whole))
    }

    /// The services' answer. A caller that goes away takes its call with it, unless nobody can tell.
    async fn answered(
        &self,
        call: Call,
        request: Request<Body>,
    ) -> Result<Response<Body>, BoxError> {
        let server = self.server.clone();
        let work = tokio::spawn(async move {
            server.pass().await;
            call(request).await
        });
        if self.network.chance.percent(50) {
            work.await.map_err(BoxError::from)
        } else {
            AbortOnDropHandle::new(work).await.map_err(BoxError::from)
        }
    }

    /// A body on its way: piece by piece, until it is cut off.
    fn carried(&self, body: Body) -> Body {
        let path = self.clone();
        let pieces = stream::unfold(Some(Box::pin(frames(body))), move |left| {
            let path = path.clone();
            async move {
                let mut left = left?;
                let piece = left.next().await?;
                path.network.trip().await;
                if path.is_open() && !path.server.is_gone() {
                    return Some((piece, Some(left)));
                }
                let error = tonic::Status::unavailable(path.silence().await.to_string());
                Some((Err(error), None))
            }
        });
        Body::new(Pieces(Box::pin(pieces)))
    }
}

type Piece = Result<Frame<Bytes>, tonic::Status>;

/// A body's frames.
fn frames(mut body: Body) -> impl Stream<Item = Piece> + Send {
    stream::poll_fn(move |context| Pin::new(&mut body).poll_frame(context))
}

fn single(data: Bytes) -> Body {
    Body::new(Pieces(Box::pin(stream::iter([Ok(Frame::data(data))]))))
}

async fn drain(answer: Response<Body>) {
    let mut frames = Box::pin(frames(answer.into_body()));
    while let Some(Ok(_)) = frames.next().await {}
}

/// A body of frames.
struct Pieces(Pin<Box<dyn Stream<Item = Piece> + Send>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.as_mut().poll_next(context)
    }
}
