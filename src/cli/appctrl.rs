//! The command line of appctrl, the application controller.

use std::num::NonZeroU16;
use std::process::{ExitCode, Stdio};

use clap::{Args, CommandFactory, Parser, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::Command as Program;

use super::gateway::{Channel, Failure, Interrupts, List, print_json, run_client, uid};
use super::token::given;
use crate::client::{Gateway, announce};
use crate::session::{Endpoint, Host, Role, Uid};

#[derive(Parser)]
#[command(
    name = "appctrl",
    version,
    about = "The application controller of SciStream: says HELLO for an application",
    after_help = "Examples:\n  \
        appctrl hello --uid UID --s2cs gw1:5000 --role PROD --target daq:5300\n  \
        appctrl run --uid UID --s2cs gw2:5000 --role CONS -- iperf3 -c {host} -p {port}"
)]
struct Cli {
    /// Print the outcome as one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say HELLO, and print the listeners that a CONS application connects to
    Hello(Hello),
    /// Say HELLO, run the application with its endpoints filled in, release when it ends
    Run(Run),
    /// The deployed release's name of hello
    CreateAppctrl(Deployed),
    /// The deployed release's name of hello
    Mock(Deployed),
}

#[derive(Args)]
struct Hello {
    /// The UID of the request; - reads it from standard input
    #[arg(long)]
    uid: String,
    /// The application's gateway
    #[arg(long, default_value = "localhost:5000", value_name = "HOST:PORT")]
    s2cs: Endpoint,
    /// Which end the application is: PROD (it listens) or CONS (it connects)
    #[arg(long, value_parser = role)]
    role: Role,
    /// PROD: where the application listens; several, separated by commas
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<List<Endpoint>>,
    /// CONS: the port that the application wants to connect to, if the gateway has it free
    #[arg(long, value_name = "N")]
    port: Option<NonZeroU16>,
    #[command(flatten)]
    channel: Channel,
}

#[derive(Args)]
#[command(after_help = "Filled in, in every word of PROGRAM:\n  \
    {listener}   the first endpoint, HOST:PORT      {host} {port}   its parts\n  \
    {listeners}  all of them, separated by commas   {listener1} {listener2} …  each of them\n\
    For CONS these are the gateway's listeners, for PROD what --target says.")]
struct Run {
    #[command(flatten)]
    hello: Hello,
    /// The application and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

#[derive(Args)]
struct Deployed {
    /// The UID of the request
    uid: String,
    /// The application's gateway
    s2cs: Endpoint,
    /// The access token; INVALID_TOKEN: that of s2uc login, or none
    token: String,
    /// PROD or CONS
    #[arg(value_parser = role)]
    role: Role,
    /// Where a PROD application listens, on the ports 5074, 5075, 5076, 37000 and 47000
    #[arg(default_value = "localhost")]
    ip: Host,
    #[command(flatten)]
    channel: Channel,
}

/// The ports that the deployed release's controller announces.
const DEPLOYED_PORTS: [u16; 5] = [5074, 5075, 5076, 37000, 47000];

fn role(text: &str) -> Result<Role, String> {
    Role::parse(&text.to_ascii_uppercase()).map_err(|e| e.to_string())
}

/// The command line, for those who describe it.
pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(super::arguments());
    run_client("appctrl", cli.json, run(cli))
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Hello(command) => hello(&command, cli.json).await,
        Command::Run(command) => run_program(&command, cli.json).await,
        Command::CreateAppctrl(command) => deployed(&command, "IperfCtrl", cli.json).await,
        Command::Mock(command) => deployed(&command, "AppCtrl", cli.json).await,
    }
}

impl Hello {
    fn endpoints(&self) -> Result<Vec<Endpoint>, Failure> {
        match (self.role, &self.target, self.port) {
            (Role::Prod, Some(targets), None) => Ok(targets.0.clone()),
            (Role::Prod, None, _) => Err(Failure::usage("--role PROD needs --target: where the application listens")),
            (Role::Prod, _, Some(_)) => Err(Failure::usage("--port is for --role CONS")),
            (Role::Cons, Some(_), _) => Err(Failure::usage("--target is for --role PROD")),
            // Only the port says something; the gateway knows its own address.
            (Role::Cons, None, port) => {
                let host = Host::Name("localhost".into());
                Ok(port.map(|port| Endpoint { host, port }).into_iter().collect())
            }
        }
    }

    /// Says HELLO. Answers with what the application connects to, or listens on.
    async fn say(&self, uid: &Uid) -> Result<(Gateway, Vec<String>), Failure> {
        let endpoints = self.endpoints()?;
        let gateway = self.channel.connect(&self.s2cs).await?;
        let listeners = announce(&gateway, uid, self.role, &endpoints).await?;
        let shown = match self.role {
            Role::Prod => endpoints.iter().map(ToString::to_string).collect(),
            Role::Cons => listeners,
        };
        Ok((gateway, shown))
    }
}

