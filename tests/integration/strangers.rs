//! Who does not hold the key of a stream gets no byte to its application.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use scistream::backend::PSK_IDENTITY;
use scistream::session::Uid;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::support::app::First;
use crate::support::deployed_stunnel::{DeployedStunnel, End};
use crate::support::ports::PortBlock;
use crate::support::program::Program;
use crate::support::tls_client::{EVERY_SUITE, Offer, connect, connect_and_keep};
use crate::support::tunnel::{open_cons, open_prod};
use crate::support::{App, BACKENDS, TestGateway, Tunnel, exchange};

/// A key that is as good as any other, but not this stream's.
const WRONG_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Who got through would see this come back.
const LET_ME_IN: &[u8] = b"Elet me in";
/// One byte, at which the application ends the connection.
const KNOCK: &[u8] = b"X";

const TLS13: Offer<'_> = Offer { version: "-tls1_3", suites: "", identity: "client1", key: None };
const TLS12: Offer<'_> = Offer { version: "-tls1_2", suites: EVERY_SUITE, identity: "client1", key: None };
const TLS11: Offer<'_> = Offer { version: "-tls1_1", ..TLS12 };

/// Those who come without the key, or use it for nothing.
fn strangers<'a>(key: &'a str, protection: &str) -> Vec<(&'static str, Offer<'a>)> {
    let (right, wrong, short) = (Some(key), Some(WRONG_KEY), Some(&key[..8]));
    let no_psk = "ALL:COMPLEMENTOFALL:eNULL:!PSK:@SECLEVEL=0";
    let mut strangers = vec![
        ("anonymous, as deployed peers take it", Offer { suites: "AECDH-NULL-SHA:@SECLEVEL=0", ..TLS12 }),
        ("any anonymous suite", Offer { suites: "aNULL:@SECLEVEL=0", ..TLS12 }),
        ("any suite but PSK", Offer { suites: no_psk, ..TLS12 }),
        ("any suite but PSK, with the key at hand", Offer { suites: no_psk, key: right, ..TLS12 }),
        ("TLS 1.3 without a key", TLS13),
        ("TLS 1.2 without a key", TLS12),
        ("TLS 1.3 with a wrong key", Offer { key: wrong, ..TLS13 }),
        ("TLS 1.2 with a wrong key", Offer { key: wrong, ..TLS12 }),
        ("TLS 1.2 with a wrong key, unencrypted", Offer { key: wrong, suites: "PSK+eNULL:@SECLEVEL=0", ..TLS12 }),
        ("TLS 1.3 with a wrong identity", Offer { key: right, identity: "nobody", ..TLS13 }),
        ("TLS 1.2 with a wrong identity", Offer { key: right, identity: "nobody", ..TLS12 }),
        ("TLS 1.3 with the start of the key", Offer { key: short, ..TLS13 }),
        ("TLS 1.2 with the start of the key", Offer { key: short, ..TLS12 }),
        ("TLS 1.1 with the key", Offer { key: right, ..TLS11 }),
    ];
    if protection == "confidentiality" {
        let unencrypted = "PSK+eNULL:@SECLEVEL=0";
        strangers.push(("TLS 1.2 with the key, unencrypted", Offer { key: right, suites: unencrypted, ..TLS12 }));
    }
    strangers
}

/// Sends bytes that are no TLS, and waits for the end.
async fn speak_plainly(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the listener accepts");
    stream.write_all(bytes).await.expect("write");
    stream.shutdown().await.expect("half-close");
    let mut answer = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut answer).await);
    answer
}

/// A stranger's fate: who it was, how many connections and bytes the application saw of it.
struct Fate {
    who: &'static str,
    connections: usize,
    bytes: usize,
}

