//! The end of all sessions of a gateway: by its operator, and by a user on the same host.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::timeout;

use super::gateway::{Failure, Interrupts, print_json, run_client};
use crate::client::{ClientError, Gateway};
use crate::config::{Config, Faults, Settings};
use crate::store::ControlSocket;

#[derive(Args)]
#[command(after_help = "The settings say which control server is meant: the one with the same state folder. It \
                        is asked over the socket control.sock in that folder, so this works as root, and as the \
                        user that s2cs runs as.\n\n\
                        Examples:\n  \
                        s2cs drain --config /etc/scistream/s2cs.toml --wait 600\n  \
                        s2cs drain --state-dir /var/lib/scistream")]
pub(super) struct Drain {
    #[command(flatten)]
    settings: Settings,
    /// Seconds that sessions may take to end by themselves
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// How long an interrupted user waits to be told what was begun.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The operator's command.
pub(super) fn drain(command: Drain) -> Result<ExitCode, Faults> {
    let Drain { settings, wait, json } = command;
    let state_dir = Config::state_dir(settings)?;
    Ok(run_client("s2cs", json, async {
        let gateway = connect(&state_dir).await?;
        drain_and_tell(&gateway, wait, json).await
    }))
}

async fn connect(state_dir: &Path) -> Result<Gateway, Failure> {
    let socket = ControlSocket::path(state_dir);
    Gateway::connect_operator(&socket).await.map_err(|e| match e.at_the_socket() {
        Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Failure::Local {
            code: "NOT_RUNNING",
            message: format!(
                "no s2cs runs with the state folder {}; name the right one with --config or --state-dir",
                state_dir.display()
            ),
        },
        Some(ErrorKind::PermissionDenied) => {
            Failure::local(format!("{}; do this as root, or as the user that s2cs runs as", e.story()))
        }
        None if matches!(e, ClientError::Dial(_)) => {
            Failure::local(format!("{}; only root and the user that s2cs runs as are served there", e.story()))
        }
        _ => e.into(),
    })
}

/// Has a gateway end its sessions, and tells the outcome. Ctrl-C ends the waiting alone.
pub(super) async fn drain_and_tell(gateway: &Gateway, wait: u64, json: bool) -> Result<ExitCode, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let drain = gateway.drain(Duration::from_secs(wait));
    tokio::pin!(drain);
    let released = tokio::select! {
        released = &mut drain => released?,
        () = interrupts.next() => {
            let status = timeout(LAST_LOOK, gateway.capabilities()).await;
            let message = match status {
                Ok(Ok(status)) if status.draining => format!(
                    "interrupted; the gateway goes on draining: it takes no new sessions, and releases those that \
                     are left {wait} s after this command began"
                ),
                Ok(Ok(_)) => "interrupted; the gateway has not begun to drain".into(),
                _ => "interrupted; the gateway may be draining, but does not tell".into(),
            };
            return Err(Failure::Local { code: "INTERRUPTED", message });
        }
    };
    if json {
        print_json(&json!({ "drained": true, "released": released }));
    } else {
        say!("drained; {released} sessions had to be released");
    }
    Ok(ExitCode::SUCCESS)
}
