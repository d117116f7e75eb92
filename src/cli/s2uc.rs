//! The command line of s2uc, the user's client.

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use ipnet::IpNet;
use serde_json::json;

use super::doctor::{UserDoctor, user_doctor};
use super::gateway::{Channel, Failure, Interrupts, List, network, print_json, run_client, uid};
use super::login::{self, Login};
use super::logins::{self, CheckAuth, Logout};
use super::mint::Mint;
use super::sessions::{self, At, Drain, Listing, Renew, Show, Watch};
use super::top::{self, Top};
use super::tunnel::{self, Tunnel};
use super::wishes::Wishes;
use crate::client::{Ask, Gateway, Half, NO_TOKEN};
use crate::session::{Endpoint, Host, Protection, Role, Uid};

#[derive(Parser)]
#[command(
    name = "s2uc",
    version,
    about = "The user's client of SciStream: asks gateways for streams between facilities",
    after_help = "One command for both ends:\n  \
        s2uc tunnel --prod gw1:5000 --prod-target daq:5300 --cons gw2:5000\n\n\
        Or one end at a time; the first prints the UID and the listeners that the second needs:\n  \
        s2uc inbound-request --remote_ip daq --receiver_ports 5300 --s2cs gw1:5000 --num_conn 1\n  \
        s2uc outbound-request --s2cs gw2:5000 --num_conn 1 UID gw1:5100\n  \
        s2uc release UID --s2cs gw1:5000\n\n\
        Gateways that want to know who you are:\n  \
        s2uc login --s2cs gw1:5000"
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
    /// Set up the producer's half: the gateway accepts the tunnel and forwards it to the application
    InboundRequest(Begin),
    /// Set up the consumer's half: the gateway carries local connections to the other gateway
    OutboundRequest(Outbound),
    /// Like inbound-request, for an application whose own controller says HELLO
    ProdReq(Begin),
    /// Set up both halves, show the path, and release both on Ctrl-C
    Tunnel(Tunnel),
    /// Give back all that a UID holds on a gateway
    Release(Release),
    /// List the sessions of a gateway
    List(Listing),
    /// Show one session of a gateway
    Show(Show),
    /// Show what goes through a gateway's sessions, live
    Top(Top),
    /// Print what happens to a gateway's sessions, as it happens
    Watch(Watch),
    /// Give the sessions of a UID a new lifetime, counted from now
    Renew(Renew),
    /// Tell what a gateway is and can do
    Status(At),
    /// Have the gateway on this host take no new sessions, and end the present ones
    Drain(Drain),
    /// Look how far one gets with a gateway, and say what to do
    Doctor(UserDoctor),
    /// Get a token for a gateway, and keep it
    Login(Login),
    /// Revoke and forget tokens
    Logout(Logout),
    /// Tell who has logged in, where and until when; exit status 1 when nobody has
    CheckAuth(CheckAuth),
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    channel: Channel,
    /// How many listeners the gateway opens
    #[arg(long, default_value = "5", value_name = "N")]
    num_conn: NonZeroU16,
    #[command(flatten)]
    wishes: Wishes,
    /// Seconds after which the session ends unless it is renewed [default: as long as the gateway allows]
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u64>,
    /// Seconds without a byte after which the session ends [default: as long as the gateway allows]
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Who may connect to the listeners: an address or a network; several times, or with commas
    /// [default: whoever the gateway allows]
    #[arg(long, value_name = "NET", value_delimiter = ',', value_parser = network)]
    source: Vec<IpNet>,
    /// The least protection of the tunnel, the same at both gateways: confidentiality, integrity or
    /// none [default: the gateway's]
    #[arg(long, value_name = "FLOOR")]
    protection: Option<Protection>,
    /// What is to carry the bytes, where the gateway lets you choose [default: the gateway's]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Where the application is
    #[arg(long, default_value = "localhost", value_name = "HOST")]
    remote_ip: Host,
    /// Print the access token in the line for scripts, for those that pass it to appctrl
    #[arg(long)]
    print_token: bool,
    /// The application's ports
    #[arg(long, default_value = "5074,5075,5076,37000,47000", value_name = "PORT,PORT…")]
    receiver_ports: List<NonZeroU16>,
}

