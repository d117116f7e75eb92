//! The whole way: a person logs in for a gateway that asks the same server about tokens.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::interval;

use super::{kept, text};
use crate::support::TestGateway;
use crate::support::authorization_server::{AUDIENCE, AuthorizationServer, GATEWAY, S2UC_CLIENT};
use crate::support::browser::{Browser, Person};
use crate::support::gateway::S2UC;
use crate::support::user::User;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_lets_in_who_logged_in_and_nobody_after_logout() {
    let server = AuthorizationServer::start().await;
    let configuration = format!(
        "[[provider]]\nname = \"facility\"\nissuer = \"{}\"\nclient_id = \"{}\"\nclient_secret_file = \"secret\"\n\
         audience = [\"{AUDIENCE}\"]\nscopes = [\"scistream\"]\nlogin_client_id = \"{S2UC_CLIENT}\"\n\
         login_scopes = [\"openid\", \"offline_access\", \"scistream\"]\nlogin_resource = \"{AUDIENCE}\"\n\n\
         [[allow]]\nwho = [\"anyone\"]\n",
        server.issuer(),
        GATEWAY.id
    );
    let plan = TestGateway::plan(&["--config", "s2cs.toml", "--audit-log", "audit.log"]);
    let gateway = plan.file("secret", GATEWAY.secret).file("s2cs.toml", &configuration).start().await;
    let (address, certificate) = (gateway.address().to_string(), gateway.certificate());
    let user = User::new();
    let at = ["--s2cs", address.as_str(), "--server-cert", certificate.to_str().expect("a plain path")];
    let call = |words: &[&str]| user.begin(S2UC, &[words, &at].concat());

    let refused = call(&["list"]).end().await.failed(1);
    assert!(refused.contains(&format!("s2uc login --s2cs {address}")), "{refused}");
    let told = call(&["status", "--json"]).end().await;
    told.succeeded();
    assert_eq!(told.json()["logins"][0]["issuer"], json!(server.issuer()));

    let mut login = call(&["login", "--flow", "loopback", "--no-browser"]);
    Browser::of("alice", Person::Consents).visit(&login.page().await).await;
    login.end().await.succeeded();
    call(&["list"]).end().await.succeeded();
    let token = text(&kept(&user)["access_token"]).to_owned();

    call(&["logout"]).end().await.succeeded();
    call(&["list"]).end().await.failed(1);
    // Who kept a copy of the token is let in for as long as the gateway remembers its answer.
    std::fs::write(user.home().join("copy"), token).expect("written");
    let start = Instant::now();
    let mut pace = interval(Duration::from_millis(200));
    while call(&["list", "--token-file", "copy"]).end().await.code == Some(0) {
        pace.tick().await;
        assert!(start.elapsed() < Duration::from_secs(40), "a token that was revoked is still taken");
    }
    println!("a revoked token was refused after {} ms", start.elapsed().as_millis());
    assert!(start.elapsed() < Duration::from_secs(35), "later than the cache may remember");
}
