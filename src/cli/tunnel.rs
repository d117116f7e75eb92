//! `s2uc tunnel`: both halves by one command.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde_json::json;

use super::gateway::{Channel, Failure, Interrupts, List, network, print_json};
use super::mint::Mint;
use super::wishes::Wishes;
use crate::client::{Ask, Gateway, Half};
use crate::session::{Endpoint, Host, Protection, Role, Uid};

#[derive(Args)]
#[command(after_help = "Example: the consumer's application then connects to what is shown.\n  \
    s2uc tunnel --prod gw1:5000 --prod-target daq:5300 --cons gw2:5000 --port 5300")]
pub(super) struct Tunnel {
    /// The producer's gateway
    #[arg(long, value_name = "HOST:PORT")]
    prod: Endpoint,
    /// Where the producer's application listens; several, separated by commas, for several connections
    #[arg(long, value_name = "HOST:PORT")]
    prod_target: List<Endpoint>,
    /// The consumer's gateway
    #[arg(long, value_name = "HOST:PORT")]
    cons: Endpoint,
    /// The port that the consumer's application wants to connect to, if the gateway has it free
    #[arg(long, value_name = "N")]
    port: Option<NonZeroU16>,
    /// How many listeners each gateway opens [default: one for each --prod-target]
    #[arg(long, value_name = "N")]
    num_conn: Option<NonZeroU16>,
    #[command(flatten)]
    wishes: Wishes,
    /// Seconds after which both halves end unless they are renewed [default: as long as the gateways allow]
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u64>,
    /// Seconds without a byte after which both halves end [default: as long as the gateways allow]
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Who may connect to the producer's gateway, which is the consumer's gateway: an address or a network;
    /// several times, or with commas [default: whoever the gateway allows]
    #[arg(long, value_name = "NET", value_delimiter = ',', value_parser = network)]
    prod_source: Vec<IpNet>,
    /// Who may connect to the consumer's gateway, where its applications are; in the same way
    #[arg(long, value_name = "NET", value_delimiter = ',', value_parser = network)]
    cons_source: Vec<IpNet>,
    /// The least protection of the tunnel: confidentiality, integrity or none [default: the gateways']
    #[arg(long, value_name = "FLOOR")]
    protection: Option<Protection>,
    /// Leave the tunnel standing; release it later with s2uc release, at both gateways
    #[arg(long)]
    detach: bool,
    /// The certificate of the producer's gateway [default: --server-cert]
    #[arg(long, value_name = "FILE")]
    prod_cert: Option<PathBuf>,
    /// The certificate of the consumer's gateway [default: --server-cert]
    #[arg(long, value_name = "FILE")]
    cons_cert: Option<PathBuf>,
    #[command(flatten)]
    channel: Channel,
    #[command(flatten)]
    mint: Mint,
}

/// Both gateways of a tunnel.
struct Ends {
    prod: Gateway,
    cons: Gateway,
}

pub(super) async fn run(command: Tunnel, json: bool) -> Result<ExitCode, Failure> {
    let uid = command.mint.uid()?;
    let ends = Ends {
        prod: command.channel.connect_trusting(&command.prod, command.prod_cert.as_deref()).await?,
        cons: command.channel.connect_trusting(&command.cons, command.cons_cert.as_deref()).await?,
    };
    let mut interrupts = Interrupts::listen()?;
    let open = open(&command, &uid, &ends);
    let (prod, cons) = interrupts.guard(open, async || drop(release(&ends, &uid).await)).await?;
    show(&command, &uid, &prod, &cons, json);
    if command.detach {
        return Ok(ExitCode::SUCCESS);
    }
    if !json {
        say!("The tunnel stands. Ctrl-C releases it.");
    }
    interrupts.next().await;
    release(&ends, &uid).await?;
    if !json {
        say!("Released at both gateways.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(command: &Tunnel, uid: &Uid, ends: &Ends) -> Result<(Half, Half), Failure> {
    let targets = &command.prod_target.0;
    let connections = match command.num_conn {
        Some(number) => number.get(),
        None => u16::try_from(targets.len()).map_err(|_| Failure::usage("--prod-target: there are too many"))?,
    };
    let (rate, lifetime) = (command.wishes.rate, command.lifetime.map(Duration::from_secs));
    let idle = command.idle.map(Duration::from_secs);
    let protection = command.protection;
    let ask = |role, announced| {
        let sources = match role {
            Role::Prod => &command.prod_source,
            Role::Cons => &command.cons_source,
        };
        let (sources, backend, tcp) = (sources.iter().copied().collect(), None, command.wishes.tcp());
        Ask { uid: uid.clone(), role, connections, rate, lifetime, idle, sources, protection, backend, tcp, announced }
    };
    let prod = ask(Role::Prod, targets.clone());
    // What a CONS application announces is the port it would like; the host says nothing.
    let wish = |port| Endpoint { host: Host::Name("localhost".into()), port };
    let cons = ask(Role::Cons, command.port.map(wish).into_iter().collect());
    // One after the other as far as HELLO: a gateway that serves both ends could take one for the other.
    let reserved = prod.reserve(&ends.prod).await?;
    let onward = Some(reserved.listeners.clone());
    let start = prod.start(&ends.prod, reserved.listeners, reserved.prod_listeners);
    match tokio::try_join!(start, cons.open(&ends.cons, onward)) {
        Ok((prod, cons)) => Ok((Half { bandwidth: reserved.bandwidth, ..prod }, cons)),
        Err(e) => {
            give_back(ends, uid).await;
            Err(e.into())
        }
    }
}

/// Releases what there is of a tunnel that did not come to stand.
async fn give_back(ends: &Ends, uid: &Uid) {
    let (prod, cons) = tokio::join!(ends.prod.release(uid), ends.cons.release(uid));
    for second in [prod, cons].into_iter().filter_map(Result::err).filter(|e| !e.is_unknown_uid()) {
        tracing::warn!("also {}", second.story());
    }
}

/// Releases both ends, whatever becomes of the first; then tells the first fault.
async fn release(ends: &Ends, uid: &Uid) -> Result<(), Failure> {
    let (prod, cons) = tokio::join!(ends.prod.release(uid), ends.cons.release(uid));
    Ok(prod.and(cons)?)
}

fn show(command: &Tunnel, uid: &Uid, prod: &Half, cons: &Half, json: bool) {
    if json {
        print_json(&json!({
            "uid": uid.wire(),
            "prod": half_json(&command.prod, prod),
            "cons": half_json(&command.cons, cons),
        }));
        return;
    }
    say!("uid {}", uid.wire());
    for (entry, (tunnel, target)) in cons.listeners.iter().zip(prod.listeners.iter().zip(&prod.targets)) {
        say!("  consumer's application");
        say!("    │  connects to {entry}");
        say!("    ▼");
        say!("  gateway {}", command.cons);
        say!("    │  TLS with the UID as key, to {tunnel}");
        say!("    ▼");
        say!("  gateway {}", command.prod);
        say!("    │");
        say!("    ▼");
        say!("  producer's application at {target}");
        say!("");
    }
    for (gateway, half) in [(&command.cons, cons), (&command.prod, prod)] {
        if half.bandwidth > 0 {
            say!("gateway {gateway} keeps it to {} kB/s", half.bandwidth);
        }
    }
}

fn half_json(gateway: &Endpoint, half: &Half) -> serde_json::Value {
    json!({
        "s2cs": gateway.to_string(), "listeners": half.listeners, "targets": half.targets,
        "bandwidth": (half.bandwidth > 0).then_some(half.bandwidth),
    })
}
