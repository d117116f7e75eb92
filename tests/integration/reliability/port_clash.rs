//! Another program wants a session's port.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use scistream::session::{Role, Uid};
use socket2::{Domain, Socket, Type};

use crate::support::app::First;
use crate::support::program::Program;
use crate::support::tunnel::ask;
use crate::support::{App, TestGateway, Tunnel, eventually, exchange, session};

/// Binds and listens as other programs do; `again` is what servers do that are started again.
fn take(address: SocketAddr, again: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(again)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    Ok(socket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_req_and_update_nobody_else_gets_the_port() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let uid = Uid::random().expect("randomness");
    let request = ask(&uid, Role::Prod, 3, vec![app.endpoint().parse().expect("an endpoint")]);
    let answer = request.reserve(&client).await.expect("reserved");
    let (listeners, targets) = (answer.listeners, answer.prod_listeners);
    let mut refused = 0;
    for listener in &listeners {
        let address: SocketAddr = listener.parse().expect("an address");
        for again in [false, true] {
            let error = take(address, again).expect_err("another program got a port that is held");
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
            refused += 1;
        }
        if nix::unistd::geteuid().is_root() {
            // Another user's, which says that it would share the port.
            let script = "import socket, sys; s = socket.socket(); \
                          s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); \
                          s.bind((sys.argv[1], int(sys.argv[2]))); s.listen()";
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            let python = crate::support::program::PYTHON;
            let words = ["--reuid=65534", "--clear-groups", python, "-c", script, &ip, &port];
            let ended = Program::run("setpriv", &words, b"").await;
            assert!(ended.stderr.contains("Address already in use"), "{}: {}", ended.status, ended.stderr);
            refused += 1;
        } else {
            println!("not tried, for want of root: another user's program");
        }
    }
    let half = request.start(&client, listeners.clone(), targets).await.expect("serving");
    assert_eq!(half.listeners, listeners);
    println!("{refused} attempts on {} ports that are held: all refused", listeners.len());
    client.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_lost_while_nobody_ran_costs_its_own_session_only() {
    let app = App::start().await;
    let mut gateway = TestGateway::start(&[]).await;
    let lost = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let kept = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    gateway.end(Signal::SIGKILL).await;
    for (pid, _) in gateway.processes() {
        session::Proxy { pid, name: String::new() }.kill();
    }
    eventually("the proxies are dead", || gateway.processes().is_empty()).await;
    let address: SocketAddr = lost.prod.listeners[0].parse().expect("an address");
    let other = take(address, true).expect("nobody holds it");
    gateway.run().await;

    exchange(&kept.cons.listeners[0], First::Consumer).await;
    let client = gateway.client().await;
    let sessions = session::all_well(&client).await;
    let ids: Vec<_> = sessions.iter().map(|session| session.id.as_str()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(!ids.contains(&session::id(&lost.uid, Role::Prod).as_str()), "it has no port");
    let why = format!("its port {address} is held by somebody else");
    assert!(gateway.stderr().contains(&why), "nobody says why");
    println!("1 session of 4 lost with its port, 3 serve again; the log says: {why}");
    drop(other);
    lost.release(&gateway, &gateway).await;
    kept.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}
