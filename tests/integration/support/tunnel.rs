//! Both halves of a tunnel, set up as a user would.

use scistream::client::{Ask, Half};
use scistream::session::{Endpoint, Role, Sources, TcpWishes, Uid};

use super::TestGateway;

/// A tunnel between two gateways.
#[derive(Debug)]
pub struct Tunnel {
    pub uid: Uid,
    pub prod: Half,
    pub cons: Half,
}

impl Tunnel {
    /// Sets both halves up with `connections` listeners each.
    pub async fn open(prod: &TestGateway, cons: &TestGateway, target: &str, connections: u16) -> Self {
        let uid = Uid::random().expect("randomness");
        Self::open_with(uid, prod, cons, target, connections).await
    }

    /// Sets both halves up under a UID of the caller's.
    pub async fn open_with(uid: Uid, prod: &TestGateway, cons: &TestGateway, target: &str, connections: u16) -> Self {
        let target: Endpoint = target.parse().expect("an endpoint");
        let half = open_prod(&uid, prod, &target, connections).await;
        let cons = open_cons(&uid, cons, half.listeners.clone(), connections).await;
        Self { uid, prod: half, cons }
    }

    pub async fn release(&self, prod: &TestGateway, cons: &TestGateway) {
        prod.client().await.release(&self.uid).await.expect("released");
        // A gateway that serves both ends has released both.
        cons.client().await.release(&self.uid).await.expect("released");
    }
}

pub fn ask(uid: &Uid, role: Role, connections: u16, announced: Vec<Endpoint>) -> Ask {
    Ask {
        uid: uid.clone(),
        role,
        connections,
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

pub async fn open_prod(uid: &Uid, gateway: &TestGateway, target: &Endpoint, connections: u16) -> Half {
    let ask = ask(uid, Role::Prod, connections, vec![target.clone()]);
    ask.open(&gateway.client().await, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()))
}

pub async fn open_cons(uid: &Uid, gateway: &TestGateway, targets: Vec<String>, connections: u16) -> Half {
    let ask = ask(uid, Role::Cons, connections, vec![]);
    ask.open(&gateway.client().await, Some(targets)).await.unwrap_or_else(|e| panic!("CONS: {}", e.story()))
}