/// What serves a gateway's halves, in the words of its command line.
async fn meet_strangers(backend: &str, protection: &str) {
    let flags: Vec<&str> = backend.split(' ').chain(["--protection", protection]).collect();
    let app = App::start().await;
    let (prod, cons) = (TestGateway::start(&flags).await, TestGateway::start(&flags).await);
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
    let (wan, friend) = (&tunnel.prod.listeners[0], &tunnel.cons.listeners[0]);
    let key = tunnel.uid.key_hex();
    let key = key.expose_secret();

    // Not the consumer first: stunnel 5.68 may cut what an application sends after that.
    exchange(friend, First::Producer).await;
    // Nor is anybody refused for being s_client.
    for offer in [TLS13, TLS12] {
        let before = app.connections();
        let (ended, session) = connect_and_keep(wan, Offer { key: Some(key), ..offer }, KNOCK).await;
        ended.succeeded("the rightful peer");
        assert!(!session, "{}: with what it was given, one could come back without the key", offer.version);
        assert_eq!(app.connections(), before + 1, "the rightful peer was not let in");
    }

    let mut fates = Vec::new();
    for (who, offer) in strangers(key, protection) {
        let before = (app.connections(), app.bytes());
        let ended = connect(wan, offer, LET_ME_IN).await;
        assert!(!ended.status.success(), "{who} thinks that it succeeded");
        assert!(ended.stdout.is_empty(), "{who} got an answer: {}", ended.stdout);
        // So it was the gateway's half that refused it, and no fault of its own.
        assert!(ended.stderr.contains("SSL alert number"), "{who} was not told so: {}", ended.stderr);
        fates.push(Fate { who, connections: app.connections() - before.0, bytes: app.bytes() - before.1 });
    }
    let hello_cut_short = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], LET_ME_IN].concat();
    for (who, bytes) in [("plain bytes", LET_ME_IN), ("half a TLS hello", &hello_cut_short)] {
        let before = (app.connections(), app.bytes());
        let answer = speak_plainly(wan, bytes).await;
        assert!(!answer.windows(9).any(|part| part == b"let me in"), "{who} got an answer");
        fates.push(Fate { who, connections: app.connections() - before.0, bytes: app.bytes() - before.1 });
    }

    // Goes the same way after them, so whatever they had brought would be here by now.
    let before = (app.connections(), app.bytes());
    exchange(friend, First::Producer).await;
    assert_eq!((app.connections(), app.bytes()), (before.0 + 1, before.1 + 1), "somebody came with the friend");

    println!("{backend} at {protection}: connections and bytes that the application saw of");
    for fate in &fates {
        println!("  {:<42}{:>3}{:>3}", fate.who, fate.connections, fate.bytes);
    }
    for Fate { who, connections, bytes } in fates {
        assert_eq!((connections, bytes), (0, 0), "{who} came through {backend} at {protection}");
    }
    tunnel.release(&prod, &cons).await;
    prod.assert_nothing_left();
    cons.assert_nothing_left();
}

macro_rules! strangers_are_refused {
    ($($name:ident: $backend:literal at $protection:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                meet_strangers($backend, $protection).await;
            }
        )*
    };
}

strangers_are_refused! {
    native_refuses_strangers: "--backend native" at "confidentiality";
    stunnel_refuses_strangers: "--backend stunnel" at "confidentiality";
    haproxy_refuses_strangers: "--backend haproxy" at "confidentiality";
    nginx_refuses_strangers: "--backend nginx" at "confidentiality";
    native_refuses_strangers_at_integrity: "--backend native" at "integrity";
    stunnel_refuses_strangers_at_integrity: "--backend stunnel" at "integrity";
    haproxy_refuses_strangers_at_integrity: "--backend haproxy" at "integrity";
    nginx_refuses_strangers_at_integrity: "--backend nginx" at "integrity";
    haproxy_behind_stunnel_refuses_strangers: "--backend haproxy --terminator stunnel" at "confidentiality";
    nginx_behind_stunnel_refuses_strangers_at_integrity: "--backend nginx --terminator stunnel" at "integrity";
    haproxy_behind_stunnel_refuses_strangers_at_integrity: "--backend haproxy --terminator stunnel" at "integrity";
    nginx_behind_stunnel_refuses_strangers: "--backend nginx --terminator stunnel" at "confidentiality";
    stunnel_behind_a_gate_refuses_strangers: "--backend stunnel --wan-sources 127.0.0.0/8" at "confidentiality";
    stunnel_behind_a_gate_refuses_strangers_at_integrity: "--backend stunnel --wan-sources 127.0.0.0/8" at "integrity";
    haproxy_behind_stunnel_behind_a_gate_refuses_strangers:
        "--backend haproxy --terminator stunnel --wan-sources 127.0.0.0/8" at "confidentiality";
    nginx_behind_stunnel_behind_a_gate_refuses_strangers:
        "--backend nginx --terminator stunnel --wan-sources 127.0.0.0/8" at "integrity";
    native_with_sources_refuses_strangers: "--backend native --wan-sources 127.0.0.0/8" at "confidentiality";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_key_opens_neither_its_port_nor_the_next_stream_on_it() {
    for backend in BACKENDS {
        let app = App::start().await;
        let target = app.endpoint().parse().expect("an endpoint");
        let gateway = TestGateway::start(&["--backend", backend]).await;
        let (old, new) = (Uid::random().expect("randomness"), Uid::random().expect("randomness"));
        let (old_key, new_key) = (old.key_hex(), new.key_hex());
        let (old_key, new_key) = (Some(old_key.expose_secret()), Some(new_key.expose_secret()));

        let first = open_prod(&old, &gateway, &target, 1).await;
        let port = &first.listeners[0];
        connect(port, Offer { key: old_key, ..TLS13 }, KNOCK).await.succeeded("the old key while it is good");
        assert_eq!(app.connections(), 1);
        gateway.client().await.release(&old).await.expect("released");
        let refused = TcpStream::connect(port).await.expect_err("somebody listens on a released port");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        let second = open_prod(&new, &gateway, &target, 1).await;
        assert_eq!(second.listeners, first.listeners, "the lowest port is given again");
        for offer in [TLS13, TLS12] {
            let ended = connect(port, Offer { key: old_key, ..offer }, LET_ME_IN).await;
            assert!(!ended.status.success() && ended.stdout.is_empty(), "{backend}: {ended:?}");
        }
        connect(port, Offer { key: new_key, ..TLS13 }, KNOCK).await.succeeded("the new key");
        assert_eq!(app.connections(), 2, "{backend}: the old key opened the new stream");
        gateway.client().await.release(&new).await.expect("released");
        gateway.assert_nothing_left();
    }
}

/// What this is about: the deployed release lets in who has no key at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_strangers_come_through_a_deployed_peer() {
    let uid = Uid::random().expect("randomness");
    let app = App::start().await;
    let peer = DeployedStunnel::start(End::Server, &uid, &[app.endpoint()]).await;
    let anonymous = ["AECDH-NULL-SHA:@SECLEVEL=0", "ALL:COMPLEMENTOFALL:eNULL:!PSK:@SECLEVEL=0"];
    for (nth, suites) in anonymous.into_iter().enumerate() {
        let ended = connect(&peer.listeners[0].to_string(), Offer { suites, ..TLS12 }, KNOCK).await;
        ended.succeeded("a stranger at a deployed peer");
        assert_eq!(app.connections(), nth + 1);
    }
}

