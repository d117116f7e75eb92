//! `s2cs doctor` and `s2uc doctor`: what is found, told.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::timeout;

use super::gateway::{Channel, Failure, print_json, run_client};
use crate::client::{ClientError, Gateway};
use crate::config::{Config, Settings};
use crate::doctor::{Finding, Verdict, look_at_gateway, look_at_streams, look_from_user};
use crate::session::Endpoint;

#[derive(Args)]
#[command(
    after_help = "Nothing is changed. The settings are those that s2cs is to run with; run this as root or as the \
                        user that s2cs runs as, so that it sees what s2cs sees.\n\n\
                        Exit status: 0 when nothing is bad, 1 otherwise.\n\n\
                        Example:\n  \
                        s2cs doctor --config /etc/scistream/s2cs.toml"
)]
pub(super) struct GatewayDoctor {
    #[command(flatten)]
    settings: Settings,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// The operator's.
pub(super) fn gateway_doctor(command: GatewayDoctor) -> ExitCode {
    let GatewayDoctor { settings, json } = command;
    run_client("s2cs", json, async {
        let found = look_at_gateway(Config::load(settings)).await;
        Ok(tell(&found, json))
    })
}

#[derive(Args)]
#[command(
    after_help = "Looks how far one gets, step by step: the gateway's name, a connection, TLS, what the gateway \
                        says of itself, whether it takes your token, and whether connections get to the ports that \
                        streams have.\n\n\
                        Exit status: 0 when nothing is bad, 1 otherwise.\n\n\
                        Example:\n  \
                        s2uc doctor --s2cs gw1.example.org:5000 --server-cert gw1.crt"
)]
pub(super) struct UserDoctor {
    /// The gateway
    #[arg(long, default_value = "localhost:5000", value_name = "HOST:PORT")]
    s2cs: Endpoint,
    #[command(flatten)]
    channel: Channel,
}

/// The user's.
pub(super) async fn user_doctor(command: UserDoctor, json: bool) -> Result<ExitCode, Failure> {
    let UserDoctor { s2cs, channel } = command;
    let (mut found, reached) = look_from_user(&s2cs, &channel.way()).await;
    if let Some(address) = reached {
        let (findings, ports) = look_at_answers(&s2cs, &channel).await;
        found.extend(findings);
        if let Some(ports) = ports {
            found.push(look_at_streams(address, ports).await);
        }
    }
    Ok(tell(&found, json))
}

/// For each of the calls that are made.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the gateway says of itself and of us, and which ports its sessions may have.
async fn look_at_answers(address: &Endpoint, channel: &Channel) -> (Vec<Finding>, Option<[u16; 2]>) {
    const ABOUT: &str = "gateway";
    let asked = async {
        let gateway = channel.connect_as_nobody(address).await?;
        Ok::<_, Failure>(gateway.capabilities().await?)
    };
    let told = match timeout(PATIENCE, asked).await {
        Ok(Ok(told)) => told,
        Ok(Err(Failure::Client(ClientError::Refused { status, .. })))
            if status.code() == tonic::Code::Unimplemented =>
        {
            let remedy =
                "all of s2uc's commands but list, show, watch, top, status, renew, drain and login work with it";
            return (vec![Finding::note(ABOUT, "it runs the deployed Python release", remedy)], None);
        }
        Ok(Err(failure)) => {
            return (
                vec![Finding::bad(ABOUT, failure.story(), "ask the operator: s2cs doctor, journalctl -u s2cs")],
                None,
            );
        }
        Err(_) => {
            return (vec![Finding::bad(ABOUT, "it does not answer", "ask the operator: journalctl -u s2cs")], None);
        }
    };
    let mut found = vec![Finding::good(
        ABOUT,
        format!("s2cs {}, backend {}, protection {}", told.version, told.backend, told.protection),
    )];
    if told.draining {
        found.push(Finding::bad(ABOUT, "it is draining, and takes no new sessions", "ask the operator until when"));
    } else if told.free_ports == 0 {
        found.push(Finding::bad(ABOUT, "none of its ports is free", "wait for sessions to end, or ask the operator"));
    }
    found.push(look_at_token(address, channel, &told.authentication).await);
    let ports = u16::try_from(told.first_port).ok().zip(u16::try_from(told.last_port).ok());
    (found, ports.map(|(first, last)| [first, last]))
}

async fn look_at_token(address: &Endpoint, channel: &Channel, ways: &[String]) -> Finding {
    const ABOUT: &str = "you";
    if ways.is_empty() {
        return Finding::good(ABOUT, "it asks nobody who they are");
    }
    let asked = async {
        let gateway: Gateway = channel.connect(address).await?;
        Ok::<_, Failure>(gateway.list().await?)
    };
    let ways = ways.join(", ");
    match timeout(PATIENCE, asked).await {
        Ok(Ok(_)) => Finding::good(ABOUT, format!("it knows you (callers are known by {ways})")),
        Ok(Err(failure)) => {
            let said = format!("it does not take you (callers are known by {ways}): {}", failure.story());
            Finding::bad(ABOUT, said, format!("s2uc login --s2cs {address}; s2uc check-auth tells what you have"))
        }
        Err(_) => {
            Finding::bad(ABOUT, "it does not say whether it knows you", "its provider may be out of reach; try again")
        }
    }
}

/// Prints them; fails when one is bad.
fn tell(found: &[Finding], json: bool) -> ExitCode {
    let count = |verdict| found.iter().filter(|finding| finding.verdict == verdict).count();
    let (bad, notes) = (count(Verdict::Bad), count(Verdict::Note));
    if json {
        print_json(&json!({ "ok": bad == 0, "findings": found }));
    } else {
        for Finding { about, verdict, said, remedy } in found {
            let word = match verdict {
                Verdict::Good => "ok",
                Verdict::Note => "note",
                Verdict::Bad => "BAD",
            };
            say!("{word:<5} {about:<13} {said}");
            if let Some(remedy) = remedy {
                say!("{:<19} -> {remedy}", "");
            }
        }
        match (bad, notes) {
            (0, 0) => say!("all is well"),
            (0, notes) => say!("nothing is bad; to know: {notes}"),
            (bad, notes) => say!("to mend: {bad}; to know: {notes}"),
        }
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
