//! Who records what goes between two gateways learns nothing of a stream, which
//! is always in TLS 1.3 when both ends are ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use scistream::client::{Gateway, Security};
use scistream::session::{Role, Uid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::Echo;
use crate::support::deployed_stunnel::{DeployedStunnel, End};
use crate::support::leftovers::files_under;
use crate::support::recorder::Recorder;
use crate::support::tunnel::{ask, open_cons, open_prod};
use crate::support::{App, TestGateway};

/// What goes through each stream, and comes back.
const CANARY: &str = "the canary that nobody between the gateways shall hear";

/// Every terminator with every terminator, and those in front of other proxies.
const PAIRS: [[&[&str]; 2]; 7] = [
    [NATIVE, NATIVE],
    [NATIVE, STUNNEL],
    [STUNNEL, NATIVE],
    [STUNNEL, STUNNEL],
    [&["--backend", "haproxy"], &["--backend", "nginx"]],
    [&["--backend", "nginx", "--terminator", "stunnel"], &["--backend", "haproxy"]],
    [&["--backend", "haproxy"], &["--backend", "nginx", "--terminator", "stunnel"]],
];
const NATIVE: &[&str] = &["--backend", "native"];
const STUNNEL: &[&str] = &["--backend", "stunnel"];

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

/// Whether the first record of a server's is a hello that chooses TLS 1.3 (RFC
/// 8446 section 4.2.1): its extension 43, two bytes long, says 0x0304.
fn chooses_tls13(answered: &[u8]) -> bool {
    let handshake = 0x16;
    assert_eq!(answered[0], handshake, "the answer does not begin with a handshake");
    let length = usize::from(u16::from_be_bytes([answered[3], answered[4]]));
    holds(&answered[5..5 + length], &[0, 0x2b, 0, 2, 3, 4])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_stream_can_be_read_between_the_gateways() {
    for [prod_flags, cons_flags] in PAIRS {
        let pair = format!("{prod_flags:?} to {cons_flags:?}");
        let uid = Uid::random().expect("randomness");
        let app = App::start().await;
        let inside = Recorder::start(&app.endpoint()).await;
        let target = inside.address.to_string().parse().expect("an endpoint");
        let (prod, cons) = (TestGateway::start(prod_flags).await, TestGateway::start(cons_flags).await);
        let half = open_prod(&uid, &prod, &target, 1).await;
        let between = Recorder::start(&half.listeners[0]).await;
        let half = open_cons(&uid, &cons, vec![between.address.to_string()], 1).await;
        Echo::connect(&half.listeners[0]).await.say(CANARY).await;

        for bytes in [inside.sent(), inside.answered()] {
            assert!(holds(&bytes, CANARY.as_bytes()), "{pair}: the application did not get the canary");
        }
        for bytes in [between.sent(), between.answered()] {
            assert!(bytes.len() > CANARY.len(), "{pair}: the stream did not come this way");
            assert!(!holds(&bytes, CANARY.as_bytes()), "{pair}: the canary can be read between the gateways");
        }
        assert!(chooses_tls13(&between.answered()), "{pair}: the tunnel is not TLS 1.3");
        prod.client().await.release(&uid).await.expect("released");
        cons.client().await.release(&uid).await.expect("released");
    }
}

/// Who plays back what an honest consumer once said is nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_stream_cannot_be_played_again() {
    let mut played = 0;
    for [prod_flags, cons_flags] in PAIRS {
        let pair = format!("{prod_flags:?} to {cons_flags:?}");
        let (uid, app) = (Uid::random().expect("randomness"), App::start().await);
        let (prod, cons) = (TestGateway::start(prod_flags).await, TestGateway::start(cons_flags).await);
        let half = open_prod(&uid, &prod, &app.endpoint().parse().expect("an endpoint"), 1).await;
        let between = Recorder::start(&half.listeners[0]).await;
        let cons_half = open_cons(&uid, &cons, vec![between.address.to_string()], 1).await;
        Echo::connect(&cons_half.listeners[0]).await.say(CANARY).await;
        let (before, recorded) = ((app.connections(), app.bytes()), between.sent());
        // At once, and in the steps in which an answer may be waited for.
        for step in [recorded.len(), 64] {
            let mut stream = TcpStream::connect(&half.listeners[0]).await.expect("the port accepts");
            for part in recorded.chunks(step) {
                if stream.write_all(part).await.is_err() {
                    break;
                }
            }
            drop(stream.shutdown().await);
            let mut answer = Vec::new();
            // A reset is an end too.
            drop(stream.read_to_end(&mut answer).await);
            assert!(!holds(&answer, CANARY.as_bytes()), "{pair}: the application answered");
            played += 1;
        }
        assert_eq!((app.connections(), app.bytes()), before, "{pair}: it reached the application");
        prod.client().await.release(&uid).await.expect("released");
        cons.client().await.release(&uid).await.expect("released");
    }
    println!("{played} recordings played again: 0 connections and 0 bytes reached the application");
}

/// The control channel carries what opens a stream: its UID, and the user's token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_users_calls_can_be_read_on_their_way() {
    let token = "a-token-that-nobody-on-the-way-shall-have";
    for (flags, is_readable) in [(&["--ssl=False"][..], true), (&[], false)] {
        let (uid, app, gateway) =
            (Uid::random().expect("randomness"), App::start().await, TestGateway::start(flags).await);
        let between = Recorder::start(&gateway.address().to_string()).await;
        let security = if is_readable { Security::Plain } else { Security::Tls(Some(gateway.certificate())) };
        let client = Gateway::connect(&between.address.to_string().parse().expect("an endpoint"), &security).await;
        let client = client.expect("connected").with_token(token).expect("it can be sent");
        let ask = ask(&uid, Role::Prod, 1, vec![app.endpoint().parse().expect("an endpoint")]);
        ask.open(&client, None).await.unwrap_or_else(|e| panic!("{}", e.story()));
        client.release(&uid).await.expect("released");
        let heard = [between.sent(), between.answered()].concat();
        for secret in [uid.wire(), &app.endpoint()] {
            assert_eq!(holds(&heard, secret.as_bytes()), is_readable, "{flags:?}");
        }
        // HTTP/2 may compress a header, so only its absence says something.
        assert!(is_readable || !holds(&heard, token.as_bytes()));
    }
}

