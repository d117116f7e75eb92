//! Sessions a second: set up, and released at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use scistream::client::{ClientError, Gateway};
use scistream::session::{Role, Uid};
use tokio::task::JoinSet;

use crate::first_byte::asking;
use crate::gateways::Gateways;
use crate::producer::Producer;

/// Clients that share a connection.
const CLIENTS_A_CONNECTION: usize = 10;

/// How it went with so many sessions.
#[derive(Debug)]
pub struct Outcome {
    pub a_second: f64,
    /// From REQ until UPDATE is answered, each, in milliseconds.
    pub set_up: Vec<f64>,
    /// From RELEASE until it is answered.
    pub released: Vec<f64>,
    /// Milliseconds of a processor a session, in the gateway and its proxies.
    pub cpu: f64,
    /// The most memory that the controller has had so far, in MiB.
    pub peak_memory: f64,
    /// Why sessions failed.
    pub failures: Vec<String>,
}

/// What one session took.
struct Session {
    set_up: f64,
    released: f64,
}

/// Sets up and releases `sessions` sessions at one gateway, always `at_once` of them together.
pub async fn measure(gateways: &Gateways, at_once: usize, sessions: usize, producer: &Producer) -> Outcome {
    let mut clients = Vec::new();
    for _ in 0..at_once.div_ceil(CLIENTS_A_CONNECTION) {
        clients.push(gateways.prod.client().await);
    }
    let left = Arc::new(AtomicUsize::new(sessions));
    let (cpu, begun) = (gateways.prod.cpu(), Instant::now());
    let mut workers = JoinSet::new();
    for worker in 0..at_once {
        let (client, left) = (clients[worker % clients.len()].clone(), Arc::clone(&left));
        let target = producer.endpoint.clone();
        workers.spawn(async move {
            let mut done = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let uid = Uid::random().expect("randomness");
                let ask = asking(&uid, Role::Prod, vec![target.clone()]);
                done.push(session(&ask, &client).await);
            }
            done
        });
    }
    let done: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    let took = begun.elapsed().as_secs_f64();
    let cpu = (gateways.prod.cpu() - cpu).as_secs_f64() * 1e3 / done.len() as f64;
    let (mut set_up, mut released, mut failures) = (vec![], vec![], vec![]);
    for outcome in done {
        match outcome {
            Ok(session) => {
                set_up.push(session.set_up);
                released.push(session.released);
            }
            Err(e) => failures.push(e.story()),
        }
    }
    let peak_memory = gateways.prod.peak_memory();
    Outcome { a_second: set_up.len() as f64 / took, set_up, released, cpu, peak_memory, failures }
}

async fn session(ask: &scistream::client::Ask, gateway: &Gateway) -> Result<Session, ClientError> {
    let begun = Instant::now();
    ask.open(gateway, None).await?;
    let set_up = begun.elapsed().as_secs_f64() * 1e3;
    let ending = Instant::now();
    gateway.release(&ask.uid).await?;
    Ok(Session { set_up, released: ending.elapsed().as_secs_f64() * 1e3 })
}
