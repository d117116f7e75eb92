//! One gateway's control server, as a client sees it.

use std::path::Path;
use std::time::Duration;

use scistream_proto as wire;
use tonic::metadata::errors::InvalidMetadataValue;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};
use wire::control_client::ControlClient;
use wire::gateway;
use wire::gateway::gateway_client::GatewayClient;

use super::answers::listeners;
use super::dial::{Channel, Security, dial, dial_socket};
use super::error::ClientError;
use super::half::Ask;
use crate::auth::ISSUER_HEADER;
use crate::session::{Endpoint, Role, Uid};

/// What clients send that have no token.
pub const NO_TOKEN: &str = "INVALID_TOKEN";
/// How tokens are sent (RFC 6750 section 2.1).
const BEARER: &str = "Bearer ";
/// Longer than any gateway waits for a HELLO by default.
const RENDEZVOUS_DEADLINE: Duration = Duration::from_secs(200);
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// A connection to a gateway. Clones share it.
#[derive(Debug, Clone)]
pub struct Gateway {
    name: String,
    client: ControlClient<Channel>,
    sessions: GatewayClient<Channel>,
    token: MetadataValue<Ascii>,
    /// Who made the token, for gateways that know several.
    issuer: Option<MetadataValue<Ascii>>,
}

impl Gateway {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn connect(address: &Endpoint, security: &Security) -> Result<Self, ClientError> {
        Ok(Self::over(dial(address, security).await?, address.to_string()))
    }

