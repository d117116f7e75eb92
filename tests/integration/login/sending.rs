//! Which token goes to which gateway, and how it is kept fresh.

use std::collections::HashSet;
use std::fs;

use serde_json::json;

use super::{kept, log_in, logged_in, text};
use crate::support::authorization_server::AuthorizationServer;
use crate::support::gateway::{APPCTRL, S2UC};
use crate::support::telling_gateway::TellingGateway;
use crate::support::user::User;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_goes_to_the_gateways_that_take_it_and_to_no_other() {
    let (server, gateway, user) = logged_in("").await;
    let bearer = format!("Bearer {}", text(&kept(&user)["access_token"]));
    assert_eq!(gateway.calls(), [("capabilities", "INVALID_TOKEN".into())], "the login");
    let list = async |gateway: &TellingGateway| {
        let ran = user.s2uc(&["list", "--s2cs", &gateway.address(), "--ssl=False"]).await;
        ran.succeeded();
        (gateway.calls(), ran.stderr)
    };
    let (calls, said) = list(&gateway).await;
    assert_eq!((calls, said.as_str()), (vec![("list", bearer.clone())], ""));
    // Another gateway may only say that it wants the same: it gets nothing until the user says so.
    let nothing = ("list", "INVALID_TOKEN".to_owned());
    let second = TellingGateway::start(vec![server.offer("")]).await;
    assert_eq!(list(&second).await.0, std::slice::from_ref(&nothing));
    let login = user.s2uc(&["login", "--s2cs", &second.address(), "--ssl=False"]).await;
    assert!(login.succeeded().contains("logged in already at"), "{login:?}");
    assert_eq!(second.calls(), [("capabilities", "INVALID_TOKEN".to_owned())]);
    let (calls, said) = list(&second).await;
    assert_eq!((calls, said.as_str()), (vec![("list", bearer.clone())], ""));
    let foreign = TellingGateway::start(vec![server.offer("token=jwt")]).await;
    let open = TellingGateway::open_to_all().await;
    for gateway in [&foreign, &open] {
        assert_eq!(list(gateway).await.0, std::slice::from_ref(&nothing));
    }
    let told = user.s2uc(&["check-auth", "--s2cs", &second.address(), "--json"]).await;
    let mut gateways = [gateway.address(), second.address()];
    gateways.sort();
    assert_eq!(told.json()["logins"][0]["gateways"], json!(gateways));
    user.s2uc(&["check-auth", "--s2cs", &foreign.address(), "--ssl=False"]).await.failed(1);
    println!("sent to 2 of 4 gateways");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_sends_it() {
    let (_server, gateway, user) = logged_in("").await;
    let bearer = format!("Bearer {}", text(&kept(&user)["access_token"]));
    gateway.calls();
    let uid = crate::support::raw::new_uid();
    let address = gateway.address();
    let at = ["--s2cs", address.as_str(), "--ssl=False"];
    // What this gateway answers does not matter, nor that some of these calls fail there.
    let commands: [&[&str]; 9] = [
        &["list"],
        &["status"],
        &["show", "0123456789ab-prod"],
        &["watch"],
        &["renew", &uid],
        &["release", &uid, "--reason", "enough"],
        &["drain"],
        &["inbound-request", "--num_conn", "1", "--mock"],
        &["outbound-request", "--num_conn", "1", &uid, "10.0.0.1:5100"],
    ];
    for command in commands {
        let ran = user.s2uc(&[command, &at].concat()).await;
        assert!(!format!("{ran:?}").contains(&bearer[7..]), "it was printed: {ran:?}");
    }
    let ran = user.begin(APPCTRL, &[["hello", "--uid", &uid, "--role", "CONS"].as_slice(), &at].concat()).end().await;
    assert!(!format!("{ran:?}").contains(&bearer[7..]), "it was printed: {ran:?}");
    let calls = gateway.calls();
    assert_eq!(calls.iter().filter(|(_, sent)| *sent == bearer).count(), calls.len(), "{calls:?}");
    assert!(calls.len() >= 3, "{calls:?}");
    println!("{} calls, each with the token", calls.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_for_scripts_holds_the_token_only_when_asked() {
    let (_server, gateway, user) = logged_in("").await;
    let token = text(&kept(&user)["access_token"]).to_owned();
    let address = gateway.address();
    for (flags, shown) in [(vec![], "INVALID_TOKEN"), (vec!["--print-token"], token.as_str())] {
        let arguments = [vec!["inbound-request", "--s2cs", &address, "--ssl=False", "--num_conn", "1"], flags].concat();
        // The gateway carries no streams; the line comes before it says so.
        let ran = user.s2uc(&arguments).await;
        let mut lines = ran.stdout.lines();
        assert_eq!(lines.next(), Some("uid; s2cs; access_token; role"), "{ran:?}");
        let fields: Vec<_> = lines.next().expect("the values").split(' ').collect();
        assert_eq!(fields[1..], [address.as_str(), shown, "PROD"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_users_own_choice_comes_first() {
    let (_server, gateway, mut user) = logged_in("").await;
    let address = gateway.address();
    gateway.calls();
    fs::write(user.home().join("token"), "from-a-file\n").expect("written");
    let list = ["list", "--s2cs", &address, "--ssl=False"];
    let with_file = [list.as_slice(), &["--token-file", "token"]].concat();
    user.s2uc(&with_file).await.succeeded();
    assert_eq!(gateway.calls().last(), Some(&("list", "Bearer from-a-file".into())));
    user.set("SCISTREAM_TOKEN", "from-a-variable");
    user.s2uc(&list).await.succeeded();
    assert_eq!(gateway.calls().last(), Some(&("list", "Bearer from-a-variable".into())));
    user.s2uc(&with_file).await.succeeded();
    assert_eq!(gateway.calls().last(), Some(&("list", "Bearer from-a-file".into())));
    for (content, why) in [("", "empty"), ("two\nlines", "characters"), ("\u{7}", "characters")] {
        fs::write(user.home().join("token"), content).expect("written");
        let refused = user.s2uc(&with_file).await.failed(2);
        assert!(refused.contains(why), "{content:?}: {refused}");
    }
    // Every address of this host, but not by its name for itself: who answers there is not known.
    let elsewhere = format!("0.0.0.0:{}", gateway.port());
    let refused = user.s2uc(&["list", "--s2cs", &elsewhere, "--ssl=False"]).await.failed(2);
    assert!(refused.contains("without TLS"), "{refused}");
    assert!(!gateway.calls().iter().any(|(name, _)| *name == "list"), "it was sent in clear");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_renew_at_once_use_each_refresh_token_once() {
    let (server, gateway, user) = logged_in("seconds=30").await;
    const ROUNDS: usize = 3;
    const PROCESSES: usize = 6;
    let mut tokens = HashSet::new();
    for _ in 0..ROUNDS {
        let begun: Vec<_> = (0..PROCESSES)
            .map(|_| user.begin(S2UC, &["check-auth", "--print-token", "--s2cs", &gateway.address()]))
            .collect();
        for process in begun {
            tokens.insert(process.end().await.succeeded().trim_end().to_owned());
        }
    }
    let last = text(&kept(&user)["refresh_token"]).to_owned();
    assert_eq!(server.introspect(&last).await["active"], true, "the login was taken back: a refresh token came twice");
    println!(
        "{PROCESSES} processes, {ROUNDS} times: {} tokens by {} requests",
        tokens.len(),
        server.calls("/token").await
    );
    // Each token holds for half a minute, which is less than is wanted of one: each process renews.
    assert_eq!(tokens.len(), ROUNDS * PROCESSES);
    assert_eq!(server.calls("/token").await, u64::try_from(ROUNDS * PROCESSES).expect("few") + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_only_when_it_ends_soon() {
    for (seconds, renewals) in [(3600, 0), (180, 0), (59, 1)] {
        let (server, gateway, user) = logged_in(&format!("seconds={seconds}")).await;
        user.s2uc(&["list", "--s2cs", &gateway.address(), "--ssl=False"]).await.succeeded();
        assert_eq!(server.calls("/token").await, 1 + renewals, "{seconds} s");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_login_takes_the_place_of_the_first() {
    let server = AuthorizationServer::start().await;
    let gateway = TellingGateway::start(vec![server.offer("")]).await;
    let user = User::new();
    log_in(&user, &gateway, "alice").await;
    log_in(&user, &gateway, "bob").await;
    let entry = kept(&user);
    assert_eq!((&entry["who"], user.store().exists()), (&json!("bob"), true));
}
