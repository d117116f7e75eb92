//! What s2uc and appctrl have in common: how to reach a gateway, and how to
//! tell the outcome.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::token::TokenChoice;
use crate::causes::causes;
use crate::client::{ClientError, Gateway, Security};
use crate::doctor::Way;
use crate::login::LoginError;
use crate::session::{Endpoint, NetworkError, Uid, parse_network};

/// What is told of a command that the user interrupted.
const INTERRUPTED: &str = "INTERRUPTED";
/// The certificate that is looked for when none is named.
const DEFAULT_CERT: &str = "server.crt";

/// How the control channel is protected.
#[derive(Debug, Clone, Args)]
pub(crate) struct Protection {
    /// The gateway's certificate, or that of its authority [default: server.crt if it is here,
    /// else what the system trusts]
    #[arg(long, value_name = "FILE")]
    server_cert: Option<PathBuf>,
    /// A certificate that proves who you are, where the gateway takes one, PEM
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// TLS; False for a gateway on this host that runs without it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = crate::config::boolean, action = clap::ArgAction::Set)]
    ssl: bool,
}

impl Protection {
    /// As said, but for a gateway that has a certificate of its own.
    fn security(&self, cert: Option<&Path>) -> Security {
        let default = || Some(PathBuf::from(DEFAULT_CERT)).filter(|path| path.is_file());
        if !self.ssl {
            return Security::Plain;
        }
        let trusted = cert.map(Path::to_owned).or(self.server_cert.clone()).or_else(default);
        match self.client_cert.clone().zip(self.client_key.clone()) {
            Some((certificate, key)) => Security::Mutual { trusted, certificate, key },
            None => Security::Tls(trusted),
        }
    }

    /// Connects without any token, to ask what everybody may know.
    pub(crate) async fn connect_as_nobody(&self, address: &Endpoint) -> Result<Gateway, Failure> {
        Ok(Gateway::connect(address, &self.security(None)).await?)
    }
}

/// The control channel, and as whom it is used.
#[derive(Debug, Clone, Args)]
pub(crate) struct Channel {
    #[command(flatten)]
    protection: Protection,
    #[command(flatten)]
    token: TokenChoice,
}

impl Channel {
    /// How it is protected, for who looks at that alone.
    pub(crate) fn way(&self) -> Way {
        match self.protection.security(None) {
            Security::Plain => Way::Plain,
            Security::Tls(trusted) | Security::Mutual { trusted, .. } => Way::Tls(trusted),
        }
    }

    /// Connects without any token.
    pub(crate) async fn connect_as_nobody(&self, address: &Endpoint) -> Result<Gateway, Failure> {
        self.protection.connect_as_nobody(address).await
    }

    /// Connects, to send the token that is there for this gateway.
    pub(crate) async fn connect(&self, address: &Endpoint) -> Result<Gateway, Failure> {
        self.connect_trusting(address, None).await
    }

    /// The same, to a gateway that has a certificate of its own.
    pub(crate) async fn connect_trusting(&self, address: &Endpoint, cert: Option<&Path>) -> Result<Gateway, Failure> {
        let security = self.protection.security(cert);
        let gateway = Gateway::connect(address, &security).await?;
        self.token.attached(gateway, address, &security).await
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A gateway.
    Client(ClientError),
    /// What was typed, or this host.
    Local { code: &'static str, message: String },
    /// Ctrl-C, after everything was cleaned up.
    Interrupted,
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        Self::Client(e)
    }
}

impl From<LoginError> for Failure {
    fn from(e: LoginError) -> Self {
        Self::Local { code: "LOGIN", message: format!("failed to {}", causes(&e)) }
    }
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Local { code: "USAGE", message: message.into() }
    }

    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::Local { code: "LOCAL", message: message.into() }
    }
}

impl Failure {
    /// It, for people.
    pub(crate) fn story(&self) -> String {
        match self {
            Self::Client(e) => e.story(),
            Self::Local { message, .. } => message.clone(),
            Self::Interrupted => "interrupted; everything was released".into(),
        }
    }
}

/// Runs a client's command to its exit code.
pub(crate) fn run_client(
    program: &str,
    json: bool,
    command: impl Future<Output = Result<ExitCode, Failure>>,
) -> ExitCode {
    super::log_to_stderr();
    if let Err(e) = crate::memory::keep_private() {
        tracing::warn!("cannot keep the UIDs in memory out of others' sight: {e}");
    }
    let outcome = match Runtime::new() {
        Ok(runtime) => runtime.block_on(command),
        Err(e) => Err(Failure::local(format!("failed to start: {e}"))),
    };
    finish(program, json, outcome)
}

/// Tells a failure, as text on stderr or as JSON on stdout, and gives the exit code.
fn finish(program: &str, json: bool, outcome: Result<ExitCode, Failure>) -> ExitCode {
    let failure = match outcome {
        Ok(exit) => return exit,
        Err(failure) => failure,
    };
    let code = match &failure {
        Failure::Client(e) => e.code(),
        Failure::Local { code, .. } => (*code).to_owned(),
        Failure::Interrupted => INTERRUPTED.to_owned(),
    };
    let exit = match code.as_str() {
        _ if matches!(failure, Failure::Client(_)) => 1,
        "USAGE" => 2,
        INTERRUPTED => 130,
        _ => 1,
    };
    let message = failure.story();
    if json {
        print_json(&json!({ "error": { "code": code, "message": message } }));
    } else {
        eprintln!("{program}: {message}");
    }
    ExitCode::from(exit)
}

pub(crate) fn print_json(value: &Value) {
    say!("{value}");
}

/// Ctrl-C and SIGTERM. From the moment when this is made none is lost, whoever waits for it when.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let fault = |e: std::io::Error| Failure::local(format!("failed to wait for signals: {e}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
        let terminate = signal(SignalKind::terminate()).map_err(fault)?;
        Ok(Self { interrupt, terminate })
    }

    /// Resolves at the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs `work`; when the user interrupts it, undoes with `undo` what it may have made.
    pub(crate) async fn guard<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
        undo: impl AsyncFnOnce(),
    ) -> Result<T, Failure> {
        tokio::select! {
            outcome = work => outcome,
            () = self.next() => {
                undo().await;
                Err(Failure::Interrupted)
            }
        }
    }
}

/// A UID as it is typed; `-` reads it from standard input, where no process list shows it.
pub(crate) fn uid(typed: &str) -> Result<Uid, Failure> {
    let mut text = typed.to_owned();
    if typed == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| Failure::local(format!("failed to read the UID from standard input: {e}")))?;
    }
    Uid::parse(text.trim()).map_err(|e| Failure::usage(format!("the UID cannot be used: {e}")))
}

/// A network as people type it, perhaps with a space after a comma.
pub(crate) fn network(text: &str) -> Result<IpNet, NetworkError> {
    parse_network(text.trim())
}

/// A list as people type it: commas, perhaps with spaces.
#[derive(Debug, Clone)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let list =
            items.map(|item| item.parse().map_err(|e| format!("{item:?}: {e}"))).collect::<Result<Vec<T>, _>>()?;
        if list.is_empty() { Err("it is empty".into()) } else { Ok(Self(list)) }
    }
}
