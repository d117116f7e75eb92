//! The four calls of the contract, under the deployed name and under the draft's.

use std::net::{IpAddr, SocketAddr};

use scistream_proto as wire;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use wire::control_server::Control;
use wire::sci_stream_control_server::SciStreamControl;

use super::Reception;
use super::gatekeeper::requester;
use super::parse;
use super::status::status;
use crate::auth::Login;
use crate::engine::{Engine, Refusal, Requester};
use crate::session::{Bandwidth, ListenAddr, ReleaseReason, Role};

/// What the operator says of how this front end speaks.
#[derive(Debug, Clone)]
pub struct Manners {
    /// What peers are told instead of the address listened on.
    pub advertise: Option<IpAddr>,
    /// The most listeners that one session may ask for.
    pub max_listeners: u16,
    /// What callers are told of how to prove who they are.
    pub authentication: Authentication,
}

/// How callers may prove who they are.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    /// By name; none: whoever can connect is served.
    pub ways: Vec<String>,
    /// Where they log in.
    pub logins: Vec<Login>,
}

impl Manners {
    /// Listeners as others can reach them.
    pub(super) fn told(&self, role: Role, listeners: &[ListenAddr]) -> Vec<String> {
        let told = |listener: &ListenAddr| match self.advertise {
            Some(ip) if role == Role::Prod || listener.0.ip().is_unspecified() => {
                SocketAddr::new(ip, listener.0.port())
            }
            _ => listener.0,
        };
        listeners.iter().map(|listener| told(listener).to_string()).collect()
    }
}

/// Serves both names from one engine.
#[derive(Clone)]
pub(super) struct ControlService {
    pub(super) engine: Engine,
    pub(super) reception: watch::Receiver<Reception>,
}

impl ControlService {
    fn told(&self, role: Role, listeners: &[ListenAddr]) -> Vec<String> {
        self.reception.borrow().manners.told(role, listeners)
    }

    async fn reserve(&self, by: Requester, message: wire::Request) -> Result<wire::Response, Refusal> {
        let uid = parse::uid(&message.uid)?;
        let (digest, caller) = (uid.digest(), by.caller.clone());
        let most = self.reception.borrow().manners.max_listeners;
        let command =
            parse::reserve(by, uid, &message, most).inspect_err(|_| self.engine.spoil_request(digest, &caller))?;
        let role = command.role;
        let reserved = self.engine.reserve(command).await?;
        Ok(wire::Response {
            listeners: self.told(role, &reserved.listeners),
            prod_listeners: reserved.announced.iter().map(ToString::to_string).collect(),
            bandwidth: reserved.capacity.limit.map_or(0, Bandwidth::kilobytes_per_second),
        })
    }

    async fn announce(&self, by: Requester, message: wire::Hello) -> Result<wire::AppResponse, Refusal> {
        let uid = parse::uid(&message.uid)?;
        let (digest, caller) = (uid.digest(), by.caller.clone());
        let command = parse::announce(by, uid, &message).inspect_err(|refusal| {
            self.engine.spoil_hello(digest, parse::role(&message.role).ok(), &caller, refusal);
        })?;
        let announced = self.engine.announce(command).await?;
        let listeners = self.told(announced.role, &announced.listeners);
        Ok(match announced.role {
            Role::Prod => wire::AppResponse { message: "Sending Prod listeners...".into(), listeners: vec![] },
            Role::Cons => wire::AppResponse { message: "Sending listeners...".into(), listeners },
        })
    }

    async fn retarget(&self, by: Requester, message: wire::UpdateTargets) -> Result<wire::Response, Refusal> {
        let command = parse::retarget(by, parse::uid(&message.uid)?, &message)?;
        let role = command.role;
        let serving = self.engine.retarget(command).await?;
        Ok(wire::Response {
            listeners: self.told(role, &serving.listeners),
            prod_listeners: serving.targets.iter().map(ToString::to_string).collect(),
            ..wire::Response::default()
        })
    }

    async fn give_back(&self, by: Requester, message: wire::Release) -> Result<wire::Response, Refusal> {
        self.engine.release(&by, &parse::uid(&message.uid)?, ReleaseReason::Asked).await?;
        Ok(wire::Response::default())
    }
}

pub(super) fn answer<T>(outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|refusal| status(&refusal))
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn req(&self, request: Request<wire::Request>) -> Result<Response<wire::Response>, Status> {
        answer(self.reserve(requester(&request)?, request.into_inner()).await)
    }

    async fn hello(&self, request: Request<wire::Hello>) -> Result<Response<wire::AppResponse>, Status> {
        answer(self.announce(requester(&request)?, request.into_inner()).await)
    }

    async fn update(&self, request: Request<wire::UpdateTargets>) -> Result<Response<wire::Response>, Status> {
        answer(self.retarget(requester(&request)?, request.into_inner()).await)
    }

    async fn release(&self, request: Request<wire::Release>) -> Result<Response<wire::Response>, Status> {
        answer(self.give_back(requester(&request)?, request.into_inner()).await)
    }
}

#[tonic::async_trait]
impl SciStreamControl for ControlService {
    async fn request_stream(&self, request: Request<wire::Request>) -> Result<Response<wire::Response>, Status> {
        Control::req(self, request).await
    }

    async fn hello(&self, request: Request<wire::Hello>) -> Result<Response<wire::AppResponse>, Status> {
        Control::hello(self, request).await
    }

    async fn update_targets(&self, request: Request<wire::UpdateTargets>) -> Result<Response<wire::Response>, Status> {
        Control::update(self, request).await
    }

    async fn release_stream(&self, request: Request<wire::Release>) -> Result<Response<wire::Response>, Status> {
        Control::release(self, request).await
    }
}
