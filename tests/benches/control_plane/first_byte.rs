//! From REQ to the first byte.

use std::time::{Duration, Instant};

use scistream::client::{Ask, Gateway, Half};
use scistream::session::{Endpoint, Role, Sources, TcpWishes, Uid};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateways::Gateways;
use crate::producer::Producer;
use crate::tests::wire::Wire;

/// What is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The producer's half, to which we connect as the other gateway would.
    Half,
    /// Both halves, side by side.
    Tunnel,
}

impl Way {
    pub fn word(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Tunnel => "tunnel",
        }
    }
}

/// When what had happened, in milliseconds after REQ, and what it took of the processors.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// REQ and HELLO are answered.
    pub reserved: f64,
    /// UPDATE is answered.
    pub serving: f64,
    /// The producer's byte is here.
    pub first_byte: f64,
    /// From before REQ until after RELEASE.
    pub cpu: f64,
}

const DEADLINE: Duration = Duration::from_secs(30);

/// REQ, HELLO, UPDATE, and a connection, over control channels that stand.
pub async fn measure(gateways: &Gateways, way: Way, producer: &Producer) -> Took {
    let (prod, cons) = (gateways.prod.client().await, gateways.cons.client().await);
    let uid = Uid::random().expect("randomness");
    // A gateway would have it ready too.
    let wire = Wire::of(&uid);
    let cpu = gateways.cpu();
    let begun = Instant::now();
    let since = || begun.elapsed().as_secs_f64() * 1e3;
    let ask = asking(&uid, Role::Prod, vec![producer.endpoint.clone()]);
    let (reserved, serving, first_byte) = match way {
        Way::Half => {
            let (listeners, targets) = reserve(&ask, &prod).await;
            let reserved = since();
            let half = start(&ask, &prod, listeners, targets).await;
            let serving = since();
            let stream = wire.connect(&half.listeners[0]).await.expect("the half serves");
            read(stream).await;
            (reserved, serving, since())
        }
        Way::Tunnel => {
            let other = asking(&uid, Role::Cons, vec![]);
            let ((listeners, targets), (entries, _)) = tokio::join!(reserve(&ask, &prod), reserve(&other, &cons));
            let reserved = since();
            let onward = listeners.clone();
            let (_, half) = tokio::join!(start(&ask, &prod, listeners, targets), start(&other, &cons, entries, onward));
            let serving = since();
            let stream = TcpStream::connect(&half.listeners[0]).await.expect("the tunnel serves");
            read(stream).await;
            (reserved, serving, since())
        }
    };
    release(&prod, &uid).await;
    if way == Way::Tunnel {
        release(&cons, &uid).await;
    }
    let cpu = (gateways.cpu() - cpu).as_secs_f64() * 1e3;
    Took { reserved, serving, first_byte, cpu }
}

/// One listener, and else what a gateway gives who asks for nothing.
pub fn asking(uid: &Uid, role: Role, announced: Vec<Endpoint>) -> Ask {
    Ask {
        uid: uid.clone(),
        role,
        connections: 1,
        rate: 10_000,
        lifetime: None,
        idle: None,
        sources: Sources::default(),
        protection: None,
        backend: None,
        tcp: TcpWishes::default(),
        announced,
    }
}

async fn reserve(ask: &Ask, gateway: &Gateway) -> (Vec<String>, Vec<String>) {
    let answer = ask.reserve(gateway).await.unwrap_or_else(|e| panic!("{}", e.story()));
    (answer.listeners, answer.prod_listeners)
}

async fn start(ask: &Ask, gateway: &Gateway, listeners: Vec<String>, targets: Vec<String>) -> Half {
    ask.start(gateway, listeners, targets).await.unwrap_or_else(|e| panic!("{}", e.story()))
}

async fn release(gateway: &Gateway, uid: &Uid) {
    gateway.release(uid).await.unwrap_or_else(|e| panic!("{}", e.story()));
}

async fn read(mut stream: impl AsyncRead + Unpin) {
    let byte = timeout(DEADLINE, stream.read_u8()).await.expect("a byte comes");
    assert_eq!(byte.expect("a byte comes"), b'!');
}
