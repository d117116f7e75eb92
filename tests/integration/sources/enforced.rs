//! Who is not among a session's sources gets no byte to the application, whichever
//! program accepts, and whatever has happened to it meanwhile.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::sys::signal::Signal;
use scistream::session::{Endpoint, Role, Uid};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::app::Echo;
use crate::support::session::leaders_and_workers;
use crate::support::tls_client::{Offer, connect_from};
use crate::support::tunnel::ask;
use crate::support::{App, TestGateway, eventually, session};

/// One byte, at which the application ends the connection.
const KNOCK: &[u8] = b"X";
/// Who got through would see this come back.
const LET_ME_IN: &[u8] = b"Elet me in";
/// A refusal is no timeout.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Who is who, on a host with all these addresses.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    /// Where the consumer's application is.
    pub(super) consumer: IpAddr,
    /// From where the consumer's gateway connects to the producer's.
    pub(super) gateway: IpAddr,
    /// Another gateway that may connect to the producer's.
    pub(super) peer: IpAddr,
    /// Who may connect to both as well, and does not come.
    pub(super) absent: Vec<IpAddr>,
    /// Who may connect to neither.
    pub(super) strangers: Vec<IpAddr>,
}

impl Cast {
    fn of_loopback() -> Self {
        let ip = |last| IpAddr::from([127, 0, 0, last]);
        Self { consumer: ip(2), gateway: ip(1), peer: ip(4), absent: vec![], strangers: vec![ip(3), ip(5)] }
    }
}

/// A tunnel that takes only the cast's friends.
pub(super) struct Guarded {
    uid: Uid,
    cast: Cast,
    prod: String,
    cons: String,
    key: String,
    worst: Duration,
}

pub(super) async fn connect(from: IpAddr, to: &str) -> std::io::Result<TcpStream> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to.parse().expect("an address")).await
}

impl Guarded {
    pub(super) async fn open(gateway: &TestGateway, app: &App, cast: Cast) -> Self {
        let uid = Uid::random().expect("randomness");
        let client = gateway.client().await;
        let of = |ips: &[IpAddr]| ips.iter().chain(&cast.absent).map(|ip| IpNet::from(*ip)).collect();
        let target: Endpoint = app.endpoint().parse().expect("an endpoint");
        let mut prod = ask(&uid, Role::Prod, 2, vec![target]);
        prod.sources = of(&[cast.gateway, cast.peer]);
        let prod = prod.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        let mut cons = ask(&uid, Role::Cons, 2, vec![]);
        cons.sources = of(&[cast.consumer]);
        let cons = cons.open(&client, Some(prod.listeners.clone())).await.unwrap_or_else(|e| panic!("{}", e.story()));
        let key = uid.key_hex().expose_secret().to_owned();
        // The last of them: all are guarded, not the first alone.
        let last = |listeners: &[String]| listeners.last().expect("two").clone();
        let (prod, cons) = (last(&prod.listeners), last(&cons.listeners));
        Self { uid, cast, prod, cons, key, worst: Duration::ZERO }
    }

    /// The consumer, whose connection goes through the sources of both halves.
    pub(super) async fn friend(&self) -> Echo {
        let stream = connect(self.cast.consumer, &self.cons).await.expect("the listener accepts");
        let mut friend = Echo::over(stream).await.expect("write");
        friend.say("a friend").await;
        friend
    }

    /// Friends come through, strangers do not.
    pub(super) async fn holds(&mut self, app: &App, when: &str) {
        let offer = Offer { version: "-tls1_3", suites: "", identity: "client1", key: Some(&self.key) };
        drop(self.friend().await);
        let ended = connect_from(self.cast.peer, &self.prod, offer, KNOCK).await;
        ended.succeeded(&format!("{when}: the peer at the producer's gateway"));
        let before = (app.connections(), app.bytes());
        for stranger in self.cast.strangers.clone() {
            // Even with the key.
            let ended = connect_from(stranger, &self.prod, offer, LET_ME_IN).await;
            assert!(!ended.status.success() && ended.stdout.is_empty(), "{when}: {stranger} came in: {ended:?}");
        }
        let (consumer, peer) = (self.cast.consumer, self.cast.peer);
        let strangers = self.cast.strangers.iter();
        let knocks = strangers.flat_map(|ip| [(*ip, &self.prod), (*ip, &self.cons)]);
        // Nor does it help to be the other half's friend.
        let knocks: Vec<_> = knocks.chain([(consumer, &self.prod), (peer, &self.cons)]).collect();
        let mut worst = self.worst;
        for (from, to) in knocks {
            let began = Instant::now();
            let got = knock(from, to).await;
            assert_eq!(got, Vec::<u8>::new(), "{when}: {from} got an answer from {to}");
            worst = worst.max(began.elapsed());
        }
        self.worst = worst;
        assert!(worst < AT_ONCE, "{when}: a refusal took {worst:?}");
        // Goes the same way after them, so whatever they had brought would be here by now.
        drop(self.friend().await);
        assert_eq!((app.connections(), app.bytes()), (before.0 + 1, before.1 + 1), "{when}: a stranger came through");
    }

    pub(super) async fn release(&self, gateway: &TestGateway) {
        gateway.client().await.release(&self.uid).await.expect("released");
        gateway.assert_nothing_left();
    }

