//! The gate before every service: whose call is this, is that somebody still good, may they, and not
//! too often. `access` has the table; here it is applied, call by call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Request, Status};
use tower::{Layer, Service};
use tributary_core::digest::Digest;
use tributary_core::identity::{Identity, Role};
use tributary_core::name::ClientName;
use tributary_proto::convert::{CallerId, caller_from_wire};
use tributary_proto::fault::{retry_status, status};
use tributary_proto::v1;

use super::access::{Access, Bound, access_of};
use super::body::{Bounded, Large};
use super::calls::{Calls, Counted, Open};
use super::door::{Peer, Who, network, now_s};
use super::rates::{Notes, Rates};
use super::status::of_store;
use crate::authority::Keeper;
use crate::config::Limits;
use crate::store::{AuditEvent, By, Store};

/// How long an answer of the store about a certificate is gone by: a revocation reaches every
/// replica within it.
const VERDICT: Duration = Duration::from_secs(1);
/// Certificates whose verdict is remembered; beyond it the memory starts anew.
const VERDICTS_MAX: usize = 65_536;
/// When somebody who asks too often may ask again.
const SLOWER: Duration = Duration::from_secs(1);

/// What stands between the port and the services.
pub(super) struct Gate {
    pub(super) store: Store,
    /// None on a loopback port without an authority.
    pub(super) keeper: Option<Arc<Keeper>>,
    verdicts: Mutex<HashMap<Digest, (Instant, bool)>>,
    limits: Limits,
    rates: Rates,
    calls: Arc<Calls>,
    large: Large,
    notes: Notes,
}

/// A call that was let in.
struct Admitted {
    caller: Caller,
    /// None for a method that is in no table, on a loopback port without an authority.
    bound: Option<Bound>,
    open: Option<Open>,
}

/// Who calls, as the services see them.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Somebody on this very machine, on a loopback port without certificates.
    Local,
    /// Somebody without a certificate, and from where.
    Unknown(String),
    /// A member, its certificate, and from where; `external` where its authority is not ours.
    Member { identity: Identity, fingerprint: Digest, address: String, external: bool },
}

impl Caller {
    /// Who made a request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let caller = request.extensions().get::<Self>().cloned();
        caller.unwrap_or_else(|| Caller::Unknown("nowhere".to_owned()))
    }

    /// Whose budgets it uses up: an identity's, or those of a network without one. Nobody counts
    /// what is done on this very machine.
    pub(super) fn key(&self) -> Option<String> {
        match self {
            Caller::Local => None,
            Caller::Unknown(address) => {
                let ip = address.parse().map(network);
                Some(ip.map_or_else(|_| address.clone(), |ip| ip.to_string()))
            }
            Caller::Member { .. } => Some(self.by().who),
        }
    }

    /// As the audit names them.
    pub(super) fn by(&self) -> By {
        let (who, address) = match self {
            Caller::Local => ("local".to_owned(), "local".to_owned()),
            Caller::Unknown(address) => ("unknown".to_owned(), address.clone()),
            Caller::Member { identity, address, .. } => {
                (format!("{}/{}", identity.role, identity.name), address.clone())
            }
        };
        By { who, address }
    }
}

impl Gate {
    pub(super) fn new(store: Store, keeper: Option<Arc<Keeper>>, limits: &Limits) -> Self {
        Self {
            store,
            keeper,
            verdicts: Mutex::default(),
            limits: *limits,
            rates: Rates::new(limits),
            calls: Arc::default(),
            large: Large::default(),
            notes: Notes::default(),
        }
    }

    /// Lets a call through, or says why not.
    async fn admit(&self, peer: Option<&Peer>, path: &str) -> Result<Admitted, Status> {
        let Some(peer) = peer else { return Err(unknown("a connection of nobody")) };
        let (access, bound) = access_of(path).unzip();
        let address = peer.address();
        let caller = match peer.who() {
            Who::Local => return Ok(Admitted { caller: Caller::Local, bound, open: None }),
            Who::Unknown => Caller::Unknown(address),
            Who::Member { member, external } => Caller::Member {
                identity: member.identity.clone(),
                fingerprint: member.fingerprint,
                address,
                external: *external,
            },
        };
        self.rates.take(&caller).map_err(|()| too_often())?;
        let (of_one, most) = (self.limits.calls_per_identity_max, self.limits.calls_max);
        let key = caller.key().unwrap_or_default();
        let open = Calls::take(&self.calls, key, of_one, most).ok_or_else(too_many)?;
        match (access, peer.who()) {
            (Some(Access::Anybody), _) => {}
            (_, Who::Member { member, external }) => {
                self.good(member, *external, &caller, path).await?;
                match access {
                    Some(access) if access.allows(member.identity.role) => {}
                    Some(_) => return Err(self.denied(&caller, path).await),
                    None => return Err(unknown_method(path)),
                }
            }
            _ => return Err(unknown("no certificate")),
        }
        Ok(Admitted { caller, bound, open: Some(open) })
    }

