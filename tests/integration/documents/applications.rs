//! How what the documents say of applications is played: with the real programs, through
//! tunnels, or at a broker that is there for all of a document's commands.

use std::net::SocketAddr;

use scistream::session::Role;

use super::commands::{Outcome, strs};
use super::world::World;
use crate::support::TestGateway;
use crate::support::application::{self, PvaccessServer, kafka_broker};
use crate::support::program::{Ended, PYTHON, Program};
use crate::support::tunnel::ask;

/// Programs that people run at the ends of a tunnel, and what they set for them.
pub const KNOWN: [&str; 7] =
    ["export", "iperf3", "kafka-python", "python3", "rabbitmqctl", "redis-cli", "redis-server"];

/// What a program of ZeroMQ has before and after what is shown.
const ZMQ: &str = "import zmq
context = zmq.Context()
publisher, subscriber = context.socket(zmq.XPUB), context.socket(zmq.SUB)
publisher.rcvtimeo = subscriber.rcvtimeo = 30_000
subscriber.subscribe(b'')";
const EXCHANGE: &str = "assert publisher.recv() == b'\\x01'
publisher.send(b'frame')
assert subscriber.recv() == b'frame'
context.destroy(linger=0)";

/// What people type at both ends of a tunnel.
pub async fn play(world: &mut World, words: &[&str]) -> Outcome {
    match words[0] {
        "export" => export(world, words),
        "kafka-python" => kafka(world, words).await,
        "python3" => pvaccess(world, words).await,
        "rabbitmqctl" => rabbitmqctl(world, words).await,
        _ => command(world, words).await,
    }
}

fn well(ended: &Ended) -> Outcome {
    if ended.status.success() { Ok(()) } else { Err(format!("{}{}", ended.stdout, ended.stderr)) }
}

/// iperf3 and Redis.
async fn command(world: &World, words: &[&str]) -> Outcome {
    let through = |at: SocketAddr| {
        let rest = words[1..].iter().map(move |word| match *word {
            "gw-b-lan.example.org" => at.ip().to_string(),
            "5100" => at.port().to_string(),
            word => word.to_owned(),
        });
        rest.collect::<Vec<_>>()
    };
    match (words[0], words.contains(&"-s")) {
        ("redis-server", _) | ("iperf3", true) => {
            let mut words: Vec<_> = words[1..].iter().map(|word| if *word == "5300" { "PORT" } else { word }).collect();
            if !words.contains(&"-s") {
                words.extend(["--bind", "127.0.0.1"]);
            }
            let (server, _) =
                world.server(3, if words.contains(&"-s") { "iperf3" } else { "redis-server" }, &words).await;
            drop(server);
            Ok(())
        }
        ("iperf3", false) => {
            let (mut server, address) = world.server(4, "iperf3", &["-s", "-1", "-p", "PORT"]).await;
            let (uid, entry) = world.way_to(address).await;
            let words = [through(entry), vec!["-t".into(), "1".into()]].concat();
            let ended = Program::run("iperf3", &strs(&words), b"").await;
            server.ended().await;
            world.give_back(uid.wire()).await;
            if ended.status.success() { Ok(()) } else { Err(format!("{}{}", ended.stdout, ended.stderr)) }
        }
        _ => {
            let (server, address) = world.server(5, "redis-server", &["--port", "PORT", "--bind", "127.0.0.1"]).await;
            let (uid, entry) = world.way_to(address).await;
            let ended = Program::run("redis-cli", &strs(&through(entry)), b"").await;
            world.give_back(uid.wire()).await;
            drop(server);
            if ended.stdout.trim() == "PONG" { Ok(()) } else { Err(format!("{}{}", ended.stdout, ended.stderr)) }
        }
    }
}

/// Variables for the programs that follow.
fn export(world: &mut World, words: &[&str]) -> Outcome {
    let (name, value) = words.get(1).and_then(|word| word.split_once('=')).ok_or("it sets nothing")?;
    if !name.starts_with("EPICS_PVA") {
        return Err("it is for nobody that these tests know".into());
    }
    world.exported.push((name.to_owned(), value.to_owned()));
    Ok(())
}

/// A client of a server, both as the exported variables say, through a tunnel with the port that these have.
async fn pvaccess(world: &mut World, words: &[&str]) -> Outcome {
    let gateway = TestGateway::start(&["--lan-ip", "127.0.0.2"]).await;
    let port = *gateway.port_range().end();
    let exported = std::mem::take(&mut world.exported).into_iter().map(|(name, value)| {
        let value = value.replace("5175", &port.to_string()).replace("gw-b-lan.example.org", "127.0.0.2");
        (name, value)
    });
    let (servers, clients): (Vec<_>, Vec<_>) = exported.partition(|(name, _)| name.starts_with("EPICS_PVAS_"));
    let server = PvaccessServer::start(SocketAddr::from(([127, 0, 0, 1], port)), &servers).await;
    let (uid, listeners) = world.half(&server.address.to_string()).await;
    let wish = format!("localhost:{port}").parse().expect("an endpoint");
    let half = ask(&uid, Role::Cons, 1, vec![wish]).open(&gateway.client().await, Some(listeners)).await;
    let half = half.map_err(|e| e.story())?;
    assert_eq!(half.listeners, [format!("127.0.0.2:{port}")]);
    let ended = application::run(&clients, &[&[&*application::python()], &words[1..]].concat()).await;
    world.give_back(uid.wire()).await;
    well(&ended)?;
    if ended.stdout.starts_with("daq:image ") { Ok(()) } else { Err(ended.stdout) }
}

/// A client of a broker that advertises the tunnel.
async fn kafka(world: &World, words: &[&str]) -> Outcome {
    let broker = SocketAddr::from(([127, 0, 0, 1], world.ports.range().start() + 6));
    let (uid, entry) = world.way_to(broker).await;
    let broker = kafka_broker(broker, entry).await;
    let words: Vec<_> =
        words[1..].iter().map(|word| word.replace("gw-b-lan.example.org:5110", &entry.to_string())).collect();
    let ended = Program::run(&application::path("bin/kafka-python"), &strs(&words), b"").await;
    world.give_back(uid.wire()).await;
    drop(broker);
    well(&ended)?;
    if ended.stdout.contains(&entry.port().to_string()) { Ok(()) } else { Err(ended.stdout) }
}

/// What a broker's operator types.
async fn rabbitmqctl(world: &mut World, words: &[&str]) -> Outcome {
    let words: Vec<_> = words[1..].iter().map(|word| word.trim_matches('\'')).collect();
    well(&world.broker().await.rabbitmqctl(&words).await)
}

/// Pieces of programs, with what such a program has besides.
pub async fn python(world: &mut World, command: &str) -> Outcome {
    let text = command.strip_prefix("```python\n").ok_or("it is no Python")?;
    let (python, target, before, after) = match text {
        _ if text.contains("pika.") => {
            (application::python(), world.broker().await.amqp(), "import pika", "assert connection.is_open")
        }
        _ if text.contains("publisher") => {
            (PYTHON.to_owned(), SocketAddr::from(([127, 0, 0, 1], world.ports.range().start() + 7)), ZMQ, EXCHANGE)
        }
        _ => return Err("it is for nobody that these tests know".into()),
    };
    let (uid, entry) = world.way_to(target).await;
    let text = text.replace("gw-b-lan.example.org", &entry.ip().to_string());
    let text = text.replace("5100", &entry.port().to_string()).replace("*:5300", &target.to_string());
    let ended = Program::run(&python, &["-c", &format!("{before}\n{text}\n{after}\n")], b"").await;
    world.give_back(uid.wire()).await;
    well(&ended)
}
