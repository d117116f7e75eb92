//! s2uc gets, keeps, renews, sends and gives back tokens, at real authorization servers.

mod faults;
mod flows;
mod guarded;
mod keyring;
mod older;
mod sending;

use serde_json::Value;

use crate::support::authorization_server::AuthorizationServer;
use crate::support::browser::{Browser, Person};
use crate::support::gateway::S2UC;
use crate::support::telling_gateway::TellingGateway;
use crate::support::user::User;

/// What the store keeps of the one login there is.
fn kept(user: &User) -> Value {
    let text = std::fs::read(user.store()).expect("the store is there");
    let mut book: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(book["logins"].as_array().map(Vec::len), Some(1), "{book}");
    book["logins"][0].take()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Logs somebody in for a gateway, in a browser on the same host.
async fn log_in(user: &User, gateway: &TellingGateway, name: &str) {
    let arguments = ["login", "--s2cs", &gateway.address(), "--ssl=False", "--flow", "loopback", "--no-browser"];
    let mut login = user.begin(S2UC, &arguments);
    let page = Browser::of(name, Person::Consents).visit(&login.page().await).await;
    assert!(page.text.contains("close this page"), "{page:?}");
    login.end().await.succeeded();
}

/// A user who has logged in for a gateway with tokens of this kind.
async fn logged_in(query: &str) -> (AuthorizationServer, TellingGateway, User) {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer(query)]).await;
    let user = User::new();
    log_in(&user, &gateway, "alice").await;
    (server, gateway, user)
}