/// All that a process shows to others of its user: its arguments and its environment.
fn shown(pid: i32) -> Vec<u8> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    [read("cmdline"), read("environ")].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stands_in_its_own_file_and_nowhere_else() {
    let (mut places, mut files_of_keys) = (0, 0);
    for [prod_flags, cons_flags] in PAIRS {
        let (uid, app) = (Uid::random_uuid().expect("randomness"), App::start().await);
        let verbose = ["--verbose", "--audit-log", "audit.log"];
        let prod = TestGateway::start(&[prod_flags, &verbose].concat()).await;
        let cons = TestGateway::start(&[cons_flags, &verbose].concat()).await;
        let half = open_prod(&uid, &prod, &app.endpoint().parse().expect("an endpoint"), 1).await;
        let between = Recorder::start(&half.listeners[0]).await;
        let cons_half = open_cons(&uid, &cons, vec![between.address.to_string()], 1).await;
        Echo::connect(&cons_half.listeners[0]).await.say(CANARY).await;

        let key = uid.wire().replace('-', "");
        let bytes: Vec<u8> =
            (0..key.len()).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).expect("digits")).collect();
        let spellings = [uid.wire().as_bytes().to_vec(), key.to_uppercase().into_bytes(), key.into_bytes(), bytes];
        let assert_nowhere = |what: &str, text: &[u8]| {
            assert!(!spellings.iter().any(|spelling| holds(text, spelling)), "the key stands in {what}");
        };
        assert_nowhere("what goes between the gateways", &[between.sent(), between.answered()].concat());
        for gateway in [&prod, &cons] {
            let mut processes = gateway.processes();
            assert!(!processes.is_empty(), "no proxy runs");
            processes.push((gateway.pid().as_raw(), "s2cs".into()));
            for (pid, name) in &processes {
                assert_nowhere(&format!("what {name} shows"), &shown(*pid));
            }
            for path in files_under(gateway.folder()).into_iter().filter(|path| path.is_file()) {
                let text = fs::read(&path).expect("read");
                if path.ends_with("psk") {
                    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
                    assert_eq!(
                        (mode(&path), mode(path.parent().expect("a folder"))),
                        (0o600, 0o700),
                        "{}",
                        path.display()
                    );
                    assert!(spellings.iter().any(|spelling| holds(&text, spelling)), "it would not be found");
                    files_of_keys += 1;
                } else {
                    assert_nowhere(&path.display().to_string(), &text);
                    places += 1;
                }
            }
        }
        prod.client().await.release(&uid).await.expect("released");
        cons.client().await.release(&uid).await.expect("released");
        for gateway in [&prod, &cons] {
            for path in files_under(gateway.folder()).into_iter().filter(|path| path.is_file()) {
                assert_nowhere(&path.display().to_string(), &fs::read(&path).expect("read"));
            }
        }
    }
    println!(
        "{files_of_keys} key files, for their owner alone, gone at release; in {places} other files, no argument, no environment, nothing"
    );
}

/// What the lower floor costs, and that the recorder would have heard a canary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_a_deployed_peer_can_be_read_by_anyone() {
    let uid = Uid::random().expect("randomness");
    let app = App::start().await;
    let prod = TestGateway::start(&["--protection", "integrity"]).await;
    let half = open_prod(&uid, &prod, &app.endpoint().parse().expect("an endpoint"), 1).await;
    let between = Recorder::start(&half.listeners[0]).await;
    let peer = DeployedStunnel::start(End::Client, &uid, &[between.address.to_string()]).await;
    Echo::connect(&peer.listeners[0].to_string()).await.say(CANARY).await;
    for bytes in [between.sent(), between.answered()] {
        assert!(holds(&bytes, CANARY.as_bytes()), "a suite without encryption hid the canary");
    }
    assert!(!chooses_tls13(&between.answered()));
    prod.client().await.release(&uid).await.expect("released");
}

/// A lower floor does not lower what two of ours agree on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floor_of_integrity_is_no_ceiling() {
    for [prod_flags, cons_flags] in PAIRS {
        let pair = format!("{prod_flags:?} to {cons_flags:?}");
        let floor = ["--protection", "integrity"];
        let uid = Uid::random().expect("randomness");
        let app = App::start().await;
        let prod = TestGateway::start(&[prod_flags, &floor].concat()).await;
        let cons = TestGateway::start(&[cons_flags, &floor].concat()).await;
        let half = open_prod(&uid, &prod, &app.endpoint().parse().expect("an endpoint"), 1).await;
        let between = Recorder::start(&half.listeners[0]).await;
        let half = open_cons(&uid, &cons, vec![between.address.to_string()], 1).await;
        Echo::connect(&half.listeners[0]).await.say(CANARY).await;
        assert!(chooses_tls13(&between.answered()), "{pair}: the tunnel is not TLS 1.3");
        assert!(!holds(&between.sent(), CANARY.as_bytes()), "{pair}: the canary can be read");
        prod.client().await.release(&uid).await.expect("released");
        cons.client().await.release(&uid).await.expect("released");
    }
}
