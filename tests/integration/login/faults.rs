//! What must not log anybody in, and what must not be told.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect};
use bytes::Bytes;
use http::Request;
use scistream::http::HttpClient;
use scistream_proto::gateway::Login;
use serde_json::json;
use tokio::net::TcpListener;
use url::Url;

use super::{kept, logged_in, text};
use crate::support::authorization_server::AuthorizationServer;
use crate::support::browser::{Browser, Person};
use crate::support::command::Ran;
use crate::support::gateway::S2UC;
use crate::support::telling_gateway::TellingGateway;
use crate::support::user::{Typed, User};

struct Begun {
    server: AuthorizationServer,
    user: User,
    login: Typed,
    page: String,
    redirect: String,
}

/// A login in a browser that waits for its answer.
async fn begun() -> Begun {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("")]).await;
    let user = User::new();
    let arguments = ["login", "--s2cs", &gateway.address(), "--ssl=False", "--flow", "loopback", "--no-browser"];
    let mut login = user.begin(S2UC, &arguments);
    let page = login.page().await;
    let parsed = Url::parse(&page).expect("an address");
    let redirect = parsed.query_pairs().find(|(name, _)| name == "redirect_uri").expect("it says where to").1.into();
    Begun { server, user, login, page, redirect }
}

async fn get(address: &str) -> (u16, String) {
    let request = Request::get(address).body(Bytes::new()).expect("a request");
    let answer = HttpClient::new(None).expect("TLS").call(request).await.expect("an answer");
    (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
}

/// What becomes of a parameter, by its name.
type Change = fn(&str, &str) -> Option<String>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_tampered_with_is_refused() {
    let changes: [(&str, Change, &str); 3] = [
        ("wrong state", |name, value| Some(if name == "state" { format!("{value}x") } else { value.into() }), "state"),
        ("no state", |name, value| (name != "state").then(|| value.into()), "state"),
        (
            "another issuer",
            |name, value| Some(if name == "iss" { "https://evil.example".into() } else { value.into() }),
            "evil.example",
        ),
    ];
    for (what, change, why) in changes {
        let Begun { server, user, login, page, redirect } = begun().await;
        // An icon is no answer.
        assert_eq!(get(&format!("{redirect}favicon.ico")).await.0, 404);
        let mut arrived = Browser::of("alice", Person::Consents).visit_until(&page, &redirect).await;
        assert!(arrived.query_pairs().any(|(name, _)| name == "iss"), "RFC 9207: {arrived}");
        let pairs: Vec<_> = arrived.query_pairs().into_owned().collect();
        let changed = pairs.iter().filter_map(|(name, value)| Some((name.clone(), change(name, value)?)));
        arrived.set_query(None);
        arrived.query_pairs_mut().extend_pairs(changed);
        let (status, shown) = get(arrived.as_str()).await;
        assert_eq!(status, 400, "{what}: {shown}");
        let said = login.end().await.failed(1);
        assert!(said.contains(why), "{what}: {said}");
        assert!(!user.store().exists(), "{what}: something was kept");
        assert_eq!(server.calls("/token").await, 0, "{what}: the code was used");
        println!("{what}: {}", said.lines().last().unwrap_or_default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_says_no_is_not_logged_in() {
    let Begun { server: _server, user, login, page, .. } = begun().await;
    let shown = Browser::of("alice", Person::Denies).visit(&page).await;
    assert_eq!(shown.status, 400, "{shown:?}");
    let said = login.end().await.failed(1);
    assert!(said.contains("access_denied: the person said no"), "{said}");
    assert!(!user.store().exists(), "something was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_nobody_sees_through_ends() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("")]).await;
    let user = User::new();
    let address = gateway.address();
    let arguments =
        ["login", "--s2cs", &address, "--ssl=False", "--flow", "loopback", "--no-browser", "--wait", "1", "--json"];
    let start = Instant::now();
    let ended = user.s2uc(&arguments).await;
    assert_eq!((ended.code, &ended.json()["error"]["code"]), (Some(1), &json!("LOGIN")), "{ended:?}");
    println!("given up after {} ms", start.elapsed().as_millis());
    let refused = user.s2uc(&["login", "--s2cs", &gateway.address(), "--ssl=False", "--flow", "paste"]).await;
    assert!(refused.failed(1).contains("find a code"), "{refused:?}");
}

async fn tried(offer: Login) -> (Ran, Duration) {
    let gateway = TellingGateway::start(vec![offer]).await;
    let user = User::new();
    let start = Instant::now();
    let ran = user.s2uc(&["login", "--s2cs", &gateway.address(), "--ssl=False", "--flow", "device"]).await;
    assert!(!user.store().exists(), "something was kept");
    (ran, start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_or_slow_is_named() {
    let server = AuthorizationServer::start().await;
    server.pause();
    let (slow, took) = tried(server.offer("")).await;
    let said = slow.failed(1);
    assert!(said.contains("127.0.0.1: it does not answer within 10 s"), "{said}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    println!("slow: given up after {} ms: {}", took.as_millis(), said.trim_end());
    server.resume();
    let offer = server.offer("");
    server.end().await;
    let (down, took) = tried(offer).await;
    let said = down.failed(1);
    assert!(said.contains("reach 127.0.0.1") && said.contains("refused"), "{said}");
    println!("down: told after {} ms: {}", took.as_millis(), said.trim_end());
}

/// Something on the web that gives everybody the same answer.
async fn something<R: IntoResponse + Clone + Send + Sync + 'static>(answer: R) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let router = Router::new().fallback(move || {
        let answer = answer.clone();
        async move { answer }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    format!("http://{address}")
}

fn oidc(issuer: String) -> Login {
    Login { kind: "oidc".into(), issuer, client_id: "s2uc".into(), ..Login::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_is_refused() {
    let page = Html("<h1>Please log in to the network</h1>");
    let long = "x".repeat(10 << 20);
    let other =
        || json!({ "issuer": "https://other.example", "token_endpoint": "https://other.example/t" }).to_string();
    let issuers = [
        (something(page).await, "no JSON"),
        (something(long.clone()).await, "longer than 1048576 bytes"),
        (something(Redirect::temporary("http://127.0.0.1:1/")).await, "it answers 307"),
        (something((StatusCode::INTERNAL_SERVER_ERROR, "")).await, "it answers 500"),
        (something(other()).await, "it says that it is https://other.example"),
        ("http://198.51.100.1".into(), "not https"),
    ];
    for (issuer, why) in issuers {
        let (ran, took) = tried(oidc(issuer)).await;
        let said = ran.failed(1);
        assert!(said.contains(why), "{why}: {said}");
        println!("metadata, {} ms: {}", took.as_millis(), said.trim_end());
    }
    let answers: [(String, &str); 4] = [
        (something(page).await, "none that OAuth has"),
        (something(long).await, "longer than 1048576 bytes"),
        (something(Redirect::temporary("http://127.0.0.1:1/")).await, "none that OAuth has"),
        (
            something((StatusCode::BAD_REQUEST, r#"{"error":"invalid_client","error_description":"no\u001b[2Jno"}"#))
                .await,
            "invalid_client: no[2Jno",
        ),
    ];
    for (issuer, why) in answers {
        let endpoint = |path: &str| format!("{issuer}/{path}");
        let (token_endpoint, device) = (endpoint("token"), endpoint("device"));
        let offer = Login { token_endpoint, device_authorization_endpoint: device, ..oidc(issuer.clone()) };
        let (ran, took) = tried(offer).await;
        let said = ran.failed(1);
        assert!(said.contains(why), "{why}: {said}");
        println!("endpoint, {} ms: {}", took.as_millis(), said.trim_end());
    }
    let (ran, _) = tried(Login { kind: "kerberos".into(), ..oidc("https://login.example".into()) }).await;
    assert!(ran.failed(1).contains("does not know its kind"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_cannot_send_codes_elsewhere() {
    let (server, thief) = (AuthorizationServer::start().await, AuthorizationServer::start().await);
    let mut offer = server.offer("");
    offer.authorization_endpoint = server.endpoint("auth");
    offer.token_endpoint = thief.endpoint("token");
    let (ran, _) = tried(offer).await;
    let said = ran.failed(1);
    assert!(said.contains("is not at"), "{said}");
    assert_eq!((server.calls("/token").await, thief.calls("/token").await), (0, 0));
    println!("{}", said.trim_end());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_fails_is_told_and_loses_nothing() {
    let (server, gateway, user) = logged_in("seconds=1").await;
    let list = ["list", "--s2cs", &gateway.address(), "--ssl=False"];
    let entry = kept(&user);
    let access = text(&entry["access_token"]).to_owned();
    let end = UNIX_EPOCH + Duration::from_secs(entry["expires"].as_u64().expect("it has an end"));
    // By the clock of either: they count whole seconds, from different moments.
    tokio::time::timeout(Duration::from_secs(10), async {
        while server.introspect(&access).await["active"] == true || SystemTime::now() < end {}
    })
    .await
    .expect("it expires");
    gateway.calls();
    let port = server.port();
    server.end().await;
    let said = user.s2uc(&list).await.failed(1);
    assert!(said.contains("reach 127.0.0.1"), "{said}");
    assert_eq!(kept(&user), entry);
    // The same place, but it knows nothing of the login.
    let _forgetful = AuthorizationServer::start_on(port).await;
    let said = user.s2uc(&list).await.failed(1);
    assert!(said.contains("invalid_grant") && said.contains("log in again"), "{said}");
    assert!(!gateway.calls().iter().any(|(name, _)| *name == "list"), "an expired token was sent");
    let told = user.s2uc(&["logout"]).await;
    assert!(told.succeeded().contains("its tokens hold no more"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_without_the_provider_forgets_and_says_so() {
    let (server, _gateway, user) = logged_in("").await;
    server.end().await;
    let said = user.s2uc(&["logout"]).await.failed(1);
    assert!(said.contains("reach 127.0.0.1") && said.contains("it holds for"), "{said}");
    user.s2uc(&["check-auth"]).await.failed(1);
    println!("{}", said.trim_end());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_in_no_output_log_or_process_list() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("seconds=30")]).await;
    let mut user = User::new();
    user.set("RUST_LOG", "trace");
    let address = gateway.address();
    let at = ["--s2cs", address.as_str(), "--ssl=False"];
    let mut login = user.begin(S2UC, &[["login", "--flow", "loopback", "--no-browser"].as_slice(), &at].concat());
    let page = login.page().await;
    let parsed = Url::parse(&page).expect("an address");
    let redirect = parsed.query_pairs().find(|(name, _)| name == "redirect_uri").expect("it says where to").1;
    let arrived = Browser::of("alice", Person::Consents).visit_until(&page, &redirect).await;
    let code = arrived.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned();
    get(arrived.as_str()).await;
    let mut secrets = vec![code];
    let mut said = vec![login.end().await];
    let mut learn = || {
        let entry = kept(&user);
        secrets.extend(["access_token", "refresh_token"].map(|name| text(&entry[name]).to_owned()));
    };
    learn();
    for command in [["list"].as_slice(), &["watch"], &["check-auth"], &["check-auth", "--json"]] {
        let typed = user.begin(S2UC, &[command, &at].concat());
        let listed = fs::read_to_string(format!("/proc/{}/cmdline", typed.id())).unwrap_or_default();
        said.push(typed.end().await);
        learn();
        said.push(Ran { code: None, stdout: listed, stderr: String::new() });
    }
    said.push(user.s2uc(&["logout"]).await);
    secrets.sort();
    secrets.dedup();
    let all: String = said.iter().map(|ran| format!("{}{}", ran.stdout, ran.stderr)).collect();
    assert!(all.contains("TRACE"), "the log is not as talkative as it can be");
    for secret in &secrets {
        assert!(secret.len() > 20 && !all.contains(secret), "a secret was told");
    }
    println!("{} secrets in none of {} bytes of output", secrets.len(), all.len());
}
