//! Who calls: real authorization servers, and every way in which a token may be bad.

use std::time::{Duration, Instant, SystemTime};

use scistream::client::{ClientError, Gateway, Security};
use scistream::session::{Role, Uid};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::app::First;
use crate::support::authority::{Authority, ClientFiles};
use crate::support::authorization_server::{AUDIENCE, AuthorizationServer, OldKeys, resource};
use crate::support::command::run;
use crate::support::django_server::{DjangoServer, GATEWAY};
use crate::support::gateway::{S2CS, S2UC};
use crate::support::globus_fake::{self, GlobusFake, Spelling};
use crate::support::guarded::{
    ANYONE, ask, assert_all, client, every_call, introspected, plan, raw_list, signed, status, token,
};
use crate::support::raw::new_uid;
use crate::support::{App, TestGateway, Tunnel, exchange};

/// A revoked token may be taken for good for so long.
const MEMORY: Duration = Duration::from_secs(30);

/// What a gateway says to a token.
async fn verdict(gateway: &TestGateway, token: &str) -> Result<(), (Code, String)> {
    match client(gateway, token).await.list().await {
        Ok(_) => Ok(()),
        Err(ClientError::Refused { status, .. }) => Err((status.code(), status.message().to_owned())),
        Err(e) => panic!("no answer: {e}"),
    }
}

