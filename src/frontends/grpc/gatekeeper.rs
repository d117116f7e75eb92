//! The gatekeeper: who calls is known before anything else about a call is looked at.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::accept::Peer;
use super::status::not_let_in;
use crate::audit::{Audit, Entry, What};
use crate::auth::{Caller, Guard, GuardError, Token};
use crate::engine::Requester;

/// Lets callers in, and writes down whom it does not.
#[derive(Debug, Clone)]
pub struct Gatekeeper {
    /// Who finds out who calls.
    pub guard: Guard,
    /// Where it is written down.
    pub audit: Audit,
}

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
    /// Says who calls, or what they are answered.
    async fn admit(self, request: &http::request::Parts) -> Result<Requester, Status> {
        let peer = request.extensions.get::<Peer>();
        let address = peer.and_then(Peer::address);
        let (path, need) = (request.uri.path(), Need::of(request.uri.path()));
        let header = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(Token::parse);
        let outcome = match (need, &token) {
            (Need::Nothing, _) | (Need::Courtesy, None) => self.guard.count_call(address).map(|()| Caller::Anyone),
            _ => self.guard.admit(address, peer.and_then(Peer::certified), token.as_ref()).await,
        };
        match outcome {
            Ok(caller) => {
                if let Some(peer) = peer.filter(|_| need == Need::Caller) {
                    peer.was_let_in();
                }
                Ok(Requester { caller, address })
            }
            Err(GuardError::Missing { .. } | GuardError::Invalid { .. }) if need == Need::Courtesy => {
                Ok(Requester { caller: Caller::Anyone, address })
            }
            Err(why) => {
                self.note(path, address, token.as_ref(), &why);
                Err(not_let_in(&why))
            }
        }
    }

    fn note(&self, path: &str, address: Option<std::net::IpAddr>, token: Option<&Token>, why: &GuardError) {
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

impl<S> Layer<S> for Gatekeeper {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, gatekeeper: self.clone() }
    }
}

/// A service behind it.
#[derive(Debug, Clone)]
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
                    // Nobody behind needs it.
                    parts.headers.remove(AUTHORIZATION);
                    parts.extensions.insert(requester);
                    inner.call(http::Request::from_parts(parts, body)).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// Who makes a call that has come past the gatekeeper.
pub(super) fn requester<T>(request: &tonic::Request<T>) -> Result<Requester, Status> {
    // Fails closed should a service ever stand beside it.
    request.extensions().get::<Requester>().cloned().ok_or_else(|| Status::internal("nobody knows who calls"))
}
