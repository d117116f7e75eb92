//! Logging in by each flow, and out again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{kept, logged_in, text};
use crate::support::authorization_server::{AUDIENCE, AuthorizationServer};
use crate::support::browser::{Browser, Person};
use crate::support::eventually;
use crate::support::gateway::S2UC;
use crate::support::telling_gateway::TellingGateway;
use crate::support::user::User;

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_on_this_host_logs_in_and_logout_revokes() {
    let (server, gateway, user) = logged_in("").await;
    let entry = kept(&user);
    let access = text(&entry["access_token"]);
    let told = server.introspect(access).await;
    assert_eq!((&told["active"], &told["sub"], &told["aud"]), (&json!(true), &json!("alice"), &json!(AUDIENCE)));
    assert_eq!(told["scope"], "scistream");
    assert_eq!((mode(&user.store()), mode(user.store().parent().expect("its folder"))), (0o600, 0o700));

    let checked = user.s2uc(&["check-auth", "--s2cs", &gateway.address(), "--json"]).await;
    checked.succeeded();
    let login = &checked.json()["logins"][0];
    assert_eq!((&login["who"], &login["valid"], &login["refreshable"]), (&json!("alice"), &json!(true), &json!(true)));
    assert_eq!(login["gateways"], json!([gateway.address()]));
    let checked = user.s2uc(&["check-auth", "--ip", "127.0.0.1"]).await;
    let said = checked.succeeded();
    assert!(said.contains("who       alice") && !said.contains(access), "{said}");
    user.s2uc(&["check-auth", "--ip", "192.0.2.1"]).await.failed(1);
    let printed = user.s2uc(&["check-auth", "--print-token"]).await;
    assert_eq!(printed.succeeded().trim_end(), access);

    let refresh = text(&entry["refresh_token"]);
    assert_eq!(server.introspect(refresh).await["active"], true);
    let start = Instant::now();
    let left = user.s2uc(&["logout", "--s2cs", &gateway.address(), "--json"]).await;
    left.succeeded();
    assert_eq!(left.json()["logged_out"][0]["revoked"], true);
    println!("logged out after {} ms", start.elapsed().as_millis());
    for token in [access, refresh] {
        assert_eq!(server.introspect(token).await, json!({ "active": false }));
    }
    let store = fs::read_to_string(user.store()).expect("it is there");
    assert!(!store.contains(access) && !store.contains(refresh) && !store.contains(&gateway.address()), "{store}");
    user.s2uc(&["check-auth"]).await.failed(1);
    user.s2uc(&["logout"]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_browser_is_opened_where_there_is_one() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("token=jwt")]).await;
    let mut user = User::new();
    let (program, opened) = (user.home().join("browser"), user.home().join("opened"));
    let script = format!("#!/bin/sh\nprintf %s \"$1\" >{}.new\nmv {0}.new {0}\n", opened.display());
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    user.set("BROWSER", program.to_str().expect("a plain path"));
    let login = user.begin(S2UC, &["login", "--s2cs", &gateway.address(), "--ssl=False", "--json"]);
    eventually("the browser is opened", || opened.exists()).await;
    let page = fs::read_to_string(&opened).expect("an address");
    Browser::of("bob", Person::Consents).visit(&page).await;
    let ended = login.end().await;
    ended.succeeded();
    assert_eq!((&ended.json()["who"], &ended.json()["refreshable"]), (&json!("bob"), &json!(true)));
    // A signed token holds until it ends, whoever is asked; the refresh token does not.
    let refresh = kept(&user)["refresh_token"].clone();
    let left = user.s2uc(&["logout"]).await;
    assert!(left.succeeded().contains("cannot be revoked"), "{left:?}");
    assert_eq!(server.introspect(text(&refresh)).await, json!({ "active": false }));
    println!("opened {page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_confirmed_elsewhere_logs_in() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("")]).await;
    let user = User::new();
    // No display, no browser: the device flow is what is left.
    let start = Instant::now();
    let mut login = user.begin(S2UC, &["login", "--s2cs", &gateway.address(), "--ssl=False"]);
    let page = login.page().await;
    // Its first question is answered with "pending".
    let asked = async { while server.calls("/token").await == 0 {} };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it asks");
    let page = Browser::of("carol", Person::Consents).visit(&page).await;
    assert_eq!(page.status, 200, "{page:?}");
    let ended = login.end().await;
    assert!(ended.succeeded().contains("logged in at"), "{ended:?}");
    println!(
        "a device logged in after {} ms, by {} questions",
        start.elapsed().as_millis(),
        server.calls("/token").await
    );
    assert!(server.calls("/token").await >= 2, "it was never told to wait");
    let entry = kept(&user);
    assert_eq!(server.introspect(text(&entry["access_token"])).await["sub"], "carol");
    assert!(entry["refresh_token"].is_string(), "{entry}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_is_denied_or_expires_logs_nobody_in() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("")]).await;
    let address = gateway.address();
    let user = User::new();
    let arguments = ["login", "--s2cs", &address, "--ssl=False", "--flow", "device"];
    let mut denied = user.begin(S2UC, &arguments);
    let page = denied.page().await;
    Browser::of("mallory", Person::Denies).visit(&page).await;
    server.device_codes_hold_for(1).await;
    let mut expired = user.begin(S2UC, &arguments);
    expired.page().await;
    let (denied, expired) = tokio::join!(denied.end(), expired.end());
    let (denied, expired) = (denied.failed(1), expired.failed(1));
    assert!(denied.contains("access_denied"), "{denied}");
    assert!(expired.contains("expired_token"), "{expired}");
    assert!(!user.store().exists(), "something was kept");
    println!("{}\n{}", denied.lines().last().unwrap_or_default(), expired.lines().last().unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_reached_is_pasted() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("")]).await;
    let user = User::new();
    let mut login = user.begin(S2UC, &["login", "--s2cs", &gateway.address(), "--ssl=False", "--flow", "paste"]);
    let page = login.page().await;
    let redirect = url::Url::parse(&page).expect("an address");
    let redirect = redirect.query_pairs().find(|(name, _)| name == "redirect_uri").expect("it says where to").1;
    // On the person's own machine nobody listens there.
    let arrived = Browser::of("dave", Person::Consents).visit_until(&page, &redirect).await;
    login.types(arrived.as_str()).await;
    login.end().await.succeeded();
    assert_eq!(server.introspect(text(&kept(&user)["access_token"])).await["sub"], "dave");
    println!("pasted an address with {} characters", arrived.as_str().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_the_sites_own_shows_the_code() {
    let server = AuthorizationServer::start().await;
    let mut offer = server.offer("");
    offer.paste_redirect_uri = server.endpoint("_test/paste");
    let gateway = TellingGateway::start(vec![offer]).await;
    let user = User::new();
    let mut login = user.begin(S2UC, &["login", "--s2cs", &gateway.address(), "--ssl=False", "--flow", "paste"]);
    let page = Browser::of("erin", Person::Consents).visit(&login.page().await).await;
    let code = page.text.split("<code>").nth(1).and_then(|rest| rest.split('<').next()).expect("a code");
    login.types(code).await;
    login.end().await.succeeded();
    assert_eq!(server.introspect(text(&kept(&user)["access_token"])).await["sub"], "erin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_providers_is_chosen() {
    let (first, second) = (AuthorizationServer::start().await, AuthorizationServer::start().await);
    let mut other = second.offer("");
    other.provider = "other".into();
    let gateway = TellingGateway::start(vec![first.offer(""), other]).await;
    let user = User::new();
    let address = gateway.address();
    let arguments = ["login", "--s2cs", &address, "--ssl=False", "--no-browser", "--flow", "loopback"];
    let undecided = user.s2uc(&arguments).await.failed(2);
    assert!(undecided.contains("--provider: site, other"), "{undecided}");
    let unknown = user.s2uc(&[arguments.as_slice(), &["--provider", "third"]].concat()).await.failed(2);
    assert!(unknown.contains("no third"), "{unknown}");
    let mut login = user.begin(S2UC, &[arguments.as_slice(), &["--provider", "other"]].concat());
    Browser::of("frank", Person::Consents).visit(&login.page().await).await;
    login.end().await.succeeded();
    assert_eq!(kept(&user)["purpose"]["issuer"], second.issuer());
    let open = TellingGateway::open_to_all().await;
    let needless = user.s2uc(&["login", "--s2cs", &open.address(), "--ssl=False"]).await;
    assert!(needless.succeeded().contains("needs no login"), "{needless:?}");
    tokio::time::timeout(Duration::from_secs(1), first.end()).await.expect("it ends");
}