impl Common {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.receiver_ports.0.iter().map(|port| Endpoint { host: self.remote_ip.clone(), port: *port }).collect()
    }
}

#[derive(Args)]
struct Begin {
    /// The producer's gateway
    #[arg(long, default_value = "localhost:5000", value_name = "HOST:PORT")]
    s2cs: Endpoint,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    mint: Mint,
}

#[derive(Args)]
struct Outbound {
    /// The consumer's gateway
    #[arg(long, default_value = "localhost:6000", value_name = "HOST:PORT")]
    s2cs: Endpoint,
    #[command(flatten)]
    common: Common,
    /// The UID that inbound-request printed; - reads it from standard input
    uid: String,
    /// The listeners that inbound-request printed
    #[arg(value_name = "PROD_LISTENERS")]
    targets: List<Endpoint>,
}

#[derive(Args)]
struct Release {
    /// The UID to release; - reads it from standard input
    uid: String,
    /// Why, for the gateway's log and for those who watch
    #[arg(long, value_name = "WORDS")]
    reason: Option<String>,
    /// The gateway that holds it
    #[arg(long, default_value = "localhost:5000", value_name = "HOST:PORT")]
    s2cs: Endpoint,
    #[command(flatten)]
    channel: Channel,
}

/// The command line, for those who describe it.
pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(super::arguments());
    run_client("s2uc", cli.json, run(cli))
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let json = cli.json;
    match cli.command {
        Command::InboundRequest(command) => inbound(command, json).await,
        Command::OutboundRequest(command) => outbound(command, json).await,
        Command::ProdReq(command) => prod_req(command, json).await,
        Command::Tunnel(command) => tunnel::run(command, json).await,
        Command::Release(command) => release(command, json).await,
        Command::List(command) => sessions::list(command, json).await,
        Command::Show(command) => sessions::show(command, json).await,
        Command::Top(command) => top::top(command, json).await,
        Command::Watch(command) => sessions::watch(command, json).await,
        Command::Renew(command) => sessions::renew(command, json).await,
        Command::Status(command) => sessions::status(command, json).await,
        Command::Drain(command) => sessions::drain(command, json).await,
        Command::Doctor(command) => user_doctor(command, json).await,
        Command::Login(command) => login::login(command, json).await,
        Command::Logout(command) => logins::logout(command, json).await,
        Command::CheckAuth(command) => logins::check_auth(command, json).await,
    }
}

/// The two lines that scripts read with awk. Spaces in the second are as deployed.
fn announce_uid(uid: &Uid, gateway: &Gateway, role: Role, common: &Common, json: bool) {
    if !json {
        let token = if common.print_token { gateway.token() } else { NO_TOKEN };
        say!("uid; s2cs; access_token; role");
        say!("{} {} {token} {role}", uid.wire(), gateway.name());
    }
}