    /// Connects as the operator, over the unix socket in a control server's state folder.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn connect_operator(socket: &Path) -> Result<Self, ClientError> {
        Ok(Self::over(dial_socket(socket).await?, socket.display().to_string()))
    }

    fn over(channel: Channel, name: String) -> Self {
        let (client, sessions) = (ControlClient::new(channel.clone()), GatewayClient::new(channel));
        Self { name, client, sessions, token: MetadataValue::from_static(NO_TOKEN), issuer: None }
    }

    /// Sends this token instead of the word that says there is none.
    ///
    /// # Errors
    /// It cannot be sent: it holds characters that no header may.
    pub fn with_token(self, token: &str) -> Result<Self, InvalidMetadataValue> {
        self.with_credentials(&format!("{BEARER}{token}"))
    }

    /// Says along with it who made the token, so that the gateway shows it to nobody else.
    ///
    /// # Errors
    /// It cannot be sent: it holds characters that no header may.
    pub fn with_issuer(mut self, issuer: &str) -> Result<Self, InvalidMetadataValue> {
        self.issuer = Some(issuer.parse()?);
        Ok(self)
    }

    /// The same for a gateway that runs the deployed release, which takes the token alone.
    ///
    /// # Errors
    /// It cannot be sent: it holds characters that no header may.
    pub fn with_bare_token(self, token: &str) -> Result<Self, InvalidMetadataValue> {
        self.with_credentials(token)
    }

    fn with_credentials(mut self, credentials: &str) -> Result<Self, InvalidMetadataValue> {
        self.token = credentials.parse()?;
        self.token.set_sensitive(true);
        Ok(self)
    }

    /// The token that is sent, or the word that says there is none.
    #[must_use]
    pub fn token(&self) -> &str {
        let credentials = self.token.to_str().unwrap_or(NO_TOKEN);
        credentials.strip_prefix(BEARER).unwrap_or(credentials)
    }

    /// Whether the gateway runs the deployed release, by its not knowing a call of ours.
    ///
    /// # Errors
    /// [`ClientError`], when that is not what it says.
    pub async fn is_deployed_release(&self) -> Result<bool, ClientError> {
        match self.capabilities().await {
            Ok(_) => Ok(false),
            Err(ClientError::Refused { status, .. }) if status.code() == Code::Unimplemented => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// `HOST:PORT`, as it was given, or the path of the socket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// REQ. Answers once HELLO has come.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn request(&self, ask: &Ask) -> Result<wire::Response, ClientError> {
        self.can_serve(ask).await?;
        let message = wire::Request {
            uid: ask.uid.wire().into(),
            role: ask.role.as_str().into(),
            num_conn: ask.connections.into(),
            rate: ask.rate,
            lifetime_seconds: ask.lifetime.map_or(0, |lifetime| lifetime.as_secs()),
            idle_seconds: ask.idle.map_or(0, |idle| idle.as_secs()),
            sources: ask.sources.networks().iter().map(ToString::to_string).collect(),
            protection: ask.protection.map(|floor| floor.to_string()).unwrap_or_default(),
            backend: ask.backend.clone().unwrap_or_default(),
            send_buffer: ask.tcp.send_buffer.unwrap_or_default(),
            receive_buffer: ask.tcp.receive_buffer.unwrap_or_default(),
            congestion: ask.tcp.congestion.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let request = self.prepared(message, RENDEZVOUS_DEADLINE);
        let mut answer = self.answered("request a session", self.client.clone().req(request).await)?;
        answer.listeners = listeners(&self.name, answer.listeners)?;
        Ok(answer)
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
        let mut answer = self.answered("say HELLO", self.client.clone().hello(request).await)?;
        answer.listeners = listeners(&self.name, answer.listeners)?;
        Ok(answer)
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

    /// All sessions of the gateway.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn list(&self) -> Result<gateway::ListResponse, ClientError> {
        self.list_with(gateway::ListRequest::default()).await
    }

    /// All sessions of the gateway, and those that have ended.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn list_with_ended(&self) -> Result<gateway::ListResponse, ClientError> {
        self.list_with(gateway::ListRequest { ended: true }).await
    }

    async fn list_with(&self, message: gateway::ListRequest) -> Result<gateway::ListResponse, ClientError> {
        let request = self.prepared(message, CALL_DEADLINE);
        self.answered("list the sessions", self.sessions.clone().list(request).await)
    }

    /// One session, by its short id.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get(&self, id: &str) -> Result<gateway::Session, ClientError> {
        let request = self.prepared(gateway::GetRequest { id: id.into() }, CALL_DEADLINE);
        self.answered("look at the session", self.sessions.clone().get(request).await)
    }

    /// What goes through the connections of one session, or of all (an empty id).
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn flows(&self, id: &str) -> Result<Vec<gateway::SessionFlows>, ClientError> {
        let request = self.prepared(gateway::FlowsRequest { id: id.into() }, CALL_DEADLINE);
        let answer = self.answered("ask what goes through", self.sessions.clone().flows(request).await)?;
        Ok(answer.sessions)
    }

    /// Events after a sequence number (0: those to come), of one session or of all.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn watch(&self, after: u64, id: &str) -> Result<Streaming<gateway::Event>, ClientError> {
        let mut request = Request::new(gateway::WatchRequest { after, id: id.into() });
        self.sign(&mut request);
        self.answered("watch the sessions", self.sessions.clone().watch(request).await)
    }

    /// The next event of a watch; `None` when the gateway ends it.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next_event(
        &self,
        events: &mut Streaming<gateway::Event>,
    ) -> Result<Option<gateway::Event>, ClientError> {
        let next = events.message().await.map(Response::new);
        self.answered("watch the sessions", next)
    }

    /// A new lifetime for the sessions of a UID; `None`: as long as the gateway allows.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn renew(&self, uid: &Uid, lifetime: Option<Duration>) -> Result<Vec<gateway::Session>, ClientError> {
        let lifetime_seconds = lifetime.map_or(0, |lifetime| lifetime.as_secs());
        let request = self.prepared(gateway::RenewRequest { uid: uid.wire().into(), lifetime_seconds }, CALL_DEADLINE);
        let answer = self.answered("renew the session", self.sessions.clone().renew(request).await)?;
        Ok(answer.sessions)
    }

    /// RELEASE with a reason, for those who watch. Answers with how many sessions that were.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn release_because(&self, uid: &Uid, reason: &str) -> Result<u32, ClientError> {
        let message = gateway::ReleaseRequest { uid: uid.wire().into(), reason: reason.into() };
        let request = self.prepared(message, CALL_DEADLINE);
        let answer = self.answered("release the session", self.sessions.clone().release(request).await)?;
        Ok(answer.released)
    }

    /// Has the gateway take no new sessions and end the present ones, after `wait` at the latest.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn drain(&self, wait: Duration) -> Result<u32, ClientError> {
        let message = gateway::DrainRequest { wait_seconds: wait.as_secs() };
        let request = self.prepared(message, CALL_DEADLINE.saturating_add(wait));
        let answer = self.answered("drain the gateway", self.sessions.clone().drain(request).await)?;
        Ok(answer.released)
    }

    /// What the gateway is and can do.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn capabilities(&self) -> Result<gateway::CapabilitiesResponse, ClientError> {
        let request = self.prepared(gateway::CapabilitiesRequest {}, CALL_DEADLINE);
        self.answered("ask what the gateway can do", self.sessions.clone().capabilities(request).await)
    }

    /// The deployed release passes over a field that it does not know, and would let
    /// everyone in. It has no gateway service either.
    pub(super) async fn can_serve(&self, ask: &Ask) -> Result<(), ClientError> {
        if ask.sources.are_anywhere() {
            return Ok(());
        }
        match self.capabilities().await {
            Err(ClientError::Refused { status, gateway, .. }) if status.code() == Code::Unimplemented => {
                Err(ClientError::NoSources { gateway })
            }
            outcome => outcome.map(drop),
        }
    }

    fn prepared<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        self.sign(&mut request);
        request
    }

    fn sign<T>(&self, request: &mut Request<T>) {
        request.metadata_mut().insert("authorization", self.token.clone());
        if let Some(issuer) = &self.issuer {
            request.metadata_mut().insert(ISSUER_HEADER, issuer.clone());
        }
    }

    fn answered<T>(&self, doing: &'static str, outcome: Result<Response<T>, Status>) -> Result<T, ClientError> {
        outcome.map(Response::into_inner).map_err(|status| ClientError::Refused {
            doing,
            gateway: self.name.clone(),
            status: Box::new(status),
        })
    }
}
