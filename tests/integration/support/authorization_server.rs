//! An authorization server that none of us wrote: npm's oidc-provider, as
//! `authorization_server/server.mjs` sets it up.
//!
//! Whether an access token is opaque or a JWT, of which algorithm, and for how
//! many seconds it holds, its resource says: see [`resource`].

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use scistream_proto::gateway::Login;
use serde_json::{Value, json};

use super::browser::{Browser, Person};
pub use super::service::Client;
use super::service::{Service, access_token, form, parsed};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/authorization_server/server.mjs");
/// Where packaging/install-authorization-servers puts it.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/authorization-server");
/// A loopback redirect of the tests' own client; nobody listens there.
const REDIRECT: &str = "http://127.0.0.1/";

/// The audience of all tokens that are asked for with [`resource`].
pub const AUDIENCE: &str = "https://gateway.example/";

/// The resource (RFC 8707) whose tokens are as the query says: `""` for opaque ones that live
/// for an hour, or any of `token=jwt`, `alg=ES256` and `seconds=2`, with `&` between them.
pub fn resource(query: &str) -> String {
    if query.is_empty() { AUDIENCE.into() } else { format!("{AUDIENCE}?{query}") }
}

/// The resource server: it may introspect everybody's tokens.
pub const GATEWAY: Client = Client { id: "gateway", secret: "the-secret-of-the-gateway" };
/// Gets tokens for people and for itself. Introspects its own.
pub const TESTS: Client = Client { id: "tests", secret: "the-secret-of-the-tests" };
/// The public client that s2uc is: loopback redirect, device flow, PKCE, rotating refresh tokens.
pub const S2UC_CLIENT: &str = "s2uc";

/// What becomes of the keys that have signed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldKeys {
    /// They are still in the key set.
    Kept,
    /// They are gone from it.
    Dropped,
}

/// The running server. Ends with the test.
#[derive(Debug)]
pub struct AuthorizationServer(Service);

impl AuthorizationServer {
    /// Starts it on a port that is free, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// Starts it on a port, say that of one that has ended. It remembers nothing.
    pub async fn start_on(port: u16) -> Self {
        let node = Path::new(INSTALLED).join("node_modules/.bin/node");
        Self(Service::start(&node, &[SERVER, INSTALLED, &port.to_string()]).await)
    }

    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Who it says it is. Its metadata lies under `/.well-known/openid-configuration`.
    pub fn issuer(&self) -> String {
        self.0.base()
    }

    /// The address of one of its endpoints, say `token/introspection`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}/{path}", self.issuer())
    }

    /// What a gateway says that takes this server's tokens for [`resource`] with this query.
    pub fn offer(&self, query: &str) -> Login {
        Login {
            provider: "site".into(),
            kind: "oidc".into(),
            issuer: self.issuer(),
            client_id: S2UC_CLIENT.into(),
            scopes: ["openid", "offline_access", "scistream"].map(str::to_owned).into(),
            resource: resource(query),
            ..Login::default()
        }
    }

    /// A person's access token, by the real flow: authorization code with a login and consent.
    pub async fn token_for(&self, person: &str, scope: &str, resource: &str) -> String {
        let verifier = "a verifier that is as long as RFC 7636 asks".replace(' ', "-");
        let digest = openssl::sha::sha256(verifier.as_bytes());
        let challenge = openssl::base64::encode_block(&digest).replace('+', "-").replace('/', "_").replace('=', "");
        let query = form(&[
            ("client_id", TESTS.id),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", scope),
            ("resource", resource),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let mut browser = Browser::of(person, Person::Consents);
        let arrived = browser.visit_until(&format!("{}?{query}", self.endpoint("auth")), REDIRECT).await;
        let code = arrived.query_pairs().find(|(name, _)| name == "code");
        let (_, code) = code.unwrap_or_else(|| panic!("no code came: {arrived}"));
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", &verifier),
            ("resource", resource),
        ];
        access_token(&self.ask("token", TESTS, &fields).await)
    }

    /// A program's access token: client credentials of [`TESTS`].
    pub async fn token_of_program(&self, scope: &str, resource: &str) -> String {
        let fields = [("grant_type", "client_credentials"), ("scope", scope), ("resource", resource)];
        access_token(&self.ask("token", TESTS, &fields).await)
    }

    /// What it says of an opaque token to the gateway.
    pub async fn introspect(&self, token: &str) -> Value {
        self.ask("token/introspection", GATEWAY, &[("token", token)]).await
    }

    /// Revokes a token of [`TESTS`].
    pub async fn revoke(&self, token: &str) {
        let answer = self.0.form("token/revocation", Some(TESTS), &[("token", token)]).await;
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// From now on new keys sign.
    pub async fn rotate_keys(&self, old: OldKeys) {
        self.tell("rotate", &json!({ "keep": old == OldKeys::Kept })).await;
    }

    /// How often it was asked so far under a path, say `/token/introspection`.
    pub async fn calls(&self, path: &str) -> u64 {
        self.tell("calls", &json!({})).await[path].as_u64().unwrap_or_default()
    }

    /// From now on every answer takes so much longer.
    pub async fn slow_down(&self, by: Duration) {
        self.tell("slow", &json!({ "milliseconds": u64::try_from(by.as_millis()).expect("short") })).await;
    }

    /// From now on a device's code holds for so many seconds.
    pub async fn device_codes_hold_for(&self, seconds: u64) {
        self.tell("devices", &json!({ "seconds": seconds })).await;
    }

    /// Signs any claims under any header (`alg` RS256 unless it says ES256; `kid` is filled in).
    pub async fn sign(&self, header: &Value, claims: &Value) -> String {
        let told = self.tell("sign", &json!({ "header": header, "claims": claims })).await;
        told["token"].as_str().expect("a token").to_owned()
    }

    /// It goes on to accept connections, and answers nobody.
    pub fn pause(&self) {
        self.0.signal(Signal::SIGSTOP);
    }

    /// It answers again.
    pub fn resume(&self) {
        self.0.signal(Signal::SIGCONT);
    }

    /// Ends it; its port refuses connections from now on.
    pub async fn end(self) {
        self.0.end().await;
    }

    /// What it answers to a public client that posts a form.
    pub async fn public(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        parsed(&self.0.form(path, None, fields).await)
    }

    async fn tell(&self, what: &str, asked: &Value) -> Value {
        parsed(&self.0.json(&format!("_test/{what}"), asked).await)
    }

    async fn ask(&self, path: &str, client: Client, fields: &[(&str, &str)]) -> Value {
        parsed(&self.0.form(path, Some(client), fields).await)
    }
}