    /// Whether a certificate that was good at the handshake still is.
    async fn good(
        &self,
        member: &crate::authority::Member,
        external: bool,
        caller: &Caller,
        path: &str,
    ) -> Result<(), Status> {
        if member.not_after_s < now_s() {
            let text = "the certificate is past: connect again with the renewed one";
            return Err(retry_status(Code::Unauthenticated, "certificate_past", text, SLOWER));
        }
        if self.verdict(member, external).await? {
            return Ok(());
        }
        let detail = format!("certificate {}", member.fingerprint);
        self.note(caller.by().refused("revoked_certificate_used", path.to_owned(), detail)).await;
        let text = "this certificate was revoked: ask an admin of the federation for a new token, \
                    and enroll again";
        Err(status(Code::Unauthenticated, "certificate_revoked", text))
    }

    async fn verdict(
        &self,
        member: &crate::authority::Member,
        external: bool,
    ) -> Result<bool, Status> {
        if let Some((at, good)) = self.lock().get(&member.fingerprint)
            && at.elapsed() < VERDICT
        {
            return Ok(*good);
        }
        let Identity { role, name, .. } = &member.identity;
        let good = if external {
            !self.store.is_revoked(*role, name).await.map_err(|error| of_store(&error))?
        } else {
            let found = self.store.certificate(member.fingerprint).await;
            let found = found.map_err(|error| of_store(&error))?;
            found.is_some_and(|row| !row.revoked && row.role == *role && row.name == *name)
        };
        let mut verdicts = self.lock();
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.clear();
        }
        verdicts.insert(member.fingerprint, (Instant::now(), good));
        Ok(good)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, (Instant, bool)>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was known, so that this replica's next call asks the store.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    async fn denied(&self, caller: &Caller, path: &str) -> Status {
        let detail = "the role may not call it".to_owned();
        self.note(caller.by().refused("denied", path.to_owned(), detail)).await;
        let who = caller.by().who;
        let text = format!("{who} may not call {path}: ask an admin for a token of another role");
        status(Code::PermissionDenied, "role_may_not", text)
    }

    /// Writes a line of the audit. Refusals of one kind by one peer are one line a minute, with how
    /// many there were; a store that fails does not hide what was answered.
    pub(super) async fn note(&self, event: AuditEvent) {
        let Some(event) = self.notes.thin(event) else { return };
        if event.refused {
            let AuditEvent { by, action, target, detail, .. } = &event;
            tracing::warn!(who = %by.who, from = %by.address, action, %target, %detail, "refused");
        }
        if let Err(error) = self.store.audit(&event).await {
            tracing::error!(%error, action = event.action, "the audit could not be written");
        }
    }

    /// The client that a participant's message names, which must be the one whose certificate it is.
    pub(super) async fn client(
        &self,
        caller: &Caller,
        named: Option<v1::Caller>,
    ) -> Result<CallerId, Status> {
        let named = caller_from_wire(named)?;
        if self.is(caller, &named.client).await {
            return Ok(named);
        }
        let text = format!(
            "the certificate is not {}'s: `name` in the client's file must be the enrolled one",
            named.client
        );
        Err(status(Code::PermissionDenied, "identity_mismatch", text))
    }

    async fn is(&self, caller: &Caller, name: &ClientName) -> bool {
        let same = match caller {
            Caller::Local => true,
            Caller::Unknown(_) => false,
            Caller::Member { identity, .. } => {
                identity.role == Role::Client && identity.name == *name
            }
        };
        if !same {
            let detail = "a message in another client's name".to_owned();
            self.note(caller.by().refused("identity_mismatch", name.to_string(), detail)).await;
        }
        same
    }
}

fn unknown(found: &str) -> Status {
    let text = format!(
        "expected a certificate of this federation, found {found}: enroll with a token of an admin"
    );
    status(Code::Unauthenticated, "certificate_needed", text)
}

fn unknown_method(path: &str) -> Status {
    status(Code::Unimplemented, "unknown_method", format!("no method {path}"))
}

fn too_often() -> Status {
    let text = "too many requests of this identity: slower";
    retry_status(Code::ResourceExhausted, "rate_limited", text, SLOWER)
}

fn too_many() -> Status {
    let text = "too many calls are open: wait for the answers of some";
    retry_status(Code::ResourceExhausted, "too_many_calls", text, SLOWER)
}

/// The gate around a service.
#[derive(Clone)]
pub(super) struct GateLayer(pub(super) Arc<Gate>);

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;
    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.0.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(super) struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        // The one that is ready goes with the call; a fresh one takes its place.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>().cloned();
            match gate.admit(peer.as_ref(), request.uri().path()).await {
                Ok(Admitted { caller, bound, open }) => {
                    request.extensions_mut().insert(caller);
                    if let Some(bound) = bound {
                        let large = gate.large.clone();
                        request = request.map(|body| Body::new(Bounded::new(body, bound, large)));
                    }
                    let answer = inner.call(request).await?;
                    Ok(match open {
                        Some(open) => answer.map(|body| Body::new(Counted::new(body, open))),
                        None => answer,
                    })
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
