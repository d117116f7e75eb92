//! Tokens are sealed with a key in the desktop's keyring, with GNOME's own on a bus of
//! the test's, and nobody waits for a keyring that nobody opens.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{kept, log_in, text};
use crate::support::authorization_server::AuthorizationServer;
use crate::support::command::{Ran, run};
use crate::support::desktop::Desktop;
use crate::support::gateway::S2UC;
use crate::support::leftovers::files_under;
use crate::support::program::PYTHON;
use crate::support::telling_gateway::TellingGateway;
use crate::support::user::User;

/// More than s2uc waits for a keyring, with room for a busy machine.
const NOT_FOR_EVER: Duration = Duration::from_secs(25);

/// A person at a desktop, a provider, and a gateway that takes its tokens.
async fn at_a_desktop(query: &str) -> (Desktop, AuthorizationServer, TellingGateway, User) {
    let desktop = Desktop::start().await;
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer(query)]).await;
    let mut user = User::new();
    desktop.holds(&mut user);
    (desktop, server, gateway, user)
}

async fn print_token(user: &User) -> String {
    user.s2uc(&["check-auth", "--print-token"]).await.succeeded().trim_end().to_owned()
}

fn book(user: &User) -> Value {
    serde_json::from_slice(&fs::read(user.store()).expect("the store is there")).expect("JSON")
}

/// No file of theirs holds it.
fn assert_nowhere(user: &User, secret: &str) {
    for path in files_under(&user.home()).into_iter().filter(|path| path.is_file()) {
        let held = fs::read(&path).expect("read");
        let found = held.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{} holds a secret", path.display());
    }
}

