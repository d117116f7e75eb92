//! What a stranger may send: every malformed or forbidden value is refused by name, and changes nothing.

use std::path::PathBuf;

use scistream::session::Endpoint;
use scistream_proto as wire;
use tonic::{Code, Status};

use crate::support::leftovers::files_under;
use crate::support::raw::{assert_refused, named_fields, new_uid};
use crate::support::{Raw, TestGateway, eventually};

const UUID: &str = "6f9619ff-8b86-11d0-b42d-00cf4fc964ff";
const GOOD: &str = "127.0.0.1:5300";
const RATE: i32 = 10_000;

/// All that a refused call could have left.
fn traces(gateway: &TestGateway) -> (Vec<PathBuf>, Vec<(i32, String)>, Vec<u16>) {
    (files_under(gateway.folder()), gateway.processes(), gateway.listening())
}

async fn plain_gateway(flags: &[&str]) -> (TestGateway, Raw) {
    let gateway = TestGateway::start(&[&["--ssl=False"], flags].concat()).await;
    let raw = Raw::connect(&gateway).await;
    (gateway, raw)
}

/// A gateway that others can reach, whose own loopback is no target.
async fn open_gateway() -> (TestGateway, Raw) {
    plain_gateway(&["--listen", "0.0.0.0:0", "--no-auth", "--insecure"]).await
}