async fn assert_bad(gateway: &TestGateway, what: &str, token: &str) {
    let (code, message) = verdict(gateway, token).await.expect_err(what);
    assert_eq!(code, Code::Unauthenticated, "{what}: {message}");
    assert!(message.contains("Authentication token is invalid"), "{what}: {message}");
    assert!(!message.contains(token), "{what}: the token is told");
}

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    i64::try_from(now).expect("soon") + seconds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_good_token_no_call_tells_anything() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&["--max-bad-tokens", "10000"], &(introspected(&server) + ANYONE)).start().await;
    let app = App::start().await;
    let (uid, alice) = (Uid::random().expect("randomness"), client(&gateway, &token(&server, "alice").await).await);
    ask(&uid, Role::Prod, &app.endpoint()).open(&alice, None).await.expect("alice's session");
    let mut calls = 0;
    // One that is there, one that is not, and one that is none: nobody can tell them apart.
    for uid in [uid.wire(), &new_uid(), "../../x"] {
        for (authorization, words) in [
            (None, "AUTH_ERROR: Authentication token is missing for scope gateway"),
            (Some("INVALID_TOKEN"), "AUTH_ERROR: Authentication token is missing"),
            (Some("Basic Z2F0ZXdheQ=="), "AUTH_ERROR: Authentication token is missing"),
            (Some("guessed"), "AUTH_ERROR: Authentication token is invalid for scope gateway"),
            (Some("Bearer guessed"), "AUTH_ERROR: Authentication token is invalid"),
        ] {
            let outcomes = every_call(&gateway, authorization, uid).await;
            assert_all(&outcomes, Code::Unauthenticated, words);
            calls += outcomes.len();
        }
    }
    let told = gateway.client().await.capabilities().await.expect("where to log in is told to anyone");
    assert_eq!((told.authentication, told.backend.as_str()), (vec!["facility".to_owned()], ""), "more is told");
    assert_eq!(alice.list().await.expect("listed").sessions.len(), 1, "a stranger did something");
    println!("{calls} calls without a good token: every one UNAUTHENTICATED, in the same words for every UID");
    alice.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opaque_tokens_are_judged_by_the_server_that_made_them() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&[], &(introspected(&server) + ANYONE)).start().await;
    let bare = token(&server, "alice").await;
    for authorization in [bare.clone(), format!("Bearer {bare}"), format!("bearer {bare}")] {
        raw_list(&gateway, &authorization).await.expect("as deployed clients send it, and as RFC 6750 has it");
    }

    assert_bad(&gateway, "of no subject", &server.token_of_program("scistream", &resource("")).await).await;
    assert_bad(&gateway, "another scope", &server.token_for("alice", "other", &resource("")).await).await;
    let elsewhere = server.token_for("alice", "scistream", "https://other.example/").await;
    assert_bad(&gateway, "another audience", &elsewhere).await;
    let brief = server.token_for("alice", "scistream", &resource("seconds=1")).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.introspect(&brief).await["active"] == true {
        assert!(Instant::now() < deadline, "it never expires");
    }
    assert_bad(&gateway, "expired", &brief).await;
    let revoked = token(&server, "bob").await;
    server.revoke(&revoked).await;
    assert_bad(&gateway, "revoked", &revoked).await;
    assert_bad(&gateway, "nobody's", "0123456789abcdef").await;
    let jwt = server.token_for("alice", "scistream", &resource("token=jwt")).await;
    assert_bad(&gateway, "a JWT of a server that is asked about opaque ones", &jwt).await;
    println!("3 spellings of a good token taken, 7 bad ones refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens_are_judged_by_their_signature_and_claims() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&["--max-bad-tokens", "10000"], &(signed(&server) + ANYONE)).start().await;
    for algorithm in ["RS256", "ES256"] {
        let good = server.token_for("alice", "scistream", &resource(&format!("token=jwt&alg={algorithm}"))).await;
        assert_eq!(verdict(&gateway, &good).await, Ok(()), "{algorithm}");
    }
    let claims = json!({
        "iss": server.issuer(), "aud": AUDIENCE, "sub": "alice", "client_id": "x", "jti": "x",
        "scope": "scistream", "iat": in_seconds(0), "exp": in_seconds(60),
    });
    let header = json!({ "typ": "at+jwt" });
    let changed = |key: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        claims
    };
    assert_eq!(verdict(&gateway, &server.sign(&header, &claims).await).await, Ok(()), "what the rest differs from");
    let mut refused = 0;
    for (what, header, claims) in [
        ("expired", header.clone(), changed("exp", json!(in_seconds(-60)))),
        ("without an end", header.clone(), changed("exp", json!(null))),
        ("not yet valid", header.clone(), changed("nbf", json!(in_seconds(60)))),
        ("another audience", header.clone(), changed("aud", json!("https://other.example/"))),
        ("no audience", header.clone(), changed("aud", json!(null))),
        ("another issuer", header.clone(), changed("iss", json!("https://evil.example"))),
        ("no issuer", header.clone(), changed("iss", json!(null))),
        ("another scope", header.clone(), changed("scope", json!("other"))),
        ("nobody's", header.clone(), changed("sub", json!(null))),
        ("an ID token", json!({ "typ": "JWT" }), claims.clone()),
        ("no type", json!({}), claims.clone()),
        ("a key that is not there", json!({ "typ": "at+jwt", "kid": "other" }), claims.clone()),
    ] {
        assert_bad(&gateway, what, &server.sign(&header, &claims).await).await;
        refused += 1;
    }
    let good = server.sign(&header, &claims).await;
    let parts: Vec<&str> = good.split('.').collect();
    let encoded = |text: &str| {
        openssl::base64::encode_block(text.as_bytes()).replace('+', "-").replace('/', "_").replace('=', "")
    };
    let none = format!("{}.{}.", encoded(r#"{"alg":"none","typ":"at+jwt"}"#), parts[1]);
    let shared = encoded(r#"{"alg":"HS256","typ":"at+jwt"}"#);
    // Whoever takes the public key for a shared secret would take this.
    let key = openssl::pkey::PKey::hmac(server.issuer().as_bytes()).expect("a key");
    let mut signer = openssl::sign::Signer::new(openssl::hash::MessageDigest::sha256(), &key).expect("a signer");
    let mac = signer.sign_oneshot_to_vec(format!("{shared}.{}", parts[1]).as_bytes()).expect("signed");
    let mac = openssl::base64::encode_block(&mac).replace('+', "-").replace('/', "_").replace('=', "");
    let other_claims = encoded(&changed("sub", json!("root")).to_string());
    for (what, token) in [
        ("alg none", none.as_str()),
        ("a shared secret", &format!("{shared}.{}.{mac}", parts[1])),
        (
            "extensions",
            &format!("{}.{}.{}", encoded(r#"{"alg":"RS256","typ":"at+jwt","crit":["x"],"x":1}"#), parts[1], parts[2]),
        ),
        ("no signature", &format!("{}.{}.", parts[0], parts[1])),
        ("another's signature", &format!("{}.{other_claims}.{}", parts[0], parts[2])),
        ("two parts", &format!("{}.{}", parts[0], parts[1])),
        ("four parts", &format!("{good}.x")),
        ("an opaque one", &token(&server, "alice").await),
    ] {
        assert_bad(&gateway, what, token).await;
        refused += 1;
    }
    println!("3 good JWTs taken, {refused} bad ones refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_keys_are_found_and_old_ones_forgotten() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&["--max-bad-tokens", "10000"], &(signed(&server) + ANYONE)).start().await;
    let fresh = async || server.token_for("alice", "scistream", &resource("token=jwt")).await;
    let before = fresh().await;
    assert_eq!(verdict(&gateway, &before).await, Ok(()));
    let mut refused = 0;
    for _ in 0..5 {
        server.rotate_keys(OldKeys::Kept).await;
        refused += usize::from(verdict(&gateway, &fresh().await).await.is_err());
    }
    assert_eq!(refused, 0, "good tokens were refused for a new key");
    server.rotate_keys(OldKeys::Dropped).await;
    assert_eq!(verdict(&gateway, &fresh().await).await, Ok(()), "signed with the newest key");
    let old = server.token_for("bob", "scistream", &resource("token=jwt")).await;
    server.rotate_keys(OldKeys::Dropped).await;
    assert_eq!(verdict(&gateway, &fresh().await).await, Ok(()));
    assert_bad(&gateway, "signed with a key that was taken back", &old).await;
    // However many tokens name keys that nobody has, the key set is not asked for by each.
    let keys = server.calls("/jwks").await;
    let start = Instant::now();
    for number in 0..20 {
        let header = json!({ "typ": "at+jwt", "kid": number.to_string() });
        let forged = server.sign(&header, &json!({ "iss": server.issuer() })).await;
        assert_bad(&gateway, "a key that nobody has", &forged).await;
    }
    let looks = server.calls("/jwks").await - keys;
    println!("7 rotations: 0 good tokens refused; 20 forged keys in {} ms: {looks} looks", start.elapsed().as_millis());
    assert!(looks <= start.elapsed().as_secs() + 2, "{looks} looks at the key set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_with_one_token_ask_once() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&[], &(introspected(&server) + ANYONE)).start().await;
    let client = client(&gateway, &token(&server, "alice").await).await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        calls.spawn(async move { client.list().await.map(drop) });
    }
    let good = calls.join_all().await.iter().filter(|outcome| outcome.is_ok()).count();
    let asked = server.calls("/token/introspection").await;
    println!("{good} of 100 calls answered, {asked} introspection");
    assert_eq!((good, asked), (100, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_noticed_in_half_a_minute() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&[], &(introspected(&server) + ANYONE)).start().await;
    let token = token(&server, "alice").await;
    assert_eq!(verdict(&gateway, &token).await, Ok(()));
    let watcher = client(&gateway, &token).await;
    let mut events = watcher.watch(0, "").await.expect("watched");
    let taken = Instant::now();
    server.revoke(&token).await;
    while verdict(&gateway, &token).await.is_ok() {
        assert!(taken.elapsed() < MEMORY + Duration::from_secs(2), "it is still taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = taken.elapsed().as_secs_f64();
    let end = timeout(2 * MEMORY, watcher.next_event(&mut events)).await.expect("the watch ends");
    assert_eq!(status("the watch", end).code(), Code::Unauthenticated);
    println!(
        "a revoked token was refused {refused:.1} s after it had been taken, a watch that it had begun ended after {:.1} s",
        taken.elapsed().as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_makes_no_token_good_and_stops_no_stream() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&[], &(introspected(&server) + ANYONE)).start().await;
    let app = App::start().await;
    let (known, other) = (token(&server, "alice").await, token(&server, "bob").await);
    let alice = client(&gateway, &known).await;
    let uid = Uid::random().expect("randomness");
    let half = ask(&uid, Role::Prod, &app.endpoint()).open(&alice, None).await.expect("before");
    let cons = TestGateway::start(&[]).await;
    let cons_half = crate::support::tunnel::open_cons(&uid, &cons, half.listeners.clone(), 1).await;

    server.pause();
    let start = Instant::now();
    let (code, message) = verdict(&gateway, &other).await.expect_err("nobody can tell");
    println!("a server that does not answer: {code:?} after {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(code, Code::Unavailable, "{message}");
    assert!(start.elapsed() < Duration::from_secs(15));
    server.resume();
    assert_eq!(verdict(&gateway, &other).await, Ok(()), "and it is back");

    let newcomer = token(&server, "carol").await;
    // Judged anew, so that it is remembered for what follows.
    assert_eq!(verdict(&gateway, &known).await, Ok(()));
    server.end().await;
    let refused = status("down", client(&gateway, &newcomer).await.list().await);
    assert_eq!(refused.code(), Code::Unavailable, "{}", refused.message());
    assert!(refused.get_error_details().retry_info().is_some(), "nothing says when to come again");
    exchange(&cons_half.listeners[0], First::Consumer).await;
    alice.release(&uid).await.expect("a token that was good a moment ago");
    cons.client().await.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
    println!("a server that is down: UNAVAILABLE for newcomers; a running stream went on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_none_are_not_taken_for_any() {
    // Whatever it is, it is no introspection: HTML, a redirect, ten megabytes, an error.
    let answers = [
        (
            "HTML",
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<p>active</p>\r\n".to_owned(),
        ),
        ("a list", "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n[{\"active\": true}]".to_owned()),
        ("a redirect", "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("an error", "HTTP/1.1 500 Oops\r\ncontent-length: 16\r\n\r\n{\"active\": true}".to_owned()),
        ("wrong credentials", "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".to_owned()),
        (
            "ten megabytes",
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 10000016\r\n\r\n{{\"active\": true}}{}",
                " ".repeat(10_000_000)
            ),
        ),
    ];
    let count = answers.len();
    for (what, answer) in answers {
        let (address, server) = always(answer).await;
        let configuration = format!(
            "[[provider]]\nintrospection_endpoint = \"http://{address}/\"\nclient_id = \"x\"\n\
             client_secret_file = \"secret\"\n{ANYONE}"
        );
        let gateway = plan(&[], &configuration).start().await;
        let (code, message) = verdict(&gateway, "token").await.expect_err(what);
        assert_eq!(code, Code::Unavailable, "{what}: {message}");
        server.abort();
    }
    println!("{count} answers that are none: UNAVAILABLE, each time");
}

/// A server that answers every connection with the same bytes.
async fn always(answer: String) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 8192];
                // Who asked may have heard enough before all is said.
                if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            });
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_tells_little_is_trusted_with_as_much_as_the_operator_says() {
    let server = DjangoServer::start().await;
    let provider = |more: &str| {
        format!(
            "[[provider]]\nintrospection_endpoint = \"{}\"\nclient_id = \"{}\"\nclient_secret_file = \"secret\"\n\
             scopes = [\"scistream\"]\n{more}{ANYONE}",
            server.introspection(),
            GATEWAY.id,
        )
    };
    let start = async |more: &str| plan(&[], &provider(more)).file("secret", GATEWAY.secret).start().await;
    let good = server.token("scistream").await;
    assert_bad(&start("").await, "it tells no audience", &good).await;
    assert_bad(&start("audience = []\n").await, "it tells no subject", &good).await;
    let gateway = start("audience = []\nsubject_claim = \"client_id\"\n").await;
    assert_eq!(verdict(&gateway, &good).await, Ok(()));
    assert_bad(&gateway, "another scope", &server.token("other").await).await;
    let revoked = server.token("scistream").await;
    server.revoke(&revoked).await;
    assert_bad(&gateway, "revoked", &revoked).await;
    println!("a second authorization server: 1 good token taken, 4 refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn globus_is_asked_as_globus_wants_to_be() {
    let globus = GlobusFake::start().await;
    let configuration = format!(
        "[[provider]]\nkind = \"globus\"\nissuer = \"{}\"\nclient_id = \"{}\"\nclient_secret_file = \"secret\"\n\
         [[allow]]\nwho = [\"domain:facility.example\"]\n",
        globus.base(),
        globus_fake::RESOURCE_SERVER,
    );
    let gateway = plan(&[], &configuration).file("secret", globus_fake::RESOURCE_SECRET).start().await;
    let scope = globus_fake::scope_of(globus_fake::RESOURCE_SERVER);
    for spelling in [Spelling::IdentitySet, Spelling::IdentitiesSet] {
        globus.spell(spelling);
        let token = globus.token_for("alice@facility.example", globus_fake::RESOURCE_SERVER, &scope);
        assert_eq!(verdict(&gateway, &token).await, Ok(()), "{spelling:?}");
    }
    let other = globus.token_for("alice@facility.example", "another", &globus_fake::scope_of("another"));
    assert_bad(&gateway, "for another gateway", &other).await;
    let told = gateway.client().await.capabilities().await.expect("told");
    let login = &told.logins[0];
    assert_eq!((login.kind.as_str(), login.client_id.as_str()), ("globus", globus_fake::NATIVE_CLIENT));
    assert_eq!(login.scopes, [scope]);
    assert!(login.paste_redirect_uri.ends_with("/v2/web/auth-code"));
    println!(
        "a fake of Globus: {} introspections, 2 good tokens, 1 of another gateway refused",
        globus.introspections()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_several_providers_are_shown_to_nobody_else() {
    let (one, other) = (AuthorizationServer::start().await, AuthorizationServer::start().await);
    let second = signed(&other).replace("name = \"facility\"", "name = \"partner\"");
    let gateway = plan(&[], &(introspected(&one) + &second + ANYONE)).start().await;
    assert_eq!(verdict(&gateway, &token(&one, "alice").await).await, Ok(()));
    let asked = one.calls("/token/introspection").await;
    let jwt = other.token_for("bob", "scistream", &resource("token=jwt")).await;
    assert_eq!(verdict(&gateway, &jwt).await, Ok(()));
    assert_eq!(one.calls("/token/introspection").await, asked, "another's token was shown to it");
    let app = App::start().await;
    let (uid, alice) = (Uid::random().expect("randomness"), client(&gateway, &token(&one, "alice").await).await);
    ask(&uid, Role::Prod, &app.endpoint()).open(&alice, None).await.expect("alice's session");
    // The same name elsewhere is somebody else.
    let namesake = other.token_for("alice", "scistream", &resource("token=jwt")).await;
    let refused = status("a namesake", client(&gateway, &namesake).await.release(&uid).await);
    assert_eq!(refused.code(), Code::NotFound, "{}", refused.message());
    alice.release(&uid).await.expect("released");
    println!("2 providers side by side: each sees its own tokens alone, and namesakes are two people");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opaque_token_is_shown_to_whom_its_bearer_says_it_is_of() {
    let (one, other) = (AuthorizationServer::start().await, AuthorizationServer::start().await);
    let second = introspected(&other).replace("name = \"facility\"", "name = \"partner\"");
    let gateway = plan(&[], &(introspected(&one) + &second + ANYONE)).start().await;
    let asked = async || (one.calls("/token/introspection").await, other.calls("/token/introspection").await);
    let before = asked().await;
    let bob = client(&gateway, &token(&other, "bob").await).await.with_issuer(&other.issuer()).expect("it can be sent");
    bob.list().await.expect("his own provider knows him");
    assert_eq!(asked().await, (before.0, before.1 + 1), "another provider was shown his token");
    // Who says of whom it is cannot be believed more than that one says.
    let lied = client(&gateway, &token(&other, "eve").await).await.with_issuer(&one.issuer()).expect("it can be sent");
    assert_eq!(status("a token of another", lied.list().await).code(), Code::Unauthenticated);
    assert_eq!(asked().await, (before.0 + 1, before.1 + 1), "it was shown to more than one");
    let nobodys = client(&gateway, "opaque").await.with_issuer("https://elsewhere.example").expect("it can be sent");
    assert_eq!(status("a token of nobody here", nobodys.list().await).code(), Code::Unauthenticated);
    assert_eq!(asked().await, (before.0 + 1, before.1 + 1), "it was shown to anybody");
    // Older clients do not say; then each is asked who may know.
    client(&gateway, &token(&other, "dan").await).await.list().await.expect("found by asking");
    assert_eq!(asked().await, (before.0 + 2, before.1 + 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_takes_one_providers_word() {
    let (one, other) = (AuthorizationServer::start().await, AuthorizationServer::start().await);
    let providers = introspected(&one) + &signed(&other).replace("name = \"facility\"", "name = \"partner\"");
    let rule = "[[allow]]\nwho = [\"user:alice@facility.example\"]\n";
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "x").expect("written");
    let check = async |rule: &str| {
        std::fs::write(folder.path().join("s2cs.toml"), format!("{providers}{rule}")).expect("written");
        run(S2CS, &["check", "--config", "s2cs.toml", "--ssl=False", "--state-dir", "state"], folder.path()).await
    };
    assert!(check(rule).await.failed(78).contains("provider is missing: whose word counts, of facility, partner?"));
    assert!(check(&format!("{rule}provider = \"facilty\"\n")).await.failed(78).contains("there is no \"facilty\""));
    check(&format!("{rule}provider = \"facility\"\n")).await.succeeded();

    let gateway = plan(&[], &format!("{providers}{rule}provider = \"facility\"\n")).start().await;
    let app = App::start().await;
    let asked = || ask(&Uid::random().expect("randomness"), Role::Prod, &app.endpoint());
    asked().open(&client(&gateway, &token(&one, "alice").await).await, None).await.expect("alice of the facility");
    let namesake = other.token_for("alice", "scistream", &resource("token=jwt")).await;
    let refused = status("alice of the partner", asked().open(&client(&gateway, &namesake).await, None).await);
    assert_eq!(refused.code(), Code::PermissionDenied, "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_once_are_few_questions() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&["--max-bad-tokens", "5"], &(introspected(&server) + ANYONE)).start().await;
    server.slow_down(Duration::from_millis(300)).await;
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let client = client(&gateway, &format!("guess-{number}")).await;
        calls.spawn(async move { client.list().await.map(drop) });
    }
    let good = calls.join_all().await.iter().filter(|outcome| outcome.is_ok()).count();
    let asked = server.calls("/token/introspection").await;
    println!("200 guesses at once: {asked} introspections");
    assert_eq!(good, 0);
    assert!(asked <= 5 + 8 + 1, "{asked} introspections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_tokens_is_shut_out_and_nobody_else() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&["--max-bad-tokens", "5"], &(introspected(&server) + ANYONE)).start().await;
    let (known, new) = (token(&server, "alice").await, token(&server, "bob").await);
    assert_eq!(verdict(&gateway, &known).await, Ok(()));
    let mut judged = 0;
    let refused = loop {
        let refused = status("a guess", client(&gateway, &format!("guess-{judged}")).await.list().await);
        if refused.code() != Code::Unauthenticated {
            break refused;
        }
        judged += 1;
        assert!(judged < 20, "nobody stops it");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{}", refused.message());
    assert!(refused.message().starts_with("RATE_LIMIT: "), "{}", refused.message());
    let details = refused.get_error_details();
    let wait = details.retry_info().and_then(|info| info.retry_delay).expect("when to come again");
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60), "{wait:?}");
    let asked = server.calls("/token/introspection").await;
    assert_eq!(status("shut out", client(&gateway, &new).await.list().await).code(), Code::ResourceExhausted);
    assert_eq!(server.calls("/token/introspection").await, asked, "the server is asked all the same");
    assert_eq!(verdict(&gateway, &known).await, Ok(()), "who is known at that address");
    println!(
        "{judged} guesses judged, then RATE_LIMIT with {:.0} s to wait; a known token goes on",
        wait.as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_too_often_is_told_to_wait() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&["--max-calls", "2"], &(introspected(&server) + ANYONE)).start().await;
    let (alice, bob) =
        (client(&gateway, &token(&server, "alice").await).await, client(&gateway, &token(&server, "bob").await).await);
    let mut answered = 0;
    let refused = loop {
        match alice.list().await {
            Ok(_) => answered += 1,
            outcome => break status("too often", outcome),
        }
        assert!(answered < 200, "nobody stops it");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_error_details().retry_info().is_some());
    bob.list().await.expect("somebody else");
    println!("{answered} calls at once, then RATE_LIMIT; others go on");
    assert!((20..60).contains(&answered), "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_stands_between_two_gateways_that_know_their_callers() {
    let server = AuthorizationServer::start().await;
    let configuration = introspected(&server) + ANYONE;
    let (prod, cons) = (plan(&[], &configuration).start().await, plan(&[], &configuration).start().await);
    let app = App::start().await;
    let token = token(&server, "alice").await;
    let (uid, at_prod, at_cons) =
        (Uid::random().expect("randomness"), client(&prod, &token).await, client(&cons, &token).await);
    let half = ask(&uid, Role::Prod, &app.endpoint()).open(&at_prod, None).await.expect("PROD");
    let wish = ask(&uid, Role::Cons, "localhost:1");
    let other = wish.open(&at_cons, Some(half.listeners.clone())).await.expect("CONS");
    exchange(&other.listeners[0], First::Consumer).await;
    exchange(&other.listeners[0], First::Producer).await;
    let tunnel = Tunnel { uid, prod: half, cons: other };
    at_prod.release(&tunnel.uid).await.expect("released");
    at_cons.release(&tunnel.uid).await.expect("released");
    prod.assert_nothing_left();
    cons.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_sites_authority_proves_who_one_is() {
    let (ours, theirs) = (Authority::new("Ours"), Authority::new("Theirs"));
    let rules = "client_ca = \"clients.crt\"\n[[allow]]\nwho = [\"user:alice@facility.example\"]\n\
                 [[allow]]\nwho = [\"identity:CN=bob,O=Facility\"]\nroles = [\"CONS\"]\n";
    let gateway = TestGateway::plan(&["--config", "s2cs.toml"])
        .file("s2cs.toml", rules)
        .file("clients.crt", &ours.pem())
        .start()
        .await;
    let connect = async |files: &ClientFiles| {
        let (certificate, key) = (files.certificate.clone(), files.key.clone());
        let security = Security::Mutual { trusted: Some(gateway.certificate()), certificate, key };
        Gateway::connect(gateway.address(), &security).await
    };
    let folder = gateway.folder();
    let alice = connect(&ours.vouch(folder, "alice", (-1, 30))).await.expect("let in");
    let bob = connect(&ours.vouch(folder, "bob", (-1, 30))).await.expect("let in");
    let app = App::start().await;
    let uid = Uid::random().expect("randomness");
    ask(&uid, Role::Prod, &app.endpoint()).open(&alice, None).await.expect("alice's session");
    assert_eq!(alice.list().await.expect("listed").sessions[0].owner, "alice@facility.example");
    assert_eq!(status("bob", bob.release(&uid).await).code(), Code::NotFound);
    let files = ours.vouch(folder, "alice-again", (-1, 30));
    let address = gateway.address().to_string();
    let words = ["list", "--json", "--s2cs", &address, "--server-cert", "server.crt"];
    let own =
        ["--client-cert", files.certificate.to_str().expect("text"), "--client-key", files.key.to_str().expect("text")];
    let told = run(S2UC, &[&words[..], &own].concat(), folder).await;
    assert_eq!(told.json()["sessions"], serde_json::json!([]), "s2uc is let in, and sees no other's");
    run(S2UC, &words, folder).await.failed(1);
    let carol = connect(&ours.vouch(folder, "carol", (-1, 30))).await.expect("known, and no more");
    assert_eq!(
        status("carol", ask(&uid, Role::Cons, "localhost:1").open(&carol, None).await).code(),
        Code::PermissionDenied
    );
    let refused = status("nobody", gateway.client().await.list().await);
    assert_eq!(refused.code(), Code::Unauthenticated, "without a certificate: {}", refused.message());
    for (what, files) in [
        ("another authority's", theirs.vouch(folder, "alice", (-1, 30))),
        ("expired", ours.vouch(folder, "alice", (-30, -1))),
        ("not yet valid", ours.vouch(folder, "alice", (1, 30))),
    ] {
        // TLS 1.3 tells the client only with the first answer.
        let outcome = match connect(&files).await {
            Ok(gateway) => gateway.list().await.map(drop),
            Err(e) => Err(e),
        };
        assert!(outcome.is_err(), "{what} certificate was taken");
    }
    alice.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
    println!("2 certificates taken, each for its own; 3 bad ones refused");
}
