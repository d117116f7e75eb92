//! A FAKE of Globus Auth, since the real one cannot be run here: its addresses,
//! fields and habits as its SDK and its reference document them, and no more.
//!
//! A person "logs in" by asking for the authorization page: the fake lets
//! everybody in under the name that it was given.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use scistream_proto::gateway::Login;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The client of a gateway, as a site registers it: the resource server.
pub const RESOURCE_SERVER: &str = "c42c0dac-0a52-408e-a04f-5d31bfe0aef8";
pub const RESOURCE_SECRET: &str = "the-secret-of-the-resource-server";
/// The native client of the deployed release.
pub const NATIVE_CLIENT: &str = "4787c84e-9c55-4881-b941-cb6720cea11c";
/// Who it says it is, in tokens and on introspection.
pub const ISSUER: &str = "https://auth.globus.org";
/// Access tokens hold for two days.
const LIFETIME: Duration = Duration::from_secs(48 * 3600);

/// The scope of a gateway's tokens.
pub fn scope_of(resource_server: &str) -> String {
    format!("{ISSUER}/scopes/{resource_server}/scistream")
}

/// How an answer spells the set of a person's identities; both are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    IdentitySet,
    IdentitiesSet,
}

#[derive(Debug, Clone)]
struct Token {
    client: String,
    scope: String,
    resource_server: String,
    expires: SystemTime,
}

/// An authorization that waits for its code to be redeemed.
#[derive(Debug, Clone)]
struct Waiting {
    scope: String,
    challenge: String,
    redirect: String,
    offline: bool,
}

#[derive(Debug)]
struct Books {
    person: String,
    spelling: Spelling,
    lifetime: Duration,
    codes: HashMap<String, Waiting>,
    access: HashMap<String, Token>,
    refresh: HashMap<String, Token>,
    introspections: u64,
}

type Shared = Arc<Mutex<Books>>;
type Fields = HashMap<String, String>;

/// The running fake. Ends with the test.
#[derive(Debug)]
pub struct GlobusFake {
    address: SocketAddr,
    books: Shared,
    task: JoinHandle<()>,
}

impl GlobusFake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let books = Arc::new(Mutex::new(Books {
            person: "alice".into(),
            spelling: Spelling::IdentitySet,
            lifetime: LIFETIME,
            codes: HashMap::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            introspections: 0,
        }));
        let router = Router::new()
            .route("/v2/oauth2/authorize", get(authorize))
            .route("/v2/web/auth-code", get(show_code))
            .route("/v2/oauth2/token", post(token))
            .route("/v2/oauth2/token/introspect", post(introspect))
            .route("/v2/oauth2/token/revoke", post(revoke))
            .with_state(Arc::clone(&books));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, books, task }
    }

    /// What stands in for `https://auth.globus.org`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One of its addresses, say `/v2/oauth2/token/introspect`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.base())
    }

    /// How long access tokens hold that are issued from now on.
    pub fn lifetime(&self, lifetime: Duration) {
        locked(&self.books).lifetime = lifetime;
    }

    /// What a gateway says that takes its tokens.
    pub fn offer(&self) -> Login {
        Login {
            provider: "globus".into(),
            kind: "globus".into(),
            issuer: self.base(),
            client_id: NATIVE_CLIENT.into(),
            scopes: vec!["openid".into(), scope_of(RESOURCE_SERVER)],
            ..Login::default()
        }
    }

    /// How many tokens, access and refresh, it has issued and not forgotten.
    pub fn tokens(&self) -> (usize, usize) {
        let books = locked(&self.books);
        (books.access.len(), books.refresh.len())
    }

    pub fn spell(&self, spelling: Spelling) {
        locked(&self.books).spelling = spelling;
    }

    /// How often it was asked about a token.
    pub fn introspections(&self) -> u64 {
        locked(&self.books).introspections
    }

    /// A token of `person` for a resource server, with these scopes.
    pub fn token_for(&self, person: &str, resource_server: &str, scope: &str) -> String {
        let mut books = locked(&self.books);
        books.person = person.into();
        books.issue(NATIVE_CLIENT, resource_server, scope, false)["access_token"].as_str().expect("text").to_owned()
    }
}

impl Drop for GlobusFake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().expect("nobody panics with it")
}

fn random() -> String {
    let mut bytes = [0; 24];
    openssl::rand::rand_bytes(&mut bytes).expect("randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Books {
    /// A token object for one resource server, as the token endpoint has it.
    fn issue(&mut self, client: &str, resource_server: &str, scope: &str, offline: bool) -> Value {
        let token = Token {
            // Who it is goes with the token.
            client: format!("{client} {}", self.person),
            scope: scope.into(),
            resource_server: resource_server.into(),
            expires: SystemTime::now() + self.lifetime,
        };
        let (access, refresh) = (random(), offline.then(random));
        self.access.insert(access.clone(), token.clone());
        if let Some(refresh) = &refresh {
            self.refresh.insert(refresh.clone(), token);
        }
        json!({
            "access_token": access, "refresh_token": refresh, "scope": scope, "resource_server": resource_server,
            "expires_in": self.lifetime.as_secs(), "token_type": "Bearer",
        })
    }
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error, "errors": [{ "code": error.to_uppercase() }] }))).into_response()
}

fn field<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map_or("", String::as_str)
}