async fn hello(command: &Hello, json: bool) -> Result<ExitCode, Failure> {
    let uid = uid(&command.uid)?;
    let (_, endpoints) = command.say(&uid).await?;
    if json {
        print_json(&json!({ "role": command.role, "s2cs": command.s2cs.to_string(), "endpoints": endpoints }));
    } else {
        match command.role {
            Role::Prod => say!("HELLO said for {}", endpoints.join(", ")),
            Role::Cons => endpoints.iter().for_each(|endpoint| say!("{endpoint}")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn deployed(command: &Deployed, instance: &str, json: bool) -> Result<ExitCode, Failure> {
    let uid = uid(&command.uid)?;
    let endpoints: Vec<_> = match command.role {
        Role::Prod => DEPLOYED_PORTS
            .iter()
            .filter_map(|port| Some(Endpoint { host: command.ip.clone(), port: NonZeroU16::new(*port)? }))
            .collect(),
        Role::Cons => vec![],
    };
    if !json {
        say!("AppCtrl: SENDING HELLO");
    }
    let gateway = given(command.channel.connect(&command.s2cs).await?, &command.token).await?;
    let listeners = announce(&gateway, &uid, command.role, &endpoints).await?;
    if json {
        print_json(&json!({ "role": command.role, "s2cs": command.s2cs.to_string(), "listeners": listeners }));
    } else {
        say!("AppCtrl: Hello sent");
        say!("Created {instance} instance");
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_program(command: &Run, json: bool) -> Result<ExitCode, Failure> {
    let uid = uid(&command.hello.uid)?;
    let (gateway, endpoints) = command.hello.say(&uid).await?;
    if !json {
        eprintln!("appctrl: HELLO said; endpoints {}", endpoints.join(", "));
    }
    let outcome = supervise(&command.program, &endpoints).await;
    let released = gateway.release(&uid).await;
    let code = outcome?;
    released?;
    if json {
        print_json(&json!({ "endpoints": endpoints, "exit": code, "released": true }));
    }
    Ok(ExitCode::from(code))
}

/// Runs the application to its end; passes on the signals that end us.
async fn supervise(program: &[String], endpoints: &[String]) -> Result<u8, Failure> {
    let words: Vec<_> = program.iter().map(|word| filled(word, endpoints)).collect();
    let (name, arguments) = words.split_first().ok_or_else(|| Failure::usage("no program is named"))?;
    // Before the application runs: what ends us must end it too.
    let mut interrupts = Interrupts::listen()?;
    let mut child = Program::new(name)
        .args(arguments)
        .env("SCISTREAM_LISTENERS", endpoints.join(","))
        // It is ours, not the application's.
        .env_remove("SCISTREAM_TOKEN")
        .stdin(Stdio::inherit())
        .spawn()
        .map_err(|e| Failure::local(format!("failed to run {name}: {e}")))?;
    let fault = |e: std::io::Error| Failure::local(format!("failed to wait for {name}: {e}"));
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let status = tokio::select! {
        status = child.wait() => status.map_err(fault)?,
        () = interrupts.next() => {
            if let Some(pid) = pid && let Err(e) = kill(pid, Signal::SIGTERM) {
                tracing::debug!("{name} has ended already: {e}");
            }
            child.wait().await.map_err(fault)?
        }
    };
    // As shells tell it: 128 and the signal's number.
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|number| 128 + number);
    Ok(status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn filled(word: &str, endpoints: &[String]) -> String {
    let first = endpoints.first().map_or("", String::as_str);
    let (host, port) = first.rsplit_once(':').unwrap_or((first, ""));
    let mut word = word
        .replace("{listeners}", &endpoints.join(","))
        .replace("{listener}", first)
        .replace("{host}", host.trim_start_matches('[').trim_end_matches(']'))
        .replace("{port}", port);
    for (index, endpoint) in endpoints.iter().enumerate() {
        word = word.replace(&format!("{{listener{}}}", index + 1), endpoint);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_filled_in() {
        let endpoints = ["10.0.0.1:5100".to_owned(), "[::1]:5101".to_owned()];
        assert_eq!(filled("-c {host} -p {port}", &endpoints), "-c 10.0.0.1 -p 5100");
        assert_eq!(filled("{listener2}|{listeners}", &endpoints), "[::1]:5101|10.0.0.1:5100,[::1]:5101");
        assert_eq!(filled("tcp://{listener}", &endpoints), "tcp://10.0.0.1:5100");
        assert_eq!(filled("{other}", &endpoints), "{other}");
    }
}