/// A list as Python prints it, which scripts take apart.
fn python_list(items: &[String]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| format!("'{item}'")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Tells a half that stands; `word` is what the deployed release puts before the list.
fn show(uid: &Uid, role: Role, s2cs: &Endpoint, half: &Half, word: &str, json: bool) {
    if json {
        print_json(&json!({
            "uid": uid.wire(), "role": role, "s2cs": s2cs.to_string(),
            "listeners": half.listeners, "targets": half.targets,
            "bandwidth": (half.bandwidth > 0).then_some(half.bandwidth),
        }));
    } else {
        say!("{word}{}", python_list(&half.listeners));
    }
}

/// Gives back what an interrupted command may have made.
async fn undo(gateway: &Gateway, uid: &Uid) {
    if let Err(e) = gateway.release(uid).await {
        tracing::debug!("{}", e.story());
    }
}

async fn inbound(command: Begin, json: bool) -> Result<ExitCode, Failure> {
    let common = &command.common;
    let uid = command.mint.uid()?;
    let gateway = common.channel.connect(&command.s2cs).await?;
    let mut interrupts = Interrupts::listen()?;
    announce_uid(&uid, &gateway, Role::Prod, common, json);
    let ask = ask(uid.clone(), Role::Prod, common);
    let open = async { Ok(ask.open(&gateway, None).await?) };
    let half = interrupts.guard(open, async || undo(&gateway, &uid).await).await?;
    show(&uid, Role::Prod, &command.s2cs, &half, "Listeners: ", json);
    Ok(ExitCode::SUCCESS)
}

async fn outbound(command: Outbound, json: bool) -> Result<ExitCode, Failure> {
    let common = &command.common;
    let uid = uid(&command.uid)?;
    let gateway = common.channel.connect(&command.s2cs).await?;
    let mut interrupts = Interrupts::listen()?;
    announce_uid(&uid, &gateway, Role::Cons, common, json);
    let ask = ask(uid.clone(), Role::Cons, common);
    let targets: Vec<_> = command.targets.0.iter().map(ToString::to_string).collect();
    let open = async { Ok(ask.open(&gateway, Some(targets)).await?) };
    let half = interrupts.guard(open, async || undo(&gateway, &uid).await).await?;
    show(&uid, Role::Cons, &command.s2cs, &half, "Listeners: ", json);
    Ok(ExitCode::SUCCESS)
}

fn ask(uid: Uid, role: Role, common: &Common) -> Ask {
    Ask {
        uid,
        role,
        connections: common.num_conn.get(),
        rate: common.wishes.rate,
        lifetime: common.lifetime.map(Duration::from_secs),
        idle: common.idle.map(Duration::from_secs),
        sources: common.source.iter().copied().collect(),
        protection: common.protection,
        backend: common.backend.clone(),
        tcp: common.wishes.tcp(),
        announced: common.endpoints(),
    }
}

async fn prod_req(command: Begin, json: bool) -> Result<ExitCode, Failure> {
    let common = &command.common;
    let uid = command.mint.uid()?;
    let gateway = common.channel.connect(&command.s2cs).await?;
    let mut interrupts = Interrupts::listen()?;
    announce_uid(&uid, &gateway, Role::Prod, common, json);
    if !json {
        say!("waiting for hello message");
    }
    let ask = ask(uid.clone(), Role::Prod, common);
    let open = async {
        let answer = gateway.request(&ask).await?;
        if !json {
            answer.listeners.iter().for_each(|listener| say!("listeners: \"{listener}\""));
            answer.prod_listeners.iter().for_each(|target| say!("prod_listeners: \"{target}\""));
            say!("");
        }
        let bandwidth = answer.bandwidth;
        Ok(Half { bandwidth, ..ask.start(&gateway, answer.listeners, answer.prod_listeners).await? })
    };
    let half = interrupts.guard(open, async || undo(&gateway, &uid).await).await?;
    show(&uid, Role::Prod, &command.s2cs, &half, "", json);
    Ok(ExitCode::SUCCESS)
}

async fn release(command: Release, json: bool) -> Result<ExitCode, Failure> {
    let uid = uid(&command.uid)?;
    let gateway = command.channel.connect(&command.s2cs).await?;
    match &command.reason {
        Some(reason) => drop(gateway.release_because(&uid, reason).await?),
        // Any gateway knows this call, the deployed release's too.
        None => gateway.release(&uid).await?,
    }
    if json {
        print_json(&json!({ "released": true, "s2cs": command.s2cs.to_string() }));
    } else {
        say!("Release completed");
    }
    Ok(ExitCode::SUCCESS)
}
