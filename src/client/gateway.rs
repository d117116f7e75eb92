//! One gateway's control server, as a client sees it.

use std::time::Duration;

use scistream_proto as wire;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use wire::control_client::ControlClient;

use super::dial::{Security, dial};
use super::error::ClientError;
use crate::session::{Endpoint, Role, Uid};

/// What clients send that have no token.
const NO_TOKEN: &str = "INVALID_TOKEN";
/// Longer than any gateway waits for a HELLO by default.
const RENDEZVOUS_DEADLINE: Duration = Duration::from_secs(200);
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// A connection to a gateway. Clones share it.
#[derive(Debug, Clone)]
pub struct Gateway {
    name: String,
    client: ControlClient<Channel>,
    token: MetadataValue<Ascii>,
}

impl Gateway {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn connect(address: &Endpoint, security: &Security) -> Result<Self, ClientError> {
        let client = ControlClient::new(dial(address, security).await?);
        Ok(Self { name: address.to_string(), client, token: MetadataValue::from_static(NO_TOKEN) })
    }

    /// Sends this token instead of the word that says there is none.
    ///
    /// # Errors
    /// The token when it cannot be sent: it holds characters that no header may.
    pub fn with_token(mut self, token: &str) -> Result<Self, tonic::metadata::errors::InvalidMetadataValue> {
        self.token = token.parse()?;
        self.token.set_sensitive(true);
        Ok(self)
    }

    /// `HOST:PORT`, as it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// REQ. Answers once HELLO has come.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn request(
        &self,
        uid: &Uid,
        role: Role,
        connections: u16,
        rate: i32,
    ) -> Result<wire::Response, ClientError> {
        let message =
            wire::Request { uid: uid.wire().into(), role: role.as_str().into(), num_conn: connections.into(), rate };
        let request = self.prepared(message, RENDEZVOUS_DEADLINE);
        self.answered("request a session", self.client.clone().req(request).await)
    }

    /// HELLO.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn hello(&self, uid: &Uid, role: Role, endpoints: &[Endpoint]) -> Result<wire::AppResponse, ClientError> {
        let message = wire::Hello {
            uid: uid.wire().into(),
            prod_listeners: endpoints.iter().map(ToString::to_string).collect(),
            role: role.as_str().into(),
        };
        let request = self.prepared(message, RENDEZVOUS_DEADLINE);
        self.answered("say HELLO", self.client.clone().hello(request).await)
    }

    /// UPDATE.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn update(&self, uid: &Uid, role: Role, targets: Vec<String>) -> Result<wire::Response, ClientError> {
        let message =
            wire::UpdateTargets { uid: uid.wire().into(), remote_listeners: targets, role: role.as_str().into() };
        let request = self.prepared(message, CALL_DEADLINE);
        self.answered("start the stream", self.client.clone().update(request).await)
    }

    /// RELEASE.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn release(&self, uid: &Uid) -> Result<(), ClientError> {
        let request = self.prepared(wire::Release { uid: uid.wire().into() }, CALL_DEADLINE);
        self.answered("release the session", self.client.clone().release(request).await).map(drop)
    }

    fn prepared<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    fn answered<T>(&self, doing: &'static str, outcome: Result<Response<T>, Status>) -> Result<T, ClientError> {
        outcome.map(Response::into_inner).map_err(|status| ClientError::Refused {
            doing,
            gateway: self.name.clone(),
            status: Box::new(status),
        })
    }
}
