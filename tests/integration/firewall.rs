//! A session's listeners are open in the host's firewall from its sources, and only
//! while it lives. Each test has a network of its own, with the real nftables.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use scistream::client::{Ask, Half};
use scistream::session::{Endpoint, Role, Uid};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::Code;

use crate::support::app::Echo;
use crate::support::command::run;
use crate::support::firewall::{Firewalld, Helper, SOCKET, drop_on, elements, in_own_network, refer_to_the_sets};
use crate::support::gateway::S2CS;
use crate::support::guarded::status;
use crate::support::hardship::Stopped;
use crate::support::program::PYTHON;
use crate::support::tunnel::ask;
use crate::support::wait::eventually_within;
use crate::support::{App, TestGateway, eventually};

/// As long as an opening lasts that nobody renews.
const OPEN_FOR: Duration = Duration::from_secs(60);
/// Two tries of the kernel's to connect.
const DROPPED: Duration = Duration::from_millis(1200);
const WAN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const LAN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const CONSUMER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A gateway behind a firewall that refers to the sets, and what opens it.
async fn behind_a_firewall() -> (TestGateway, Helper) {
    let (wan, lan) = (WAN.to_string(), LAN.to_string());
    let flags = ["--wan-ip", &wan, "--lan-ip", &lan, "--firewall", SOCKET, "--config", "s2cs.toml"];
    let gateway = TestGateway::plan(&flags).file("s2cs.toml", "").start().await;
    let ports = gateway.port_range();
    drop_on(&ports);
    refer_to_the_sets();
    let helper = Helper::start(gateway.folder(), &ports).await;
    (gateway, helper)
}

/// Asks for a half that takes connections from these only.
fn half(uid: &Uid, role: Role, sources: &[IpAddr], announced: Vec<Endpoint>) -> Ask {
    Ask { sources: sources.iter().map(|ip| (*ip).into()).collect(), ..ask(uid, role, 1, announced) }
}

/// A tunnel through one gateway: its own connections come from the WAN address.
struct Tunnel {
    uid: Uid,
    prod: SocketAddr,
    cons: SocketAddr,
}

impl Tunnel {
    async fn open(gateway: &TestGateway, app: &App, consumers: &[IpAddr]) -> Self {
        let uid = Uid::random().expect("randomness");
        let client = gateway.client().await;
        let prod = half(&uid, Role::Prod, &[WAN], vec![app.endpoint().parse().expect("an endpoint")]);
        let prod = prod.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        let cons = half(&uid, Role::Cons, consumers, vec![]).open(&client, Some(prod.listeners.clone())).await;
        let cons = cons.unwrap_or_else(|e| panic!("CONS: {}", e.story()));
        let listener = |half: &Half| half.listeners[0].parse().expect("an address");
        Self { uid, prod: listener(&prod), cons: listener(&cons) }
    }

