//! The tests' authorization server does what the tests of authentication count on.

use std::time::{Duration, Instant};

use http::Request;
use openssl::base64::decode_block;
use scistream::http::HttpClient;
use serde_json::{Value, json};

use crate::support::authorization_server::{AUDIENCE, AuthorizationServer, OldKeys, S2UC_CLIENT, resource};
use crate::support::browser::{Browser, Person};
use crate::support::django_server::DjangoServer;
use crate::support::eventually;
use crate::support::globus_fake::{self, GlobusFake, RESOURCE_SECRET, RESOURCE_SERVER, Spelling};

/// Header and claims of a JWT, unverified.
fn opened(token: &str) -> (Value, Value) {
    let part = |text: &str| {
        let mut text = text.replace('-', "+").replace('_', "/");
        while !text.len().is_multiple_of(4) {
            text.push('=');
        }
        serde_json::from_slice(&decode_block(&text).expect("base64")).expect("JSON")
    };
    let mut parts = token.split('.').map(str::to_owned);
    let mut next = || part(&parts.next().expect("three parts"));
    (next(), next())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorization_server_issues_and_judges_opaque_tokens() {
    let start = Instant::now();
    let server = AuthorizationServer::start().await;
    println!("the authorization server answered after {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    let token = server.token_for("alice", "openid scistream", &resource("")).await;
    println!("a login took {} ms", start.elapsed().as_millis());
    let told = server.introspect(&token).await;
    assert_eq!(told["active"], true, "{told}");
    assert_eq!((&told["sub"], &told["aud"], &told["scope"]), (&json!("alice"), &json!(AUDIENCE), &json!("scistream")));
    assert_eq!(told["iss"], server.issuer());
    assert_eq!(told["groups"], json!(["beamline-7", "operators"]));
    assert_eq!(told["email"], "alice@facility.example");
    server.revoke(&token).await;
    assert_eq!(server.introspect(&token).await, json!({ "active": false }));

    let program = server.introspect(&server.token_of_program("scistream other", &resource("")).await).await;
    assert_eq!((&program["client_id"], &program["sub"]), (&json!("tests"), &Value::Null), "{program}");
    assert_eq!(program["scope"], "scistream other");
    let brief = server.token_for("bob", "scistream", &resource("seconds=3")).await;
    assert_eq!(server.introspect(&brief).await["active"], true);
    tokio::time::timeout(Duration::from_secs(10), async { while server.introspect(&brief).await["active"] == true {} })
        .await
        .expect("a token that lives for three seconds expires");
    assert!(server.calls("/token/introspection").await >= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorization_server_signs_tokens_and_changes_its_keys() {
    let server = AuthorizationServer::start().await;
    let mut kids = Vec::new();
    for (old, alg) in [(None, "RS256"), (Some(OldKeys::Kept), "ES256"), (Some(OldKeys::Dropped), "RS256")] {
        if let Some(old) = old {
            server.rotate_keys(old).await;
        }
        let token = server.token_for("bob@far.example", "scistream", &resource(&format!("token=jwt&alg={alg}"))).await;
        let (header, claims) = opened(&token);
        assert_eq!((&header["alg"], &header["typ"]), (&json!(alg), &json!("at+jwt")));
        assert_eq!(claims["iss"], server.issuer());
        assert_eq!((&claims["aud"], &claims["sub"]), (&json!(AUDIENCE), &json!("bob@far.example")), "{claims}");
        assert_eq!((&claims["email"], &claims["groups"]), (&json!("bob@far.example"), &json!([])));
        assert!(!kids.contains(&header["kid"]), "the same key signs again");
        kids.push(header["kid"].clone());
    }
    let signed = server.sign(&json!({ "typ": "JWT", "alg": "ES256" }), &json!({ "sub": "mallory" })).await;
    assert_eq!(opened(&signed).1, json!({ "sub": "mallory" }));
    println!("{} JWTs, each by a key of its own", kids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorization_server_lets_devices_in() {
    let server = AuthorizationServer::start().await;
    for (person, outcome) in [(Person::Consents, Value::Null), (Person::Denies, json!("access_denied"))] {
        let asked = [("client_id", S2UC_CLIENT), ("scope", "scistream"), ("resource", AUDIENCE)];
        let told = server.public("device/auth", &asked).await;
        let device = told["device_code"].as_str().expect("a code");
        let kind = "urn:ietf:params:oauth:grant-type:device_code";
        let asked = [("client_id", S2UC_CLIENT), ("grant_type", kind), ("device_code", device), ("resource", AUDIENCE)];
        assert_eq!(server.public("token", &asked).await["error"], "authorization_pending");
        let page = told["verification_uri_complete"].as_str().expect("an address");
        let page = Browser::of("alice", person).visit(page).await;
        println!("{person:?}: {} {}", page.status, page.url);
        let told = server.public("token", &asked).await;
        assert_eq!(told["error"], outcome, "{told}, {}", page.text);
        assert_eq!(told["access_token"].is_string(), outcome.is_null(), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorization_server_can_be_slow_and_down() {
    let server = AuthorizationServer::start().await;
    let start = Instant::now();
    server.slow_down(Duration::from_millis(300)).await;
    server.introspect("nobody's").await;
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    server.slow_down(Duration::ZERO).await;
    server.pause();
    let asked = tokio::time::timeout(Duration::from_millis(300), server.introspect("nobody's")).await;
    assert!(asked.is_err(), "it answers while it is stopped");
    server.resume();
    server.introspect("nobody's").await;
    let port = server.port();
    server.end().await;
    eventually("its port is free", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err()).await;
    let again = AuthorizationServer::start_on(port).await;
    assert_eq!(again.introspect("nobody's").await, json!({ "active": false }));
    println!("slow, stopped, down and up again on port {port}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fake_of_globus_tells_the_fields_that_are_known_of_it() {
    let globus = GlobusFake::start().await;
    let scope = globus_fake::scope_of(RESOURCE_SERVER);
    let token = globus.token_for("alice", RESOURCE_SERVER, &scope);
    let ask = async |token: &str, secret: &str, include: &str| {
        let basic = openssl::base64::encode_block(format!("{RESOURCE_SERVER}:{secret}").as_bytes());
        let request = Request::post(globus.endpoint("/v2/oauth2/token/introspect"))
            .header("authorization", format!("Basic {basic}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}{include}").into())
            .expect("a request");
        let answer = HttpClient::new(None).expect("TLS").call(request).await.expect("an answer");
        (answer.status().as_u16(), serde_json::from_slice::<Value>(answer.body()).expect("JSON"))
    };
    let (status, told) = ask(&token, RESOURCE_SECRET, "").await;
    assert_eq!((status, &told["active"], &told["scope"]), (200, &json!(true), &json!(scope)));
    assert_eq!(told["aud"], json!(["auth.globus.org", RESOURCE_SERVER]));
    assert_eq!(told["sub"], globus_fake::identity("alice"));
    for (spelling, name) in [(Spelling::IdentitySet, "identity_set"), (Spelling::IdentitiesSet, "identities_set")] {
        globus.spell(spelling);
        let (_, told) = ask(&token, RESOURCE_SECRET, "&include=identity_set").await;
        assert_eq!(told[name].as_array().map(Vec::len), Some(2), "{told}");
    }
    assert_eq!(ask(&token, "another", "").await.0, 401);
    let elsewhere = globus.token_for("alice", "another", &globus_fake::scope_of("another"));
    globus.lifetime(Duration::ZERO);
    let expired = globus.token_for("alice", RESOURCE_SERVER, &scope);
    for token in [elsewhere, expired, "nobody's".into()] {
        assert_eq!(ask(&token, RESOURCE_SECRET, "").await, (200, json!({ "active": false })));
    }
    println!("{} introspections by the fake", globus.introspections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_authorization_server_tells_little_of_a_token() {
    let start = Instant::now();
    let server = DjangoServer::start().await;
    println!("the second authorization server answered after {} ms", start.elapsed().as_millis());
    let token = server.token("scistream other").await;
    let told = server.introspect(&token).await;
    assert_eq!(
        (&told["active"], &told["scope"], &told["client_id"]),
        (&json!(true), &json!("scistream other"), &json!("tests"))
    );
    assert!(told["exp"].is_u64() && told["aud"].is_null() && told["iss"].is_null(), "{told}");
    assert!(server.introspection().ends_with("/o/introspect/"));
    server.revoke(&token).await;
    for token in [&token, "nobody's"] {
        assert_eq!(server.introspect(token).await, json!({ "active": false }));
    }
}
