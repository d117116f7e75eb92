//! An authorization server that none of us wrote: npm's oidc-provider, as
//! `authorization_server/server.mjs` sets it up.
//!
//! Whether an access token is opaque or a JWT, of which algorithm, and for how
//! many seconds it holds, its resource says: see [`resource`].

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scistream::http::HttpClient;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use url::form_urlencoded::Serializer;

use super::browser::{Browser, Person};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/authorization_server/server.mjs");
/// Where packaging/install-authorization-servers puts it.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/authorization-server");
const DEADLINE: Duration = Duration::from_secs(60);
/// A loopback redirect of the tests' own client; nobody listens there.
const REDIRECT: &str = "http://127.0.0.1/";

/// The audience of all tokens that are asked for with [`resource`].
pub const AUDIENCE: &str = "https://gateway.example/";

/// The resource (RFC 8707) whose tokens are as the query says: `""` for opaque ones that live
/// for an hour, or any of `token=jwt`, `alg=ES256` and `seconds=2`, with `&` between them.
pub fn resource(query: &str) -> String {
    if query.is_empty() { AUDIENCE.into() } else { format!("{AUDIENCE}?{query}") }
}

/// A client of the authorization server.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub id: &'static str,
    pub secret: &'static str,
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
pub struct AuthorizationServer {
    child: Child,
    port: u16,
    http: HttpClient,
    stderr: NamedTempFile,
}

impl AuthorizationServer {
    /// Starts it on a port that is free, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// Starts it on a port, say that of one that has ended. It remembers nothing.
    pub async fn start_on(port: u16) -> Self {
        let node = Path::new(INSTALLED).join("node_modules/.bin/node");
        assert!(node.exists(), "{} is missing: packaging/install-authorization-servers", node.display());
        let stderr = NamedTempFile::new().expect("a file");
        // Its standard input ends with this process, and with that so does it.
        let mut child = Command::new(node)
            .args([SERVER, INSTALLED, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.reopen().expect("a file"))
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = timeout(DEADLINE, said.next_line()).await.expect("it is ready in time").expect("text");
        let told = || std::fs::read_to_string(stderr.path()).unwrap_or_default();
        let port = line.as_deref().and_then(|line| line.strip_prefix("ready ")).and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it said {line:?} {}", told()));
        Self { child, port, http: HttpClient::new(None).expect("TLS"), stderr }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who it says it is. Its metadata lies under `/.well-known/openid-configuration`.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address of one of its endpoints, say `token/introspection`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}/{path}", self.issuer())
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
        let fields = form(&[("token", token)]);
        let answer = self.post("token/revocation", Some(TESTS), fields, "application/x-www-form-urlencoded").await;
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

    /// Signs any claims under any header (`alg` RS256 unless it says ES256; `kid` is filled in).
    pub async fn sign(&self, header: &Value, claims: &Value) -> String {
        let told = self.tell("sign", &json!({ "header": header, "claims": claims })).await;
        told["token"].as_str().expect("a token").to_owned()
    }

    /// It goes on to accept connections, and answers nobody.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It answers again.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends it; its port refuses connections from now on.
    pub async fn end(mut self) {
        self.child.kill().await.expect("our child");
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        kill(Pid::from_raw(pid), signal).expect("our child");
    }

    async fn tell(&self, what: &str, asked: &Value) -> Value {
        let answer = self.post(&format!("_test/{what}"), None, asked.to_string(), "application/json").await;
        parsed(&answer)
    }

    /// What it answers to a public client that posts a form.
    pub async fn public(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        parsed(&self.post(path, None, form(fields), "application/x-www-form-urlencoded").await)
    }

    async fn ask(&self, path: &str, client: Client, fields: &[(&str, &str)]) -> Value {
        parsed(&self.post(path, Some(client), form(fields), "application/x-www-form-urlencoded").await)
    }

    async fn post(&self, path: &str, client: Option<Client>, body: String, kind: &str) -> Response<Bytes> {
        let mut request = Request::post(self.endpoint(path)).header(CONTENT_TYPE, kind);
        if let Some(Client { id, secret }) = client {
            let basic = openssl::base64::encode_block(format!("{id}:{secret}").as_bytes());
            request = request.header(AUTHORIZATION, format!("Basic {basic}"));
        }
        let request = request.body(Bytes::from(body)).expect("a request");
        self.http.call(request).await.unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.stderr.path()).unwrap_or_default();
            eprintln!("--- authorization server\n{said}");
        }
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn parsed(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

fn access_token(answer: &Value) -> String {
    answer["access_token"].as_str().unwrap_or_else(|| panic!("no token came: {answer}")).to_owned()
}
