//! What a new operator and a new user do first: `s2cs setup`, `s2cs doctor`, `s2uc doctor`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::TestGateway;
use crate::support::authorization_server::AuthorizationServer;
use crate::support::command::{Ran, run, run_with_input};
use crate::support::gateway::{S2CS, S2UC};
use crate::support::guarded::{ANYONE, introspected, plan};
use crate::support::ports::PortBlock;

const SETUP: [&str; 8] =
    ["setup", "--config", "s2cs.toml", "--wan-ip", "127.0.0.1", "--lan-ip", "127.0.0.1", "--host=localhost"];

async fn setup(folder: &Path, more: &[&str]) -> Ran {
    run(S2CS, &[&SETUP[..], more].concat(), folder).await
}

/// What is said of a thing.
fn about<'a>(told: &'a Value, what: &str) -> Vec<&'a Value> {
    let findings = told["findings"].as_array().expect("a list");
    findings.iter().filter(|finding| finding["about"] == json!(what)).collect()
}

fn verdicts(told: &Value, what: &str) -> Vec<String> {
    about(told, what).iter().map(|finding| finding["verdict"].as_str().expect("a word").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_setup_writes_is_what_s2cs_starts_with() {
    let folder = TempDir::new().expect("a folder");
    let ports = PortBlock::claim();
    let range = format!("{}-{}", ports.range().start(), ports.range().end());
    let said = setup(folder.path(), &["--yes", "--callers", "unknown", "--port-range", &range]).await;
    let said = said.succeeded().to_owned();
    // The two commands to try.
    assert!(said.contains("  s2cs --config s2cs.toml\n") && said.contains("  s2uc doctor --s2cs localhost:"), "{said}");
    let mode = |name: &str| folder.path().join(name).metadata().expect(name).permissions().mode() & 0o777;
    assert_eq!((mode("server.key"), mode("server.crt")), (0o600, 0o644));
    run(S2CS, &["check", "--config", "s2cs.toml", "--state-dir", "s"], folder.path()).await.succeeded();

    let certificate = fs::read(folder.path().join("server.crt")).expect("there");
    let said = setup(folder.path(), &["--yes", "--callers", "unknown"]).await.failed(1).to_owned();
    assert!(said.contains("--force"), "{said}");
    setup(folder.path(), &["--yes", "--callers", "unknown", "--force"]).await.succeeded();
    assert_eq!(fs::read(folder.path().join("server.crt")).expect("there"), certificate, "users have it already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_keeps_the_comments_of_a_file_that_sets_nothing() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("s2cs.toml"), "# What carries the bytes.\n#backend = \"native\"\n").expect("written");
    fs::write(folder.path().join("secret"), "s3cret\n").expect("written");
    let globus = ["--callers", "globus", "--client-id", "abc", "--client-secret-file", "secret"];
    setup(folder.path(), &[&["--yes", "--allow", "domain:example.org"][..], &globus].concat()).await.succeeded();
    let text = fs::read_to_string(folder.path().join("s2cs.toml")).expect("there");
    assert!(text.contains("#backend = \"native\"") && !text.contains("s3cret"), "{text}");
    run(S2CS, &["check", "--config", "s2cs.toml", "--state-dir", "s"], folder.path()).await.succeeded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_says_what_is_missing_and_leaves_nothing() {
    let folder = TempDir::new().expect("a folder");
    // No terminal to ask at: who knows callers has to be said.
    for (flags, missing) in [
        (vec![], "--callers"),
        (vec!["--callers", "globus"], "--client-id"),
        (vec!["--callers", "jwt", "--issuer", "https://login.example"], "--audience"),
        (vec!["--callers", "certificates"], "--client-ca"),
        (vec!["--callers", "unknown", "--port-range", "9-1"], "port_range"),
        (vec!["--callers", "unknown", "--backend", "nonesuch"], "nonesuch"),
    ] {
        let said = run_with_input(S2CS, &[&SETUP[..], &flags].concat(), folder.path(), "").await.failed(1).to_owned();
        assert!(said.contains(missing), "{flags:?}: {said}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "{flags:?} left something");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_doctor_finds_what_is_wrong() {
    let folder = TempDir::new().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let made = ["cert", "--host", "elsewhere.example", "--days", "9", "--out", "a.crt", "--key-out", "a.key"];
    run(S2CS, &made, folder.path()).await.succeeded();
    let (port, range) = (port.to_string(), format!("{port}-{port}"));
    let flags = [
        &["doctor", "--json", "--listener-ip", "127.0.0.1", "--state-dir", "s", "--no-auth"][..],
        &["--port", &port, "--port-range", &range, "--server-crt", "a.crt", "--server-key", "a.key"],
        &["--backend", "haproxy"],
    ];
    let ran = run(S2CS, &flags.concat(), folder.path()).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = ran.json();
    assert_eq!(told["ok"], json!(false));
    assert_eq!(verdicts(&told, "control port"), ["bad"]);
    assert_eq!(verdicts(&told, "ports"), ["bad"]);
    assert_eq!(verdicts(&told, "certificate"), ["note", "bad"], "nine days, and another name");
    assert!(verdicts(&told, "programs").iter().all(|verdict| verdict == "good"), "{told}");
    for finding in told["findings"].as_array().expect("a list") {
        assert_eq!(finding["verdict"] == "good", finding["remedy"].is_null(), "{finding}");
    }
    // For people, too.
    let said = run(S2CS, &[&["doctor"][..], &flags.concat()[2..]].concat(), folder.path()).await;
    assert!(
        said.stdout.contains("BAD   control port") && said.stdout.contains("\n                    -> "),
        "{}",
        said.stdout
    );
    let said = run(S2CS, &["doctor", "--config", "none.toml"], folder.path()).await;
    assert!(said.code == Some(1) && said.stdout.contains("none.toml"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_doctor_asks_the_gateway_and_its_provider() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&[], &(introspected(&server) + ANYONE)).start().await;
    let flags = gateway.arguments(gateway.address().port.get());
    let flags: Vec<&str> = ["doctor", "--json"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let doctor = async || run(S2CS, &flags, gateway.folder()).await;
    let told = doctor().await.json();
    assert!(about(&told, "control port")[0]["said"].as_str().expect("words").contains("s2cs runs"), "{told}");
    assert_eq!((verdicts(&told, "provider"), verdicts(&told, "clock")), (vec!["good".into()], vec!["good".into()]));
    server.end().await;
    let told = doctor().await.json();
    assert_eq!(verdicts(&told, "provider"), ["bad"], "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_doctor_tells_how_far_one_gets() {
    let gateway = TestGateway::start(&[]).await;
    let address = format!("localhost:{}", gateway.address().port);
    let doctor = async |flags: &[&str]| {
        let ran = run(S2UC, &[&["--json", "doctor"], flags].concat(), gateway.folder()).await;
        (ran.code, ran.json())
    };
    let certificate = gateway.certificate().display().to_string();
    let (code, told) = doctor(&["--s2cs", &address, "--server-cert", &certificate]).await;
    assert_eq!(code, Some(0), "{told}");
    for step in ["name", "connection", "TLS", "certificate", "gateway", "you", "streams"] {
        assert!(verdicts(&told, step).contains(&"good".to_owned()), "{step}: {told}");
    }
    // Each wrong thing is told of where it is, with what to do.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
    let other = TempDir::new().expect("a folder");
    run(S2CS, &["cert", "--host", "localhost"], other.path()).await.succeeded();
    let other = other.path().join("server.crt").display().to_string();
    for (flags, step, ends) in [
        (vec!["--s2cs", "no-such-host.invalid:5000"], "name", 1),
        (vec!["--s2cs", &nobody], "connection", 2),
        (vec!["--s2cs", &address, "--server-cert", &other], "TLS", 3),
    ] {
        let (code, told) = doctor(&flags).await;
        assert_eq!((code, verdicts(&told, step)), (Some(1), vec!["bad".to_owned()]), "{flags:?}: {told}");
        assert!(told["findings"].as_array().expect("a list").len() >= ends, "{told}");
        assert!(about(&told, "gateway").is_empty(), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_doctor_tells_who_is_not_known() {
    let server = AuthorizationServer::start().await;
    let gateway = plan(&[], &(introspected(&server) + ANYONE)).start().await;
    let address = gateway.address().to_string();
    let flags = ["--json", "doctor", "--s2cs", &address, "--ssl=False"];
    let told = run(S2UC, &flags, gateway.folder()).await.json();
    let you = about(&told, "you");
    assert_eq!(verdicts(&told, "you"), ["bad"], "{told}");
    assert!(you[0]["remedy"].as_str().expect("words").contains("s2uc login"), "{told}");
}

/// What the README says of two hosts, in network namespaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_stream_when_one_does_what_the_readme_says() {
    let programs = Path::new(S2CS).parent().expect("a folder").display().to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/two-hosts").display().to_string();
    let folder = TempDir::new().expect("a folder");
    for backend in ["native", "haproxy"] {
        let ran = run(&script, &["--programs", &programs, "--backend", backend], folder.path()).await;
        let said = ran.succeeded().to_owned();
        println!("{backend}: {}", said.lines().last().expect("the time"));
        assert!(said.contains("From nothing to a stream, and back to nothing, in "), "{said}");
    }
}