/// What a consumer says, and only the rightful gateway may hear.
const FOR_THE_PRODUCER: &str = "for the producer alone";

/// Those that openssl has, and the one without encryption, which it does not offer by itself.
const EVERY_TLS13_SUITE: &str = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_SHA256_SHA256";

/// Servers that a CONS half may be led to, besides one that holds the key.
fn impostors() -> Vec<(&'static str, Vec<&'static str>)> {
    let anonymous = "aNULL:eNULL:@SECLEVEL=0";
    vec![
        ("TLS 1.3 with a wrong key", vec!["-nocert", "-tls1_3", "-psk", WRONG_KEY]),
        ("TLS 1.2 with a wrong key", vec!["-nocert", "-tls1_2", "-psk", WRONG_KEY, "-cipher", EVERY_SUITE]),
        ("anonymous TLS 1.2", vec!["-nocert", "-tls1_2", "-cipher", anonymous]),
        ("a certificate, TLS 1.3", vec!["-cert", "server.crt", "-key", "server.key", "-tls1_3"]),
        (
            "a certificate, TLS 1.2",
            vec!["-cert", "server.crt", "-key", "server.key", "-tls1_2", "-cipher", EVERY_SUITE],
        ),
    ]
}

async fn ask(listener: &str) -> io::Result<String> {
    let mut consumer = BufReader::new(TcpStream::connect(listener).await?);
    consumer.write_all(format!("{FOR_THE_PRODUCER}\n").as_bytes()).await?;
    let mut answer = String::new();
    consumer.read_line(&mut answer).await?;
    Ok(answer)
}

/// Has a consumer speak through a CONS half that leads to this server, which says what it
/// hears backwards, and answers with what the server heard.
async fn heard_by(server: &[&str], rightful: bool, flags: &[&str]) -> String {
    let cons = TestGateway::start(flags).await;
    let block = PortBlock::claim();
    let address = SocketAddr::from(([127, 0, 0, 1], *block.range().start()));
    let certificate = |word: &&str| match *word {
        file @ ("server.crt" | "server.key") => cons.folder().join(file).display().to_string(),
        word => word.to_owned(),
    };
    let mut words: Vec<String> = ["s_server", "-rev", "-accept"].map(ToOwned::to_owned).to_vec();
    words.push(address.to_string());
    words.extend(server.iter().map(certificate));
    let uid = Uid::random().expect("randomness");
    if rightful {
        words.extend(["-psk".to_owned(), uid.key_hex().expose_secret().to_owned()]);
    }
    if words.iter().any(|word| word == "-psk") {
        words.extend(["-psk_identity".to_owned(), PSK_IDENTITY.to_owned()]);
    }
    let mut server = Program::start("openssl", &words.iter().map(String::as_str).collect::<Vec<_>>());
    server.listens_on(address).await;
    let half = open_cons(&uid, &cons, vec![address.to_string()], 1).await;
    // An impostor's end is the consumer's, which may come before it has said a word.
    let answer = ask(&half.listeners[0]).await.unwrap_or_default();
    cons.client().await.release(&uid).await.expect("released");
    cons.assert_nothing_left();
    answer.trim_end().chars().rev().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_impostor_hears_a_consumer() {
    let mut met = 0;
    for backend in
        ["native", "stunnel", "haproxy", "nginx", "haproxy --terminator stunnel", "nginx --terminator stunnel"]
    {
        for protection in ["confidentiality", "integrity"] {
            let words = format!("--backend {backend} --protection {protection}");
            let flags: Vec<&str> = words.split(' ').collect();
            let rightful =
                heard_by(&["-nocert", "-cipher", EVERY_SUITE, "-ciphersuites", EVERY_TLS13_SUITE], true, &flags).await;
            assert_eq!(rightful, FOR_THE_PRODUCER, "{words}: the rightful server did not hear it");
            for (who, server) in impostors() {
                assert_eq!(heard_by(&server, false, &flags).await, "", "{words}: {who} heard the consumer");
                met += 1;
            }
        }
    }
    println!("{met} impostors in the other gateway's place heard 0 bytes");
}
