//! The desktop's keyring, by way of `secret-tool`, libsecret's own program.
//!
//! A crate for it would bring a D-Bus stack of its own into every s2uc. The program is
//! asked with a deadline, gets and gives secrets by pipes, and is left alone where no
//! session bus is. It keeps no more than 8 KiB of a secret, and says nothing of what it
//! cuts off, so it is given keys alone, and asked for them again at once.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::shown::printable;

const PROGRAM: &str = "secret-tool";
/// A keyring may ask whoever sits here to unlock it. A program that waits for nobody goes on.
const DEADLINE: Duration = Duration::from_secs(10);
/// What its items are found by, with their name.
const APPLICATION: [&str; 2] = ["application", "scistream"];

/// Why the keyring does not help.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Nobody is logged in to a desktop here.
    #[error("there is no session bus, so no keyring")]
    NoBus,
    /// Nothing that could ask it.
    #[error("there is no {PROGRAM} to ask it with (Debian has it in libsecret-tools)")]
    NoProgram,
    /// It waits for somebody.
    #[error("it gives no answer within {} s; is it locked?", DEADLINE.as_secs())]
    Silent,
    /// It says neither yes nor why not.
    #[error("it is locked, or does not have it")]
    NotThere,
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// The system did not let us ask.
    #[error("run {PROGRAM}")]
    System(#[from] std::io::Error),
}

/// Whether there may be one.
///
/// # Errors
/// What is missing.
pub fn look_for_keyring() -> Result<(), KeyringError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let socket = set("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).join("bus").exists());
    if set("DBUS_SESSION_BUS_ADDRESS").is_none() && !socket {
        return Err(KeyringError::NoBus);
    }
    program().map(drop).ok_or(KeyringError::NoProgram)
}

/// Keeps a secret under a name.
///
/// # Errors
/// [`KeyringError`]; nothing is kept then, unless the keyring fell silent meanwhile.
pub(super) async fn keep(name: &str, secret: &SecretString) -> Result<(), KeyringError> {
    let label = "--label=SciStream: the key to the tokens of s2uc";
    let outcome = async {
        succeeded(&ask(&["store", label], name, secret.expose_secret()).await?)?;
        match find(name).await?.expose_secret() == secret.expose_secret() {
            true => Ok(()),
            false => Err(KeyringError::Refused("it gives back something else than it was given".into())),
        }
    };
    let outcome = outcome.await;
    if matches!(outcome, Err(KeyringError::Refused(_) | KeyringError::NotThere | KeyringError::System(_))) {
        // It says nothing new if that fails as well.
        drop(forget(name).await);
    }
    outcome
}

/// What is kept under a name.
///
/// # Errors
/// [`KeyringError`]
pub(super) async fn find(name: &str) -> Result<SecretString, KeyringError> {
    let output = ask(&["lookup"], name, "").await?;
    succeeded(&output)?;
    let secret = String::from_utf8(output.stdout).map_err(|_| KeyringError::NotThere)?;
    Ok(SecretString::from(secret))
}

/// Forgets what is kept under a name.
///
/// # Errors
/// [`KeyringError`]
pub(super) async fn forget(name: &str) -> Result<(), KeyringError> {
    succeeded(&ask(&["clear"], name, "").await?)
}

async fn ask(what: &[&str], name: &str, input: &str) -> Result<Output, KeyringError> {
    look_for_keyring()?;
    let work = async {
        let mut child = Command::new(program().ok_or(KeyringError::NoProgram)?)
            .args(what)
            .args(APPLICATION)
            .args(["store", name])
            .env_remove("SCISTREAM_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().expect("piped");
        match stdin.write_all(input.as_bytes()).await {
            // It has ended without asking for it, and says why.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        drop(stdin);
        Ok(child.wait_with_output().await?)
    };
    // Who is not waited for any more is killed, and its question with it.
    timeout(DEADLINE, work).await.map_err(|_| KeyringError::Silent)?
}

/// What it says though it succeeds is its libraries' talk.
fn succeeded(output: &Output) -> Result<(), KeyringError> {
    match (output.status.success(), String::from_utf8_lossy(&output.stderr).trim()) {
        (true, _) => Ok(()),
        (false, "") => Err(KeyringError::NotThere),
        (_, said) => Err(KeyringError::Refused(printable(said.strip_prefix("secret-tool: ").unwrap_or(said)))),
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Not from wherever one happens to be.
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(PROGRAM)).find(|file| file.is_file())
}