    /// Its elements, if CONS is open for the one consumer alone.
    fn elements(&self) -> Vec<String> {
        let open = |from: IpAddr, to: SocketAddr| format!("{from} > {} {}", to.ip(), to.port());
        let mut both = vec![open(WAN, self.prod), open(CONSUMER, self.cons)];
        both.sort();
        both
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

async fn assert_dropped(from: IpAddr, to: SocketAddr, when: &str) {
    let outcome = timeout(DROPPED, connect(from, to)).await;
    assert!(outcome.is_err(), "{when}: {from} got an answer from {to}: {outcome:?}");
}

async fn friend(tunnel: &Tunnel) -> Echo {
    let stream = timeout(DROPPED, connect(CONSUMER, tunnel.cons)).await.expect("it gets through").expect("accepted");
    let mut echo = Echo::over(stream).await.expect("write");
    echo.say("a friend").await;
    echo
}

fn open_now() -> Vec<String> {
    let mut all: Vec<_> = elements().into_iter().map(|(element, _)| element).collect();
    all.sort();
    all
}

#[test]
fn listeners_are_open_from_their_sources_while_their_session_lives() {
    in_own_network(|| async {
        let (gateway, _helper) = behind_a_firewall().await;
        let app = App::start().await;
        // Somebody else's, on a port that no session has.
        let spare = SocketAddr::new(LAN, *gateway.port_range().end());
        let _other = TcpListener::bind(spare).await.expect("a port");
        assert_eq!(open_now(), Vec::<String>::new());

        let began = Instant::now();
        let tunnel = Tunnel::open(&gateway, &app, &[CONSUMER]).await;
        println!("both halves were open {:?} after they were asked for", began.elapsed());
        assert_eq!(open_now(), tunnel.elements());
        drop(friend(&tunnel).await);
        for (from, to) in [
            (STRANGER, tunnel.cons),
            (STRANGER, tunnel.prod),
            (CONSUMER, tunnel.prod),
            (CONSUMER, spare),
            // The same port at another address is another listener.
            (CONSUMER, SocketAddr::new(WAN, tunnel.cons.port())),
        ] {
            assert_dropped(from, to, "while it lives").await;
        }
        let another = Tunnel::open(&gateway, &app, &[]).await;
        drop(timeout(DROPPED, connect(STRANGER, another.cons)).await.expect("from anywhere").expect("accepted"));
        assert_eq!(open_now().len(), 4);

        let client = gateway.client().await;
        client.update(&tunnel.uid, Role::Prod, vec![app.endpoint()]).await.expect("updated");
        client.release(&another.uid).await.expect("released");
        assert_eq!(open_now(), tunnel.elements(), "a release closed what is another's, or not all");
        let mut open = friend(&tunnel).await;
        open.say("until the end").await;
        let began = Instant::now();
        client.release(&tunnel.uid).await.expect("released");
        assert_eq!(open_now(), Vec::<String>::new(), "elements are left after RELEASE");
        println!("RELEASE was answered after {:?}, with 0 elements left", began.elapsed());
        assert_dropped(CONSUMER, tunnel.cons, "after RELEASE").await;
    });
}

#[test]
fn openings_are_renewed_taken_over_and_close_by_themselves() {
    in_own_network(|| async {
        let (mut gateway, _helper) = behind_a_firewall().await;
        let app = App::start().await;
        let tunnel = Tunnel::open(&gateway, &app, &[CONSUMER]).await;
        let least = || elements().iter().map(|(_, left)| *left).min().expect("it is open");
        let (mut lowest, mut renewals) = (least(), 0);
        eventually_within(OPEN_FOR, "openings are renewed", || {
            let left = least();
            lowest = lowest.min(left);
            renewals += usize::from(left > lowest + 5);
            renewals > 0
        })
        .await;
        assert!(lowest > 30, "renewed with {lowest} s left only");

        gateway.end(Signal::SIGKILL).await;
        let before = least();
        eventually_within(OPEN_FOR, "nobody renews", || least() < before).await;
        gateway.run().await;
        let left = least();
        assert!(left >= 58, "not renewed when it was taken over: {left} s left");
        drop(friend(&tunnel).await);

        gateway.end(Signal::SIGKILL).await;
        let died = Instant::now();
        drop(friend(&tunnel).await);
        eventually_within(OPEN_FOR + Duration::from_secs(2), "they close by themselves", || elements().is_empty())
            .await;
        let closed = died.elapsed();
        println!("renewed with {lowest} s left; {closed:?} after kill -9 of s2cs, 0 elements were left");
        // The proxies go on, and nobody new gets to them.
        assert_eq!(gateway.processes().len(), 2);
        assert_dropped(CONSUMER, tunnel.cons, "after all has run out").await;

        gateway.run().await;
        drop(friend(&tunnel).await);
        gateway.client().await.release(&tunnel.uid).await.expect("released");
        assert_eq!(open_now(), Vec::<String>::new());
    });
}

#[test]
fn what_the_policy_no_longer_lets_be_is_closed_at_once() {
    in_own_network(|| async {
        let (mut gateway, _helper) = behind_a_firewall().await;
        let app = App::start().await;
        let tunnel = Tunnel::open(&gateway, &app, &[CONSUMER]).await;
        let mut stream = friend(&tunnel).await;
        gateway.end(Signal::SIGKILL).await;
        let known = "[[provider]]\nkind = \"jwt\"\nissuer = \"http://127.0.0.1:9\"\naudience = [\"x\"]\n\
                     [[allow]]\nwho = [\"anyone\"]\n";
        fs::write(gateway.folder().join("s2cs.toml"), known).expect("written");
        gateway.run().await;
        assert_eq!(open_now(), Vec::<String>::new(), "elements are left of sessions that nobody owns");
        stream.try_say("still").await.expect_err("a stream that may not be goes on");
        gateway.assert_nothing_left();
    });
}

#[test]
fn without_the_helper_new_sessions_are_refused_and_old_ones_go_on() {
    in_own_network(|| async {
        let (mut gateway, mut helper) = behind_a_firewall().await;
        let app = App::start().await;
        let tunnel = Tunnel::open(&gateway, &app, &[CONSUMER]).await;
        let mut stream = friend(&tunnel).await;
        let client = gateway.client().await;
        helper.kill();

        let refused = |why: &'static str| {
            let (client, app) = (client.clone(), app.endpoint());
            async move {
                let uid = Uid::random().expect("randomness");
                let asked = half(&uid, Role::Prod, &[WAN], vec![app.parse().expect("an endpoint")]);
                let began = Instant::now();
                let status = status("UPDATE", asked.open(&client, None).await);
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                assert!(status.message().contains(why), "{status:?}");
                println!("refused after {:?}: {}", began.elapsed(), status.message());
                client.release(&uid).await.expect("released");
            }
        };
        refused("its helper s2fw does not answer").await;
        assert_eq!(open_now(), tunnel.elements());

        let degraded = async |client: &scistream::client::Gateway| {
            let sessions = client.list().await.expect("listed").sessions;
            sessions.into_iter().map(|session| session.degraded).collect::<Vec<_>>()
        };
        let began = Instant::now();
        let worse = async {
            while !degraded(&client).await.iter().all(|why| why.contains("s2fw does not answer")) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(25), worse).await.expect("both halves say that they are degraded");
        println!("both halves were degraded {:?} after the helper had gone", began.elapsed());
        stream.say("it goes on").await;
        // A session is no worse for a restart meanwhile.
        gateway.end(Signal::SIGKILL).await;
        gateway.run().await;
        let client = gateway.client().await;
        assert!(degraded(&client).await.iter().all(|why| why.contains("s2fw does not answer")));
        stream.say("and on").await;

        helper.again().await;
        let began = Instant::now();
        let better = async {
            while !degraded(&client).await.iter().all(String::is_empty) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(10), better).await.expect("both halves are well again");
        println!("both halves were well {:?} after the helper was back", began.elapsed());
        assert_eq!(open_now(), tunnel.elements());

        let _standing = Stopped::at(helper.pid());
        let uid = Uid::random().expect("randomness");
        let asked = half(&uid, Role::Prod, &[WAN], vec![app.endpoint().parse().expect("an endpoint")]);
        let status = status("UPDATE", asked.open(&client, None).await);
        assert!(status.message().contains("does not answer within 10 s"), "{status:?}");
    });
}

#[test]
fn an_operator_who_forgot_the_sets_is_told() {
    in_own_network(|| async {
        let gateway = TestGateway::start(&["--firewall", SOCKET]).await;
        let helper = Helper::start(gateway.folder(), &gateway.port_range()).await;
        eventually("the log says how", || helper.stderr().contains("s2fw --print-ruleset shows")).await;
        let app = App::start().await;
        let uid = Uid::random().expect("randomness");
        let asked = half(&uid, Role::Prod, &[], vec![app.endpoint().parse().expect("an endpoint")]);
        let status = status("UPDATE", asked.open(&gateway.client().await, None).await);
        assert!(status.message().contains("nft said: Error: No such file or directory"), "{status:?}");
        assert_eq!(gateway.processes(), vec![], "what nobody can reach serves");

        let nowhere = ["check", "--ssl=False", "--state-dir", "state", "--firewall", "nowhere.sock"];
        let said = run(S2CS, &nowhere, gateway.folder()).await.failed(78);
        assert!(said.contains("s2fw, which is to open the firewall for sessions, does not answer"), "{said}");
    });
}

#[test]
fn the_helper_does_what_its_flags_allow_and_for_whom() {
    in_own_network(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = 5100..=5200;
        drop_on(&ports);
        refer_to_the_sets();
        let helper = Helper::start(folder.path(), &ports).await;
        let open = |listener: &str, sources: &str, seconds: u32| {
            format!(r#"{{"open":{{"listeners":["{listener}"],"sources":[{sources}],"seconds":{seconds}}}}}"#)
        };
        for (line, why) in [
            (open("127.0.0.1:22", "", 60), "port 22 is outside --ports 5100-5200"),
            (open("127.0.0.1:5100", "\"10.0.0.0/33\"", 60), "cannot be used"),
            (open("127.0.0.1:5100", "\"10.0.0.1; flush ruleset\"", 60), "cannot be used"),
            (open("127.0.0.1:5100", "\"10.0.0.1/8\"", 60), "bits set behind its prefix"),
            (open("127.0.0.1", "", 60), "this is no request"),
            (open("127.0.0.1:5100", "", 0), "0 seconds"),
            (open("127.0.0.1:5100", "", 121), "more than --most-seconds 120"),
            (r#"{"close":{"listeners":["127.0.0.1:22"],"sources":[]}}"#.into(), "outside --ports"),
            (r#"{"close":{"listeners":[],"sources":[]}}"#.into(), "no listener is named"),
            (r#"{"flush":{}}"#.into(), "this is no request"),
            (r#"{"list":{"table":"filter"}}"#.into(), "this is no request"),
            ("".into(), "this is no request"),
        ] {
            let answer = helper.ask(&line);
            assert!(answer.starts_with("{\"refused\":") && answer.contains(why), "{line}: {answer}");
        }
        assert_eq!(open_now(), Vec::<String>::new(), "what was refused is open");

        // Of either family, and from anywhere.
        let six: SocketAddr = "[::1]:5150".parse().expect("an address");
        let listener = TcpListener::bind(six).await.expect("a port");
        assert_dropped(six.ip(), six, "before").await;
        assert_eq!(helper.ask(&open("[::1]:5150", "\"2001:db8::/32\"", 60)), "{\"done\":{}}\n");
        assert_dropped(six.ip(), six, "for others").await;
        assert_eq!(helper.ask(&open("[::1]:5150", "\"::1\",\"10.0.0.0/8\"", 60)), "{\"done\":{}}\n");
        timeout(DROPPED, connect(six.ip(), six)).await.expect("it gets through").expect("accepted");
        assert_eq!(helper.ask(&open("[::]:5151", "", 60)), "{\"done\":{}}\n");
        let list = helper.ask(r#"{"list":{}}"#);
        for opening in ["\"source\":\"::/0\",\"listener\":\"[::]:5151\"", "\"source\":\"0.0.0.0/0\""] {
            assert!(list.contains(opening), "{list}");
        }
        assert_eq!(helper.ask(r#"{"close":{"listeners":["[::1]:5150"],"sources":["::1"]}}"#), "{\"done\":{}}\n");
        // A second time, and what never was.
        assert_eq!(helper.ask(r#"{"close":{"listeners":["[::1]:5150"],"sources":["::1"]}}"#), "{\"done\":{}}\n");
        assert_dropped(six.ip(), six, "afterwards").await;
        drop(listener);

        // What an earlier holder of a port has left gives way to the next one's.
        for sources in ["\"10.0.0.0/8\"", "\"10.1.0.0/16\",\"192.0.2.7\"", "", "\"10.1.1.1\""] {
            assert_eq!(helper.ask(&open("127.0.0.1:5160", sources, 60)), "{\"done\":{}}\n", "{sources}");
        }
        let list = helper.ask(r#"{"list":{}}"#);
        assert!(list.contains("10.1.1.1/32") && !list.contains("0.0.0.0/0\",\"listener\":\"127.0.0.1:5160"), "{list}");

        // Another user, even if the socket were open to all.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("opened");
        fs::set_permissions(helper.socket(), Permissions::from_mode(0o666)).expect("opened");
        let talk = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                    try: s.sendall(sys.argv[2].encode()+b'\\n')\nexcept BrokenPipeError: pass\n\
                    print(s.makefile().readline())";
        let ids = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", PYTHON, "-c", talk];
        let path = helper.socket().to_str().expect("text");
        let request = open("127.0.0.1:5100", "", 60);
        let ran = run("setpriv", &[&ids[..], &[path, &request]].concat(), folder.path()).await;
        assert!(ran.succeeded().contains("user 65534 may not ask"), "{ran:?}");
        assert!(!helper.ask(r#"{"list":{}}"#).contains("5100"));

        let activated = Helper::activated(folder.path()).await;
        assert!(activated.ask(r#"{"list":{}}"#).contains("10.1.1.1/32"));

        // It has one capability, and no way to get another.
        let status = fs::read_to_string(format!("/proc/{}/status", helper.pid())).expect("it runs");
        let has = |line: &str| assert!(status.contains(line), "not {line:?} in {status}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            has(&format!("{set}:\t0000000000001000"));
        }
        has("NoNewPrivs:\t1");
    });
}

#[test]
fn firewalld_has_a_rule_while_a_session_lives() {
    in_own_network(|| async {
        let firewalld = Firewalld::start().await;
        let gateway = TestGateway::start(&["--firewall", SOCKET]).await;
        let helper = Helper::start_with(gateway.folder(), &gateway.port_range(), &["--firewalld"]).await;
        let app = App::start().await;
        let (uid, client) = (Uid::random().expect("randomness"), gateway.client().await);
        let asked = half(&uid, Role::Prod, &[CONSUMER], vec![app.endpoint().parse().expect("an endpoint")]);
        let began = Instant::now();
        let opened = asked.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        let listener: SocketAddr = opened.listeners[0].parse().expect("an address");
        println!("a half was open {:?} after it was asked for", began.elapsed());
        let in_force = firewalld.in_force(listener.port());
        assert_eq!(in_force, [format!("ip daddr {WAN} ip saddr {CONSUMER} tcp dport {} accept", listener.port())]);
        let began = Instant::now();
        client.release(&uid).await.expect("released");
        println!("RELEASE was answered after {:?}", began.elapsed());
        assert_eq!((firewalld.rules(&[]), firewalld.in_force(listener.port())), (vec![], vec![]));

        // Renewed once, it outlasts its first timeout, and no more than its second.
        let (port, began) = (gateway.port_range().end().to_string(), Instant::now());
        let open = format!(r#"{{"open":{{"listeners":["127.0.0.1:{port}","[::]:{port}"],"sources":[],"seconds":9}}}}"#);
        assert_eq!(helper.ask(&open), "{\"done\":{}}\n");
        let (rules, within) = (|| firewalld.rules(&[]), Duration::from_secs(30));
        assert_eq!(rules().len(), 3);
        eventually_within(within, "a third of it is over", || began.elapsed() > Duration::from_secs(4)).await;
        assert_eq!(helper.ask(&open), "{\"done\":{}}\n");
        assert_eq!(rules().len(), 6, "not renewed");
        eventually_within(within, "the first ones end", || rules().len() == 3).await;
        let first = began.elapsed();
        eventually_within(within, "the second ones end", || rules().is_empty()).await;
        println!("the first rules ended {first:?} after they were made, the others after {:?}", began.elapsed());
        assert!(first > Duration::from_secs(8), "too soon: {first:?}");
        assert_eq!(firewalld.rules(&["--permanent"]), Vec::<String>::new());
    });
}