fn assert_bad_format<T: std::fmt::Debug>(what: &str, outcome: Result<T, Status>, field: &str) {
    let (message, details) = assert_refused(what, outcome, Code::InvalidArgument, "BAD_FORMAT");
    assert_eq!(named_fields(&details), [field], "{what}: {message}");
    assert!(message.contains(field), "{what}: {message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_uid_is_refused_by_every_call() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let before = traces(&gateway);
    let (long, digits) = ("a".repeat(5000), "a".repeat(130));
    for uid in [
        "",
        " ",
        "x",
        "../../../x",
        "/etc/passwd",
        "6f9619ff-8b86-11d0-b42d00cf-4fc964ff",
        "{6f9619ff-8b86-11d0-b42d-00cf4fc964ff}",
        " 6f9619ff-8b86-11d0-b42d-00cf4fc964ff",
        "6f9619ff-8b86-11d0-b42d-00cf4fc964ff\n",
        "6f9619ff-8b86-11d0-b42d-00cf4fc964fg",
        "6f9619ff8b8611d0b42d00cf4fc964f",
        "6f9619ff8b8611d0b42d00cf4fc964fff",
        "6f9619ff8b8611d0b42d00cf4fc964f\0",
        "６f9619ff8b8611d0b42d00cf4fc964ff",
        "{{ session }}{{ session }}{{ session }}",
        &digits,
        &long,
    ] {
        let outcomes = [
            raw.req(uid, "PROD", 1, RATE).await.map(drop),
            raw.hello(uid, "PROD", &[GOOD]).await.map(drop),
            raw.update(uid, "PROD", &[GOOD]).await.map(drop),
            raw.release(uid).await.map(drop),
        ];
        for outcome in outcomes {
            let (message, details) = assert_refused(uid, outcome, Code::InvalidArgument, "INVALID_UID");
            assert_eq!(named_fields(&details), ["uid"]);
            assert!(message.len() < 500, "{message}");
            // It may have been meant as a key.
            assert!(uid.len() < 8 || !message.contains(uid), "{message}");
        }
    }
    assert_eq!(traces(&gateway), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_role_is_refused_by_every_call_that_has_one() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let before = traces(&gateway);
    for role in ["", "prod", "cons", "BANANA", "PROD\n", " PROD", "PROD\nexec = x", "PROD\0", "PRODCONS"] {
        assert_bad_format(role, raw.req(&new_uid(), role, 1, RATE).await, "role");
        assert_bad_format(role, raw.hello(&new_uid(), role, &[GOOD]).await, "role");
        assert_bad_format(role, raw.update(&new_uid(), role, &[GOOD]).await, "role");
    }
    assert_eq!(traces(&gateway), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_cannot_be_is_refused() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let before = traces(&gateway);
    for connections in [0, -1, 65, 65_536, 65_537, 100_000, i32::MAX, i32::MIN] {
        let outcome = raw.req(&new_uid(), "PROD", connections, RATE).await;
        assert_bad_format(&connections.to_string(), outcome, "num_conn");
    }
    for rate in [-1, i32::MIN] {
        assert_bad_format(&rate.to_string(), raw.req(&new_uid(), "PROD", 1, rate).await, "rate");
    }
    assert_eq!(traces(&gateway), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_endpoint_is_refused_by_hello_and_update() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let before = traces(&gateway);
    let long_label = format!("{}:80", "a".repeat(64));
    let (long_name, long) = (format!("{}a:80", "a.".repeat(130)), "a".repeat(5000));
    for endpoint in [
        "",
        "host",
        ":5300",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        "127.0.0.1:-1",
        "127.0.0.1:+80",
        "127.0.0.1:8O",
        "127.0.0.1: 80",
        " 127.0.0.1:80",
        "127.0.0.1:80 ",
        "127.0.0.1:80\n",
        "127.0.0.1:80\nexec = /bin/true",
        "127.0.0.1\n:80",
        "127.0.0.1:80 send-proxy",
        "127.0.0.1:80;",
        "127.0.0.1:80,127.0.0.1:81",
        "host name:80",
        "-f:80",
        "--option:80",
        "host-:80",
        "a..b:80",
        ".:80",
        "/run/x.sock",
        "/run/x.sock:80",
        "unix:/run/x.sock",
        "unix@/run/x.sock:80",
        "fd@3:80",
        "http://127.0.0.1:80",
        "user@host:80",
        "{{ key_file }}:80",
        "{% include 'x' %}:80",
        "${HOME}:80",
        "`id`:80",
        "ho\0st:80",
        "hö:80",
        "::1:80",
        "2001:db8::1:80",
        "[::1]",
        "[::1:80",
        "[127.0.0.1]:80",
        "[fe80::1%eth0]:80",
        "2130706433:80",
        "0x7f000001:80",
        "0x7f.0.0.1:80",
        "017700000001:80",
        "0177.0.0.1:80",
        "127.1:80",
        "127.0.0.1.:80",
        "1.2.3.256:80",
        &long_label,
        &long_name,
        &long,
    ] {
        for role in ["PROD", "CONS"] {
            assert_bad_format(endpoint, raw.hello(&new_uid(), role, &[endpoint]).await, "prod_listeners");
            // A good one beside it saves it not.
            assert_bad_format(endpoint, raw.update(&new_uid(), role, &[GOOD, endpoint]).await, "remote_listeners");
        }
    }
    assert_eq!(traces(&gateway), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_endpoints_are_refused() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let before = traces(&gateway);
    let many = vec![GOOD; 300];
    assert_bad_format("300 endpoints", raw.hello(&new_uid(), "PROD", &many).await, "prod_listeners");
    assert_bad_format("300 targets", raw.update(&new_uid(), "PROD", &many).await, "remote_listeners");
    assert_eq!(traces(&gateway), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_hello_ends_the_request_that_waits_for_it() {
    let (gateway, raw) = plain_gateway(&[]).await;
    for (role, endpoints) in [("PROD", vec!["127.0.0.1:0"]), ("PROD", vec![]), ("CONS", vec!["::1:80"])] {
        let uid = new_uid();
        let before = gateway.reservations();
        let waiting = spawn_req(&raw, &uid, role);
        eventually("the session is there", || gateway.reservations() > before).await;
        assert_bad_format("HELLO", raw.hello(&uid, role, &endpoints).await, "prod_listeners");
        let ended = waiting.await.expect("no panic");
        assert_refused("REQ", ended, Code::InvalidArgument, "BAD_FORMAT");
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_ends_the_hello_that_waits_for_it() {
    let (_gateway, raw) = plain_gateway(&[]).await;
    let uid = new_uid();
    let hello = spawn_hello(&raw, &uid, "PROD");
    others_are_answered(&raw).await;
    assert_bad_format("REQ", raw.req(&uid, "PROD", 0, RATE).await, "num_conn");
    let ended = hello.await.expect("no panic");
    assert_refused("HELLO", ended, Code::NotFound, "INVALID_UID");
}

fn spawn_req(raw: &Raw, uid: &str, role: &'static str) -> tokio::task::JoinHandle<Result<wire::Response, Status>> {
    let (raw, uid) = (raw.clone(), uid.to_owned());
    tokio::spawn(async move { raw.req(&uid, role, 1, RATE).await })
}

fn spawn_hello(raw: &Raw, uid: &str, role: &'static str) -> tokio::task::JoinHandle<Result<wire::AppResponse, Status>> {
    let (raw, uid) = (raw.clone(), uid.to_owned());
    tokio::spawn(async move { raw.hello(&uid, role, &[GOOD]).await })
}

/// Calls that come after a spawned one on the same connection. When they are
/// answered, that one has long been read.
async fn others_are_answered(raw: &Raw) {
    for _ in 0..50 {
        assert!(raw.release(&new_uid()).await.is_err());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_target_is_refused_and_changes_nothing() {
    let (gateway, raw) = open_gateway().await;
    let (prod, cons) = (new_uid(), new_uid());
    // A documentation address, which nobody has (RFC 5737).
    raw.reserve(&prod, "PROD", &["192.0.2.1:5300"]).await;
    raw.reserve::<&str>(&cons, "CONS", &[]).await;
    let before = traces(&gateway);
    for host in [
        "127.0.0.1",
        "127.8.9.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "169.254.1.1",
        "169.254.169.254",
        "[fe80::1]",
        "224.0.0.1",
        "[ff02::1]",
        "0.0.0.0",
        "0.1.2.3",
        "[::]",
        "255.255.255.255",
    ] {
        let target = format!("{host}:80");
        for (uid, role) in [(&prod, "PROD"), (&cons, "CONS")] {
            let outcome = raw.update(uid, role, &["192.0.2.1:5300", &target]).await;
            let (message, _) = assert_refused(&target, outcome, Code::PermissionDenied, "AUTH_ERROR");
            let shown = target.parse::<Endpoint>().expect("well-formed").to_string();
            assert!(message.contains(&shown), "{message}");
        }
        let outcome = raw.hello(&prod, "PROD", &[&target]).await;
        assert_refused(&target, outcome, Code::PermissionDenied, "AUTH_ERROR");
    }
    assert_eq!(traces(&gateway), before);
    // What was announced first is announced still.
    let serving = raw.update::<&str>(&prod, "PROD", &[]).await.expect("it serves");
    assert_eq!(serving.prod_listeners, ["192.0.2.1:5300"]);
    raw.release(&prod).await.expect("released");
    raw.release(&cons).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_hello_with_a_forbidden_target_ends_its_request() {
    let (gateway, raw) = open_gateway().await;
    let uid = new_uid();
    let waiting = spawn_req(&raw, &uid, "PROD");
    eventually("the session is there", || gateway.reservations() == 1).await;
    let refused = raw.hello(&uid, "PROD", &["127.0.0.1:22"]).await;
    assert_refused("HELLO", refused, Code::PermissionDenied, "AUTH_ERROR");
    let ended = waiting.await.expect("no panic").expect_err("REQ does not wait on");
    assert!(ended.message().contains("127.0.0.1:22"), "{}", ended.message());
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_an_address_is_refused() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let uid = new_uid();
    raw.reserve(&uid, "PROD", &[GOOD]).await;
    let refused = raw.update(&uid, "PROD", &["nobody.invalid:80"]).await;
    let (message, _) = assert_refused("UPDATE", refused, Code::InvalidArgument, "BAD_FORMAT");
    assert!(message.contains("nobody.invalid:80"), "{message}");
    raw.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uid_is_requested_once() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let uid = new_uid();
    raw.reserve(&uid, "PROD", &[GOOD]).await;
    let again = raw.req(&uid, "PROD", 1, RATE).await;
    assert_refused("the same again", again, Code::AlreadyExists, "INVALID_UID");
    let upper = raw.req(&uid.to_uppercase(), "PROD", 1, RATE).await;
    assert_refused("the same in capitals", upper, Code::AlreadyExists, "INVALID_UID");
    // The other end is another session.
    raw.reserve::<&str>(&uid, "CONS", &[]).await;
    raw.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
    raw.reserve(&uid, "PROD", &[GOOD]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_uid_is_not_found() {
    let (gateway, raw) = plain_gateway(&["--hello-timeout", "0.3"]).await;
    let before = traces(&gateway);
    assert_refused("UPDATE", raw.update(&new_uid(), "PROD", &[GOOD]).await, Code::NotFound, "INVALID_UID");
    assert_refused("RELEASE", raw.release(&new_uid()).await, Code::NotFound, "INVALID_UID");
    // HELLO may have come before its REQ, so it waits for it.
    assert_refused("HELLO", raw.hello(&new_uid(), "PROD", &[GOOD]).await, Code::DeadlineExceeded, "TIMEOUT");
    // The session of the other end is no session of this one.
    let uid = new_uid();
    raw.reserve(&uid, "PROD", &[GOOD]).await;
    assert_refused("the other end", raw.update(&uid, "CONS", &[GOOD]).await, Code::NotFound, "INVALID_UID");
    raw.release(&uid).await.expect("released");
    assert_eq!(traces(&gateway), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_needs_a_hello_first() {
    let (gateway, raw) = plain_gateway(&[]).await;
    for role in ["PROD", "CONS"] {
        let uid = new_uid();
        let before = gateway.reservations();
        let waiting = spawn_req(&raw, &uid, role);
        eventually("the session is there", || gateway.reservations() > before).await;
        let early = raw.update(&uid, role, &[GOOD]).await;
        assert_refused(role, early, Code::FailedPrecondition, "VERSION_ERR");
        assert!(gateway.processes().is_empty());
        // It is none the worse for it.
        raw.hello(&uid, role, &[GOOD]).await.expect("HELLO is taken");
        waiting.await.expect("no panic").expect("REQ is answered");
        raw.update(&uid, role, &[GOOD]).await.expect("it serves");
        raw.release(&uid).await.expect("released");
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cons_update_needs_targets() {
    let (_gateway, raw) = plain_gateway(&[]).await;
    let uid = new_uid();
    raw.reserve::<&str>(&uid, "CONS", &[]).await;
    assert_bad_format("UPDATE", raw.update::<&str>(&uid, "CONS", &[]).await, "remote_listeners");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_hello_ends_in_time_and_gives_everything_back() {
    let (gateway, raw) = plain_gateway(&["--hello-timeout", "0.3"]).await;
    for role in ["PROD", "CONS"] {
        let uid = new_uid();
        let began = std::time::Instant::now();
        let late = raw.req(&uid, role, 3, RATE).await;
        let (message, _) = assert_refused(role, late, Code::DeadlineExceeded, "TIMEOUT");
        assert!(began.elapsed().as_millis() >= 300, "it did not wait");
        assert!(message.contains("HELLO"), "{message}");
        gateway.assert_nothing_left();
        // A HELLO that comes now has no session.
        assert!(raw.hello(&uid, role, &[GOOD]).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_release_is_fine() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let uid = new_uid();
    raw.reserve(&uid, "PROD", &[GOOD]).await;
    raw.update(&uid, "PROD", &[GOOD]).await.expect("it serves");
    for _ in 0..3 {
        raw.release(&uid).await.expect("released");
        gateway.assert_nothing_left();
    }
    let late = raw.update(&uid, "PROD", &[GOOD]).await;
    assert_refused("an UPDATE of what is gone", late, Code::NotFound, "INVALID_UID");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_during_its_request_gives_everything_back() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let (kept, lost) = (new_uid(), new_uid());
    let waiting = spawn_req(&raw, &kept, "PROD");
    let going = spawn_req(&Raw::connect(&gateway).await, &lost, "PROD");
    eventually("both wait", || gateway.listening().len() == 2).await;
    going.abort();
    eventually("one is given back", || gateway.listening().len() == 1).await;
    raw.hello(&kept, "PROD", &[GOOD]).await.expect("the other is not touched");
    waiting.await.expect("no panic").expect("REQ is answered");
    raw.release(&kept).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_may_come_before_its_request() {
    let (gateway, raw) = plain_gateway(&[]).await;
    for role in ["PROD", "CONS"] {
        let uid = new_uid();
        let hello = spawn_hello(&raw, &uid, role);
        others_are_answered(&raw).await;
        assert!(!hello.is_finished(), "HELLO did not wait");
        let reserved = raw.req(&uid, role, 1, RATE).await.expect("REQ is answered");
        let announced = hello.await.expect("no panic").expect("HELLO is taken");
        let told = if role == "PROD" { vec![] } else { reserved.listeners.clone() };
        assert_eq!(announced.listeners, told);
        assert_eq!(reserved.prod_listeners, [GOOD]);
        raw.release(&uid).await.expect("released");
    }
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spellings_of_one_uid_are_one_session() {
    let (gateway, raw) = plain_gateway(&[]).await;
    let (upper, bare) = (UUID.to_uppercase(), UUID.replace('-', ""));
    let waiting = spawn_req(&raw, UUID, "PROD");
    raw.hello(&upper, "PROD", &[GOOD]).await.expect("HELLO is taken");
    waiting.await.expect("no panic").expect("REQ is answered");
    raw.update(&bare, "PROD", &[GOOD]).await.expect("it serves");
    assert_eq!(gateway.listening().len(), 1);
    raw.release(&upper).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_gateway_says_so() {
    let (gateway, raw) = plain_gateway(&["--max-sessions", "1", "--max-listeners", "2"]).await;
    let uid = new_uid();
    raw.reserve(&uid, "PROD", &[GOOD]).await;
    let more = raw.req(&new_uid(), "PROD", 1, RATE).await;
    let (message, _) = assert_refused("a second session", more, Code::ResourceExhausted, "NO_RESOURCE");
    assert!(message.contains("1 sessions"), "{message}");
    raw.release(&uid).await.expect("released");
    assert_bad_format("three listeners", raw.req(&new_uid(), "PROD", 3, RATE).await, "num_conn");
    raw.reserve(&new_uid(), "PROD", &[GOOD]).await;
    assert_eq!(gateway.listening().len(), 1);
}

/// Callers' words stay out of the log, where they could pass for lines of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_strangers_send_is_a_line_of_the_log() {
    let (gateway, raw) = plain_gateway(&["--verbose"]).await;
    let forged = "x\n2026-01-01T00:00:00Z  INFO forged";
    assert!(raw.req(forged, forged, 1, RATE).await.is_err());
    assert!(raw.req(&new_uid(), forged, 1, RATE).await.is_err());
    assert!(raw.hello(&new_uid(), "PROD", &[forged]).await.is_err());
    assert!(raw.update(&new_uid(), "PROD", &[forged]).await.is_err());
    assert!(raw.release(forged).await.is_err());
    assert!(!gateway.stderr().contains("forged"), "{}", gateway.stderr());
}