    fn log(&self, gateway: &TestGateway, role: Role, stage: &str) -> String {
        let path = session::folder(gateway, &self.uid, role).join(format!("{stage}.log"));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// Sends something, and reads to the end, which a refusal makes by itself.
async fn knock(from: IpAddr, to: &str) -> Vec<u8> {
    let mut answer = Vec::new();
    let work = async {
        // It may be reset before we have said, or heard, anything.
        if let Ok(mut stream) = connect(from, to).await
            && stream.write_all(LET_ME_IN).await.is_ok()
        {
            drop(stream.read_to_end(&mut answer).await);
        }
    };
    timeout(AT_ONCE, work).await.unwrap_or_else(|_| panic!("{from} is not refused by {to}"));
    answer
}

/// A stage whose log must name who connected: the last that is told.
type Told = (Role, &'static str, IpAddr);

async fn hold_through_everything(name: &str, mut gateway: TestGateway, told: &[Told]) {
    let (app, other) = (App::start().await, App::start().await);
    let cast = Cast::of_loopback();
    let mut guarded = Guarded::open(&gateway, &app, cast).await;
    guarded.holds(&app, &format!("{name}, at first")).await;
    let mut open = guarded.friend().await;
    for (role, stage, who) in told {
        let what = format!("{name}: the log of {stage} as {role} names {who}");
        eventually(&what, || guarded.log(&gateway, *role, stage).contains(&format!("{who}:"))).await;
    }

    let client = gateway.client().await;
    client.update(&guarded.uid, Role::Prod, vec![other.endpoint()]).await.expect("it can be moved");
    guarded.holds(&other, &format!("{name}, after UPDATE")).await;
    open.say("UPDATE moves nobody who is here").await;

    gateway.end(Signal::SIGKILL).await;
    guarded.holds(&other, &format!("{name}, while nobody controls it")).await;
    let before = gateway.processes();
    gateway.run().await;
    assert_eq!(gateway.processes(), before, "{name}: not adopted as they were");
    guarded.holds(&other, &format!("{name}, after adoption")).await;
    open.say("adoption moves nobody who is here").await;
    drop(open);

    let client = gateway.client().await;
    let mut killed = 0;
    for role in [Role::Prod, Role::Cons] {
        let id = session::id(&guarded.uid, role);
        let mut events = client.watch(0, &id).await.expect("watched");
        for leader in leaders_and_workers(&gateway, &guarded.uid, role).0 {
            leader.kill();
            session::event(&client, &mut events, |event| event.what == "healthy again").await;
            guarded.holds(&other, &format!("{name}, {} of {role} killed", leader.name)).await;
            killed += 1;
        }
    }
    client.update(&guarded.uid, Role::Prod, vec![app.endpoint()]).await.expect("it can be moved again");
    guarded.holds(&app, &format!("{name}, after another UPDATE")).await;
    println!("{name}: held through 2 UPDATEs, an adoption, {killed} kills; slowest refusal {:?}", guarded.worst);
    guarded.release(&gateway).await;
}

async fn built_in(backend: &str, terminator: &str, told: &[(Role, &'static str, IpAddr)]) {
    let gateway = TestGateway::start(&["--backend", backend, "--terminator", terminator]).await;
    hold_through_everything(&format!("{backend} with {terminator}"), gateway, told).await;
}

fn peer() -> IpAddr {
    Cast::of_loopback().peer
}

fn consumer() -> IpAddr {
    Cast::of_loopback().consumer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_hold_with_native() {
    built_in("native", "native", &[(Role::Prod, "native", peer()), (Role::Cons, "native", consumer())]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_hold_with_stunnel_behind_a_gate() {
    let gates = [(Role::Prod, "native+gate", peer()), (Role::Cons, "native+gate", consumer())];
    built_in("stunnel", "native", &gates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_hold_with_haproxy() {
    let told =
        [(Role::Prod, "haproxy", peer()), (Role::Cons, "haproxy", consumer()), (Role::Cons, "native", consumer())];
    built_in("haproxy", "native", &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_hold_with_haproxy_and_stunnel_behind_a_gate() {
    let told = [(Role::Prod, "native+gate", peer()), (Role::Cons, "haproxy", consumer())];
    built_in("haproxy", "stunnel", &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_hold_with_nginx() {
    let told = [(Role::Prod, "nginx", peer()), (Role::Cons, "nginx", consumer()), (Role::Cons, "native", consumer())];
    built_in("nginx", "native", &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_hold_with_nginx_and_stunnel_behind_a_gate() {
    let told = [(Role::Prod, "native+gate", peer()), (Role::Cons, "nginx", consumer())];
    built_in("nginx", "stunnel", &told).await;
}

/// Two processes of s2ds in one session: before and behind a proxy that cannot look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_hold_with_a_sites_proxy_between_two_of_s2ds() {
    let blind = |manifest: String| manifest.replace("source_filter = true", "source_filter = false");
    let plan = TestGateway::plan(&["--backend", "blind"]).backend("blind", "haproxy", blind, |template| template);
    let told = [
        (Role::Prod, "blind", peer()),
        (Role::Cons, "native+gate", consumer()),
        (Role::Cons, "blind", consumer()),
        (Role::Cons, "native", consumer()),
    ];
    hold_through_everything("a proxy that cannot look", plan.start().await, &told).await;
}
