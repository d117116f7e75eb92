//! Gateways that know their callers, and callers with tokens.

use std::fmt::Debug;

use scistream::client::{Ask, ClientError, Gateway};
use scistream::session::{Role, Uid};
use scistream_proto as wire;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status};
use wire::control_client::ControlClient;
use wire::gateway;
use wire::gateway::gateway_client::GatewayClient;
use wire::sci_stream_control_client::SciStreamControlClient;

use super::TestGateway;
use super::authorization_server::{AUDIENCE, AuthorizationServer, GATEWAY, resource};
use super::gateway::GatewayPlan;
use super::raw::channel;

/// Where the tests' gateways write down who asked for what.
pub const AUDIT_LOG: &str = "audit.log";

/// A provider that is asked about each token.
pub fn introspected(server: &AuthorizationServer) -> String {
    format!(
        "[[provider]]\nname = \"facility\"\nissuer = \"{}\"\nclient_id = \"{}\"\nclient_secret_file = \"secret\"\n\
         audience = [\"{AUDIENCE}\"]\nscopes = [\"scistream\"]\n",
        server.issuer(),
        GATEWAY.id,
    )
}

/// A provider whose tokens are JWTs.
pub fn signed(server: &AuthorizationServer) -> String {
    format!(
        "[[provider]]\nname = \"facility\"\nkind = \"jwt\"\nissuer = \"{}\"\naudience = [\"{AUDIENCE}\"]\n\
         scopes = [\"scistream\"]\n",
        server.issuer(),
    )
}

/// A rule for everybody whom a provider knows.
pub const ANYONE: &str = "[[allow]]\nwho = [\"anyone\"]\n";

/// A gateway with such a configuration file, and the flags besides.
pub fn plan(flags: &[&str], configuration: &str) -> GatewayPlan {
    let ours = ["--ssl=False", "--config", "s2cs.toml", "--audit-log", AUDIT_LOG];
    TestGateway::plan(&[&ours, flags].concat()).file("secret", GATEWAY.secret).file("s2cs.toml", configuration)
}

/// All that the audit log holds.
pub fn audit(gateway: &TestGateway) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(gateway.folder().join(AUDIT_LOG)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// A person's opaque token for the tests' gateways.
pub async fn token(server: &AuthorizationServer, person: &str) -> String {
    server.token_for(person, "scistream", &resource("")).await
}

/// A person's client of a gateway.
pub async fn client(gateway: &TestGateway, token: &str) -> Gateway {
    gateway.client().await.with_token(token).expect("a token that can be sent")
}

/// What is asked for one half with one listener.
pub fn ask(uid: &Uid, role: Role, endpoint: &str) -> Ask {
    super::tunnel::ask(uid, role, 1, vec![endpoint.parse().expect("an endpoint")])
}

/// The status of a call that was refused.
pub fn status<T: Debug>(what: &str, outcome: Result<T, ClientError>) -> Status {
    match outcome {
        Err(ClientError::Refused { status, .. }) => *status,
        other => panic!("{what}: not refused: {other:?}"),
    }
}

/// Makes every call there is, with this `authorization` (none: without any) and about
/// this UID or its PROD session, and answers with what came of each.
pub async fn every_call(
    gateway: &TestGateway,
    authorization: Option<&str>,
    uid: &str,
) -> Vec<(&'static str, Option<Status>)> {
    let channel = channel(gateway).await;
    let (mut control, mut service) = (ControlClient::new(channel.clone()), GatewayClient::new(channel.clone()));
    let mut draft = SciStreamControlClient::new(channel);
    let id = Uid::parse(uid).map_or("0123456789ab-prod".into(), |uid| super::session::id(&uid, Role::Prod));
    fn prepared<T>(message: T, authorization: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(text) = authorization {
            let value: AsciiMetadataValue = text.parse().expect("ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
    let uid = || uid.to_owned();
    let mut outcomes = Vec::new();
    macro_rules! call {
        ($name:literal, $client:ident.$method:ident, $message:expr) => {
            outcomes.push(($name, $client.$method(prepared($message, authorization)).await.err()));
        };
    }
    let endpoints = || vec!["127.0.0.1:5300".to_owned()];
    call!(
        "update",
        control.update,
        wire::UpdateTargets { uid: uid(), remote_listeners: endpoints(), role: "PROD".into() }
    );
    call!("release", control.release, wire::Release { uid: uid() });
    call!(
        "UpdateTargets",
        draft.update_targets,
        wire::UpdateTargets { uid: uid(), remote_listeners: endpoints(), role: "PROD".into() }
    );
    call!("ReleaseStream", draft.release_stream, wire::Release { uid: uid() });
    call!("list", service.list, gateway::ListRequest::default());
    call!("get", service.get, gateway::GetRequest { id: id.clone() });
    call!("flows", service.flows, gateway::FlowsRequest { id: id.clone() });
    call!("watch", service.watch, gateway::WatchRequest { after: 0, id });
    call!("renew", service.renew, gateway::RenewRequest { uid: uid(), lifetime_seconds: 9 });
    call!("release because", service.release, gateway::ReleaseRequest { uid: uid(), reason: String::new() });
    call!("drain", service.drain, gateway::DrainRequest { wait_seconds: 0 });
    // Last, since those who are let in wait for one another here.
    let request = wire::Request { uid: uid(), role: "PROD".into(), num_conn: 1, ..wire::Request::default() };
    let hello = wire::Hello { uid: uid(), prod_listeners: endpoints(), role: "PROD".into() };
    let mut other = control.clone();
    let (reserved, announced) = tokio::join!(
        control.req(prepared(request.clone(), authorization)),
        other.hello(prepared(hello.clone(), authorization))
    );
    outcomes.extend([("req", reserved.err()), ("hello", announced.err())]);
    let mut other = draft.clone();
    let (reserved, announced) = tokio::join!(
        draft.request_stream(prepared(request, authorization)),
        other.hello(prepared(hello, authorization))
    );
    outcomes.extend([("RequestStream", reserved.err()), ("Hello", announced.err())]);
    outcomes
}

/// Every one of these must have been refused so.
pub fn assert_all(outcomes: &[(&'static str, Option<Status>)], code: Code, words: &str) {
    for (call, status) in outcomes {
        let status = status.as_ref().unwrap_or_else(|| panic!("{call} was answered"));
        assert_eq!(status.code(), code, "{call}: {}", status.message());
        assert!(status.message().contains(words), "{call}: {}", status.message());
    }
}

/// A HELLO of a new UID that names this text as its endpoint, and must be refused.
pub async fn raw_hello(gateway: &TestGateway, token: &str, endpoint: &str) -> Status {
    let hello = wire::Hello { uid: super::raw::new_uid(), prod_listeners: vec![endpoint.into()], role: "PROD".into() };
    let mut request = Request::new(hello);
    request.metadata_mut().insert("authorization", token.parse().expect("ASCII"));
    ControlClient::new(channel(gateway).await).hello(request).await.expect_err(endpoint)
}

/// A look at the sessions with this `authorization`, as it is.
pub async fn raw_list(gateway: &TestGateway, authorization: &str) -> Result<gateway::ListResponse, Status> {
    let mut request = Request::new(gateway::ListRequest::default());
    request.metadata_mut().insert("authorization", authorization.parse().expect("ASCII"));
    Ok(GatewayClient::new(channel(gateway).await).list(request).await?.into_inner())
}
