//! The gatekeeper: who calls is known before anything else about a call is looked at.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::Reception;
use super::accept::Peer;
use super::body::in_time;
use super::status::not_let_in;
use crate::audit::{Audit, Entry, What};
use crate::auth::{Caller, GuardError, ISSUER_HEADER, Token, share_of};
use crate::engine::Requester;

/// Lets callers in, and writes down whom it does not.
#[derive(Clone)]
pub struct Gatekeeper {
    /// How callers are let in now.
    reception: watch::Receiver<Reception>,
    /// Where it is written down.
    audit: Audit,
    /// How often it is, of one address.
    notes: Arc<DefaultKeyedRateLimiter<IpAddr>>,
}

/// Lines a minute about calls from one address that were not let in.
const MOST_NOTES: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
/// After so many addresses, those that call seldom are forgotten.
const MOST_ADDRESSES: usize = 10_000;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A caller.
    Caller,
    /// Nothing; one who is known learns more.
    Courtesy,
    /// Nothing.
    Nothing,
}

impl Need {
    /// Health and reflection tell nothing of anybody; where to log in must be told
    /// to those who have not.
    fn of(path: &str) -> Self {
        match path {
            "/scistream.gateway.v1.Gateway/Capabilities" => Self::Courtesy,
            _ if path.starts_with("/grpc.health.v1.") || path.starts_with("/grpc.reflection.") => Self::Nothing,
            _ => Self::Caller,
        }
    }
}

impl Gatekeeper {
    /// Has the guard of `reception` find out who calls, and writes down whom it does not let in.
    #[must_use]
    pub fn new(reception: watch::Receiver<Reception>, audit: Audit) -> Self {
        Self { reception, audit, notes: Arc::new(RateLimiter::keyed(Quota::per_minute(MOST_NOTES))) }
    }

    /// Says who calls, or what they are answered.
    async fn admit(&self, request: &http::request::Parts) -> Result<Requester, Status> {
        let peer = request.extensions.get::<Peer>();
        let address = peer.and_then(Peer::address);
        let (path, need) = (request.uri.path(), Need::of(request.uri.path()));
        let token = token_in(&request.headers);
        let Reception { guard, tls, .. } = self.reception.borrow().clone();
        let certified = peer.and_then(|peer| peer.certified(tls.as_ref()));
        let outcome = match (need, &token) {
            (Need::Courtesy, None) if certified.is_none() => guard.count_call(address).map(|()| Caller::Anyone),
            (Need::Nothing, _) => guard.count_call(address).map(|()| Caller::Anyone),
            _ => guard.admit(address, certified, token.as_ref()).await,
        };
        match outcome {
            Ok(caller) => {
                if let Some(peer) = peer.filter(|_| need == Need::Caller) {
                    peer.was_let_in();
                }
                Ok(Requester { caller, address })
            }
            Err(why @ (GuardError::Missing { .. } | GuardError::Invalid { .. })) if need == Need::Courtesy => {
                self.note(path, address, token.as_ref(), &why);
                Ok(Requester { caller: Caller::Anyone, address })
            }
            Err(why) => {
                self.note(path, address, token.as_ref(), &why);
                Err(not_let_in(&why))
            }
        }
    }

    /// What has let a call in.
    fn proof(&self, request: &http::request::Parts) -> Proof {
        let peer = request.extensions.get::<Peer>();
        match peer.filter(|peer| peer.certified(self.reception.borrow().tls.as_ref()).is_some()) {
            Some(peer) => Proof::Connection(peer.clone()),
            None => token_in(&request.headers).map_or(Proof::Nothing, Proof::Token),
        }
    }

    fn note(&self, path: &str, address: Option<IpAddr>, token: Option<&Token>, why: &GuardError) {
        // Whoever can fill a log can fill a disk.
        if let Some(address) = address
            && self.notes.check_key(&share_of(address)).is_err()
        {
            return;
        }
        if self.notes.len() > MOST_ADDRESSES {
            self.notes.retain_recent();
        }
        let inner = match why {
            GuardError::Invalid { why, .. } | GuardError::Silent { why, .. } => Some(why),
            GuardError::Missing { .. } | GuardError::TooOften { .. } => None,
        };
        let why = inner.map_or_else(|| why.to_string(), |inner| format!("{why}: {inner}"));
        tracing::info!(address = ?address, path, "not let in: {why}");
        self.audit.note(&Entry {
            allowed: Some(false),
            why: Some(why),
            address: address.map(|address| address.to_string()),
            token: token.map(ToString::to_string),
            ..Entry::of(What::Login)
        });
    }
}

/// The token that a call brings along, with what is said of where it is from.
fn token_in(headers: &HeaderMap) -> Option<Token> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let token = text(AUTHORIZATION.as_str()).and_then(Token::parse)?;
    Some(token.said_to_be_of(text(ISSUER_HEADER)))
}

impl<S> Layer<S> for Gatekeeper {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, gatekeeper: self.clone() }
    }
}

/// A service behind it.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    gatekeeper: Gatekeeper,
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        // The one that is ready is used, a fresh one takes its place.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let gatekeeper = self.gatekeeper.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match gatekeeper.admit(&parts).await {
                Ok(requester) => {
                    // Nobody behind needs it, but to ask whether it is good still.
                    let proof = gatekeeper.proof(&parts);
                    parts.headers.remove(AUTHORIZATION);
                    parts.extensions.insert(Ticket { reception: gatekeeper.reception, proof });
                    parts.extensions.insert(requester);
                    let body = in_time(parts.uri.path(), body);
                    inner.call(http::Request::from_parts(parts, body)).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// What a call was let in with, for those that last.
#[derive(Clone)]
pub(super) struct Ticket {
    reception: watch::Receiver<Reception>,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    /// The connection itself.
    Connection(Peer),
    Token(Token),
    Nothing,
}

impl Ticket {
    /// Whether it would be let in still.
    pub(super) async fn holds(&self) -> bool {
        let Reception { guard, tls, .. } = self.reception.borrow().clone();
        match &self.proof {
            Proof::Connection(peer) => peer.certified(tls.as_ref()).is_some(),
            Proof::Token(token) => guard.still_admits(token).await,
            Proof::Nothing => guard.is_open(),
        }
    }
}

/// Who makes a call that has come past the gatekeeper.
pub(super) fn requester<T>(request: &tonic::Request<T>) -> Result<Requester, Status> {
    // Fails closed should a service ever stand beside it.
    request.extensions().get::<Requester>().cloned().ok_or_else(|| Status::internal("nobody knows who calls"))
}