/// A command ends in time, whatever the keyring does.
async fn in_time(user: &User, arguments: &[&str]) -> (Ran, Duration) {
    let start = Instant::now();
    let ran = user.s2uc(arguments).await;
    assert!(start.elapsed() < NOT_FOR_EVER, "{arguments:?} took {:?}", start.elapsed());
    (ran, start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_keyring_answers_tokens_are_sealed_and_all_else_is_the_same() {
    // Each token holds for half a minute, which is less than is wanted of one: each command renews.
    let (desktop, server, gateway, user) = at_a_desktop("seconds=30").await;
    assert_eq!(desktop.secrets().await, Vec::<String>::new());
    log_in(&user, &gateway, "alice").await;
    assert_eq!(book(&user)["version"], 2, "it is not sealed");
    assert_eq!(user.store().metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let keys = desktop.secrets().await;
    assert_eq!(keys.len(), 1);

    let mut tokens = HashSet::new();
    let begun: Vec<_> = (0..4).map(|_| user.begin(S2UC, &["check-auth", "--print-token"])).collect();
    for process in begun {
        tokens.insert(process.end().await.succeeded().trim_end().to_owned());
    }
    assert_eq!(tokens.len(), 4, "they did not renew one after the other");
    let list = user.s2uc(&["list", "--s2cs", &gateway.address(), "--ssl=False"]).await;
    assert_eq!((list.succeeded().is_empty(), list.stderr.as_str()), (false, ""));
    let (_, sent) = gateway.calls().pop().expect("a call");
    let sent = sent.strip_prefix("Bearer ").expect("with the token").to_owned();
    tokens.insert(sent.clone());
    for secret in tokens.iter().chain(&keys) {
        assert_nowhere(&user, secret);
    }
    let told = user.s2uc(&["check-auth", "--json"]).await;
    assert_eq!((&told.json()["sealed"], &told.json()["authenticated"]), (&true.into(), &true.into()));
    assert!(user.s2uc(&["check-auth"]).await.succeeded().contains("sealed with a key in the keyring"));
    assert_eq!(desktop.secrets().await, keys, "the key is another one now");

    user.s2uc(&["logout"]).await.succeeded();
    assert_eq!(server.introspect(&sent).await["active"], false, "not revoked");
    assert!(!user.store().exists() && desktop.secrets().await.is_empty(), "something is left");
    println!("{} tokens and a key, in no file; nothing left after logout", tokens.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deployed_releases_tokens_are_sealed_too() {
    let desktop = Desktop::start().await;
    let mut user = User::new();
    desktop.holds(&mut user);
    run(PYTHON, &["-c", super::older::STORAGE], &user.home()).await.succeeded();
    let imported = user.s2uc(&["login", "--import", ".storage.db", "--store", "keyring"]).await;
    assert!(imported.succeeded().contains("sealed with a key in the keyring"), "{imported:?}");
    fs::remove_file(user.home().join(".storage.db")).expect("ours");
    let token = print_token(&user).await;
    assert!(token.starts_with("access-for-"), "{token}");
    assert_nowhere(&user, &token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_says_where_tokens_are_kept() {
    let (desktop, server, gateway, mut user) = at_a_desktop("").await;
    user.set("SCISTREAM_TOKEN_STORE", "file");
    log_in(&user, &gateway, "alice").await;
    let plain = text(&kept(&user)["access_token"]).to_owned();
    assert!(desktop.secrets().await.is_empty());
    // Another gateway with the same provider opens no browser.
    let again = async |how: &[&str]| {
        let other = TellingGateway::start(vec![server.offer("")]).await;
        let address = other.address();
        let ran = user.s2uc(&[&["login", "--s2cs", &address, "--ssl=False"], how].concat()).await;
        ran.succeeded();
    };
    again(&["--store", "keyring"]).await;
    assert_nowhere(&user, &plain);
    assert_eq!((print_token(&user).await, desktop.secrets().await.len()), (plain.clone(), 1));
    again(&["--store", "auto"]).await;
    assert_eq!(book(&user)["version"], 2, "auto changes nothing that is there");
    again(&[]).await;
    assert_eq!((text(&kept(&user)["access_token"]), desktop.secrets().await.len()), (plain.as_str(), 0));

    user.set("SCISTREAM_TOKEN_STORE", "somewhere");
    let refused = user.s2uc(&["login", "--s2cs", &gateway.address(), "--ssl=False"]).await.failed(2);
    assert!(refused.contains("must be auto, file or keyring"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_that_is_locked_or_silent_is_named_and_not_waited_for() {
    let (desktop, _server, gateway, user) = at_a_desktop("").await;
    log_in(&user, &gateway, "alice").await;
    desktop.lock().await;
    let address = gateway.address();
    let list = ["list", "--s2cs", &address, "--ssl=False"];
    let remedy = "--store file does without a keyring";
    let (ran, locked) = in_time(&user, &list).await;
    let said = ran.failed(1);
    assert!(said.contains("it is locked, or does not have it") && said.contains(remedy), "{said}");
    desktop.pause();
    let (ran, silent) = in_time(&user, &list).await;
    let said = ran.failed(1);
    assert!(said.contains("it gives no answer within 10 s") && said.contains(remedy), "{said}");
    println!("a locked keyring was named after {locked:?}, a silent one after {silent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_keyring_that_answers_the_file_does_unless_a_keyring_was_asked_for() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("")]).await;
    let address = gateway.address();
    // Over ssh, on a gateway, in a batch job: nothing is said of keyrings.
    let headless = User::new();
    log_in(&headless, &gateway, "alice").await;
    kept(&headless);
    let keyring = ["login", "--s2cs", &address, "--ssl=False", "--store", "keyring"];
    let (ran, _) = in_time(&headless, &keyring).await;
    let said = ran.failed(1);
    assert!(said.contains("there is no session bus, so no keyring"), "{said}");

    for silent in [false, true] {
        let desktop = Desktop::start().await;
        if silent {
            desktop.pause()
        } else {
            desktop.lock().await
        }
        let mut user = User::new();
        desktop.holds(&mut user);
        user.set("SCISTREAM_TOKEN_STORE", "");
        run(PYTHON, &["-c", super::older::STORAGE], &user.home()).await.succeeded();
        let import = ["login", "--import", ".storage.db"];
        let (ran, took) = in_time(&user, &[&import[..], &["--store", "keyring"]].concat()).await;
        assert!(ran.failed(1).contains("--store file does without"), "{ran:?}");
        assert!(!user.store().exists(), "a file by itself was made");
        let (ran, _) = in_time(&user, &import).await;
        ran.succeeded();
        assert!(ran.stderr.contains("the tokens are kept in the file alone"), "{ran:?}");
        assert_eq!(kept(&user)["access_token"], print_token(&user).await);
        println!(
            "silent: {silent}; refused after {took:?}, then kept in the file: {}",
            ran.stderr.lines().next().unwrap_or_default()
        );
    }
}
