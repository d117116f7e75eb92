//! What people have of the deployed release: Globus, its storage, its command lines.

use std::fs;

use serde_json::json;
use url::Url;

use super::{kept, text};
use crate::support::browser::{Browser, Person};
use crate::support::command::run;
use crate::support::gateway::{APPCTRL, S2UC};
use crate::support::globus_fake::{self, GlobusFake, NATIVE_CLIENT, RESOURCE_SERVER};
use crate::support::program::PYTHON;
use crate::support::telling_gateway::TellingGateway;
use crate::support::user::User;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_pasted_for_globus() {
    let globus = GlobusFake::start().await;
    let gateway = TellingGateway::start(vec![globus.offer()]).await;
    let user = User::new();
    let mut login = user.begin(S2UC, &["login", "--s2cs", &gateway.address(), "--ssl=False"]);
    let page = login.page().await;
    let shown = Browser::of("alice", Person::Consents).visit(&page).await;
    let code = shown.text.split("<code>").nth(1).and_then(|rest| rest.split('<').next()).expect("a code");
    login.types(&format!("  {code}")).await;
    login.end().await.succeeded();
    // One for Globus itself came too; that for the gateway is kept.
    assert_eq!(globus.tokens(), (2, 2));
    let entry = kept(&user);
    assert_eq!(entry["scopes"], json!([globus_fake::scope_of(RESOURCE_SERVER)]));
    gateway.calls();
    user.s2uc(&["list", "--s2cs", &gateway.address(), "--ssl=False"]).await.succeeded();
    assert_eq!(gateway.calls(), [("list", format!("Bearer {}", text(&entry["access_token"])))]);

    // It ends soon: the refresh token gives another one, and stays.
    let path = user.store();
    let book = fs::read_to_string(&path).expect("the store").replace(&entry["expires"].to_string(), "1");
    fs::write(&path, book).expect("written");
    user.s2uc(&["list", "--s2cs", &gateway.address(), "--ssl=False"]).await.succeeded();
    let renewed = kept(&user);
    assert_ne!(renewed["access_token"], entry["access_token"]);
    assert_eq!(renewed["refresh_token"], entry["refresh_token"]);
    user.s2uc(&["logout"]).await.succeeded();
    // The first access token is no more ours to give back; Globus' own were never kept.
    assert_eq!(globus.tokens(), (2, 1));
    println!("logged in, renewed and out, at the fake of Globus");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_of_the_deployed_release_means_globus() {
    let user = User::new();
    let mut login = user.begin(S2UC, &["login", "--scope", RESOURCE_SERVER]);
    let page = Url::parse(&login.page().await).expect("an address");
    assert_eq!((page.host_str(), page.path()), (Some("auth.globus.org"), "/v2/oauth2/authorize"));
    let asked: std::collections::HashMap<_, _> = page.query_pairs().into_owned().collect();
    for (name, value) in [
        ("client_id", NATIVE_CLIENT),
        ("redirect_uri", "https://auth.globus.org/v2/web/auth-code"),
        ("scope", "https://auth.globus.org/scopes/c42c0dac-0a52-408e-a04f-5d31bfe0aef8/scistream"),
        ("response_type", "code"),
        ("code_challenge_method", "S256"),
        ("access_type", "offline"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    // Nobody is asked: no code is pasted.
    let said = login.end().await.failed(1);
    assert!(said.contains("find a code"), "{said}");
    let deployed = TellingGateway::deployed().await;
    let said = user.s2uc(&["login", "--s2cs", &deployed.address(), "--ssl=False"]).await.failed(1);
    assert!(said.contains("--scope"), "{said}");
}

/// The storage as globus-sdk 3.41 makes it, with tokens for a gateway and for Globus itself.
pub(super) const STORAGE: &str = r#"
import json, sqlite3
database = sqlite3.connect(".storage.db")
database.executescript("""
CREATE TABLE config_storage (namespace VARCHAR NOT NULL, config_name VARCHAR NOT NULL,
    config_data_json VARCHAR NOT NULL, PRIMARY KEY (namespace, config_name));
CREATE TABLE token_storage (namespace VARCHAR NOT NULL, resource_server VARCHAR NOT NULL,
    token_data_json VARCHAR NOT NULL, PRIMARY KEY (namespace, resource_server));
CREATE TABLE sdk_storage_adapter_internal (attribute VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (attribute));
INSERT INTO sdk_storage_adapter_internal VALUES ('globus-sdk.database_schema_version', '1');
""")
ID = "c42c0dac-0a52-408e-a04f-5d31bfe0aef8"
for server, scope in (("auth.globus.org", "openid email"), (ID, f"https://auth.globus.org/scopes/{ID}/scistream")):
    token = {"scope": scope, "access_token": f"access-for-{server}", "refresh_token": f"refresh-for-{server}",
             "token_type": "Bearer", "expires_at_seconds": 4102444800, "resource_server": server}
    database.execute("INSERT INTO token_storage VALUES ('DEFAULT', ?, ?)", (server, json.dumps(token)))
database.commit()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deployed_releases_tokens_are_taken_over() {
    let user = User::new();
    run(PYTHON, &["-c", STORAGE], &user.home()).await.succeeded();
    let hinted = user.s2uc(&["check-auth"]).await.failed(1);
    assert!(hinted.contains("login --import .storage.db"), "{hinted}");
    let imported = user.s2uc(&["login", "--import", ".storage.db", "--json"]).await;
    imported.succeeded();
    assert_eq!(imported.json()["imported"].as_array().map(Vec::len), Some(1), "{imported:?}");
    let checked = user.s2uc(&["check-auth", "--scope", RESOURCE_SERVER, "--json"]).await;
    checked.succeeded();
    assert_eq!(checked.json()["logins"][0]["refreshable"], true);
    let access = format!("access-for-{RESOURCE_SERVER}");

    // A gateway of that release takes the bare token, one of this release either.
    let uid = crate::support::raw::new_uid();
    let deployed = TellingGateway::deployed().await;
    let release =
        ["release", &uid, "--s2cs", &deployed.address(), "--ssl=False", "--scope", RESOURCE_SERVER].map(str::to_owned);
    user.s2uc(&release.each_ref().map(String::as_str)).await.succeeded();
    assert_eq!(deployed.calls(), [("release", access.clone())]);
    let ours = TellingGateway::open_to_all().await;
    user.s2uc(&["list", "--s2cs", &ours.address(), "--ssl=False", "--scope", RESOURCE_SERVER]).await.succeeded();
    assert_eq!(ours.calls().last(), Some(&("list", format!("Bearer {access}"))));

    fs::write(user.home().join("other.db"), "no database").expect("written");
    for name in ["other.db", "missing.db"] {
        let refused = user.s2uc(&["login", "--import", name]).await.failed(1);
        assert!(refused.contains("the deployed release's token storage"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deployed_controllers_token_is_sent() {
    let user = User::new();
    let uid = crate::support::raw::new_uid();
    for (deployed, token, sent) in [
        (true, "tok", "tok"),
        (true, "INVALID_TOKEN", "INVALID_TOKEN"),
        (false, "tok", "Bearer tok"),
        (false, "INVALID_TOKEN", "INVALID_TOKEN"),
    ] {
        let gateway = if deployed { TellingGateway::deployed().await } else { TellingGateway::open_to_all().await };
        let arguments = ["create-appctrl", &uid, &gateway.address(), token, "PROD", "10.0.0.1", "--ssl=False"];
        user.begin(APPCTRL, &arguments).end().await.succeeded();
        assert_eq!(gateway.calls().last(), Some(&("hello", sent.to_owned())));
    }
}