async fn authorize(State(books): State<Shared>, headers: HeaderMap, Query(asked): Query<Fields>) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let redirect = field(&asked, "redirect_uri").to_owned();
    let paste = redirect == format!("http://{host}/v2/web/auth-code");
    let must = [("client_id", NATIVE_CLIENT), ("response_type", "code"), ("code_challenge_method", "S256")];
    let wrong = must.iter().find(|(name, value)| field(&asked, name) != *value);
    // 32 bytes as base64url without padding.
    let challenge = field(&asked, "code_challenge").to_owned();
    if let Some((name, _)) = wrong {
        return (StatusCode::BAD_REQUEST, format!("{name} is wrong")).into_response();
    }
    if challenge.len() != 43 || field(&asked, "state").is_empty() || field(&asked, "scope").is_empty() {
        return (StatusCode::BAD_REQUEST, "code_challenge, state or scope is wrong").into_response();
    }
    if !paste && !redirect.starts_with("http://127.0.0.1:") {
        return (StatusCode::BAD_REQUEST, "redirect_uri is wrong").into_response();
    }
    let code = random();
    let waiting = Waiting {
        scope: field(&asked, "scope").into(),
        challenge,
        redirect: redirect.clone(),
        offline: field(&asked, "access_type") == "offline",
    };
    locked(&books).codes.insert(code.clone(), waiting);
    Redirect::to(&format!("{redirect}?code={code}&state={}", field(&asked, "state"))).into_response()
}

async fn show_code(Query(asked): Query<Fields>) -> Html<String> {
    Html(format!("<p>Native App Authorization Code</p><code>{}</code>", field(&asked, "code")))
}

async fn token(State(books): State<Shared>, Form(asked): Form<Fields>) -> Response {
    if field(&asked, "client_id") != NATIVE_CLIENT {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let mut books = locked(&books);
    match field(&asked, "grant_type") {
        "authorization_code" => redeem(&mut books, &asked),
        "refresh_token" => {
            let Some(token) = books.refresh.get(field(&asked, "refresh_token")).cloned() else {
                return refused(StatusCode::BAD_REQUEST, "invalid_grant");
            };
            let mut told = books.issue(NATIVE_CLIENT, &token.resource_server, &token.scope, false);
            // It stays as it is.
            told["refresh_token"] = json!(field(&asked, "refresh_token"));
            told["other_tokens"] = json!([]);
            Json(told).into_response()
        }
        _ => refused(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    }
}

/// A token object for each resource server; the first has the others within it.
fn redeem(books: &mut Books, asked: &Fields) -> Response {
    let Some(waiting) = books.codes.remove(field(asked, "code")) else {
        return refused(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    let digest = openssl::sha::sha256(field(asked, "code_verifier").as_bytes());
    let challenge = openssl::base64::encode_block(&digest).replace('+', "-").replace('/', "_").replace('=', "");
    if challenge != waiting.challenge || field(asked, "redirect_uri") != waiting.redirect {
        return refused(StatusCode::BAD_REQUEST, "invalid_grant");
    }
    let mut servers: Vec<(String, Vec<&str>)> = Vec::new();
    for scope in waiting.scope.split(' ') {
        let named = scope.strip_prefix(&format!("{ISSUER}/scopes/")).and_then(|rest| rest.split('/').next());
        let server = named.unwrap_or("auth.globus.org");
        match servers.iter_mut().find(|(known, _)| known == server) {
            Some((_, scopes)) => scopes.push(scope),
            None => servers.push((server.into(), vec![scope])),
        }
    }
    // Its own token comes first.
    servers.sort_by_key(|(server, _)| server != "auth.globus.org");
    let mut issued = servers
        .iter()
        .map(|(server, scopes)| books.issue(NATIVE_CLIENT, server, &scopes.join(" "), waiting.offline))
        .collect::<Vec<_>>()
        .into_iter();
    let mut told = issued.next().expect("a scope was asked for");
    told["other_tokens"] = issued.collect();
    told["state"] = json!("_default");
    Json(told).into_response()
}

async fn introspect(State(books): State<Shared>, headers: HeaderMap, Form(asked): Form<Fields>) -> Response {
    let basic = openssl::base64::encode_block(format!("{RESOURCE_SERVER}:{RESOURCE_SECRET}").as_bytes());
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shown != Some(&format!("Basic {basic}")) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let mut books = locked(&books);
    books.introspections += 1;
    let inactive = Json(json!({ "active": false })).into_response();
    let Some(token) = books.access.get(field(&asked, "token")).cloned() else { return inactive };
    if token.resource_server != RESOURCE_SERVER || token.expires <= SystemTime::now() {
        return inactive;
    }
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let expires = seconds(token.expires);
    let begun = expires - books.lifetime.as_secs();
    let (client, person) = token.client.split_once(' ').expect("as we made it");
    let subject = identity(person);
    let mut told = json!({
        "active": true, "token_type": "Bearer", "scope": token.scope, "client_id": client,
        "username": format!("{person}@facility.example"), "name": person, "email": format!("{person}@facility.example"),
        "exp": expires, "iat": begun, "nbf": begun, "sub": subject,
        "aud": ["auth.globus.org", token.resource_server], "iss": ISSUER,
    });
    if field(&asked, "include").split(',').any(|what| what == "identity_set") {
        let name = match books.spelling {
            Spelling::IdentitySet => "identity_set",
            Spelling::IdentitiesSet => "identities_set",
        };
        told[name] = json!([subject, identity(&format!("{person} elsewhere"))]);
    }
    Json(told).into_response()
}

/// The identity of a name: a UUID that is always the same.
pub fn identity(name: &str) -> String {
    let hex: String = openssl::sha::sha256(name.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

async fn revoke(State(books): State<Shared>, Form(asked): Form<Fields>) -> Response {
    if field(&asked, "client_id") != NATIVE_CLIENT {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let mut books = locked(&books);
    books.access.remove(field(&asked, "token"));
    books.refresh.remove(field(&asked, "token"));
    Json(json!({ "active": false })).into_response()
}
