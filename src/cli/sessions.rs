//! s2uc's commands that look at a gateway and its sessions.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use scistream_proto::gateway::{CapabilitiesResponse, Event, Session, Tcp, Traffic};
use serde_json::{Value, json};

use super::drain::drain_and_tell;
use super::gateway::{Channel, Failure, Interrupts, print_json, uid};
use super::processes::{process_json, process_line};
use super::top::{bytes, traffic_json};
use crate::client::Gateway;
use crate::session::Endpoint;
use crate::shown::in_one_line;

/// Which gateway.
#[derive(Args)]
pub(super) struct At {
    /// The gateway
    #[arg(long, default_value = "localhost:5000", value_name = "HOST:PORT")]
    s2cs: Endpoint,
    #[command(flatten)]
    channel: Channel,
}

impl At {
    pub(super) async fn connect(&self) -> Result<Gateway, Failure> {
        self.channel.connect(&self.s2cs).await
    }
}

#[derive(Args)]
pub(super) struct Listing {
    /// Show also those that have ended, and why
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(super) struct Show {
    /// The session's short id, as list and the gateway's log have it
    id: String,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(super) struct Watch {
    /// Only this session, by its short id
    id: Option<String>,
    /// Begin after this event, by its sequence number; 0: with the next one
    #[arg(long, default_value_t = 0, value_name = "SEQUENCE")]
    after: u64,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(super) struct Renew {
    /// The UID to renew; - reads it from standard input
    uid: String,
    /// Seconds from now on [default: as long as the gateway allows]
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u64>,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(super) struct Drain {
    /// Seconds that sessions may take to end by themselves
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
    #[command(flatten)]
    at: At,
}

pub(super) async fn list(command: Listing, json: bool) -> Result<ExitCode, Failure> {
    let gateway = command.at.connect().await?;
    let answer = if command.ended { gateway.list_with_ended().await? } else { gateway.list().await? };
    if json {
        let sessions: Vec<_> = answer.sessions.iter().map(listed_json).collect();
        print_json(&json!({ "sessions": sessions, "sequence": answer.sequence }));
    } else {
        print_table(&answer.sessions);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(command: Show, json: bool) -> Result<ExitCode, Failure> {
    let session = command.at.channel.connect(&command.at.s2cs).await?.get(&command.id).await?;
    if json {
        print_json(&listed_json(&session));
    } else {
        print_session(&session);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn watch(command: Watch, json: bool) -> Result<ExitCode, Failure> {
    let gateway = command.at.channel.connect(&command.at.s2cs).await?;
    let mut events = gateway.watch(command.after, command.id.as_deref().unwrap_or_default()).await?;
    let mut interrupts = Interrupts::listen()?;
    loop {
        tokio::select! {
            event = gateway.next_event(&mut events) => {
                let Some(event) = event? else {
                    return Ok(ExitCode::SUCCESS);
                };
                let line = if json { event_json(&event).to_string() } else { event_line(&event) };
                // Nobody reads any more.
                if writeln!(stdout(), "{}", in_one_line(&line)).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            () = interrupts.next() => return Ok(ExitCode::SUCCESS),
        }
    }
}

pub(super) async fn renew(command: Renew, json: bool) -> Result<ExitCode, Failure> {
    let uid = uid(&command.uid)?;
    let gateway = command.at.channel.connect(&command.at.s2cs).await?;
    let sessions = gateway.renew(&uid, command.lifetime.map(Duration::from_secs)).await?;
    if json {
        print_json(&json!({ "sessions": sessions.iter().map(session_json).collect::<Vec<_>>() }));
    } else {
        print_table(&sessions);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn status(command: At, json: bool) -> Result<ExitCode, Failure> {
    let answer = command.channel.connect(&command.s2cs).await?.capabilities().await?;
    if json {
        print_json(&status_json(&answer));
    } else {
        print_status(&command.s2cs, &answer);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn drain(command: Drain, json: bool) -> Result<ExitCode, Failure> {
    let gateway = command.at.channel.connect(&command.at.s2cs).await?;
    drain_and_tell(&gateway, command.wait, json).await
}

pub(super) fn session_json(session: &Session) -> Value {
    json!({
        "id": session.id, "role": session.role, "state": session.state, "degraded": session.degraded,
        "owner": session.owner, "backend": session.backend,
        "weakness": (!session.weakness.is_empty()).then_some(&session.weakness),
        "listeners": session.listeners, "targets": session.targets, "protection": session.protection,
        "revision": session.revision, "created_ms": session.created_ms,
        "sources": session.sources,
        "bandwidth": (session.bandwidth > 0).then_some(session.bandwidth),
        "rate": (session.rate > 0).then_some(session.rate),
        "weight": session.weight,
        "share": (session.share > 0).then_some(session.share),
        "tcp": session.tcp.as_ref().map(tcp_json),
        "expires_ms": (session.expires_ms > 0).then_some(session.expires_ms),
        "traffic": session.traffic.as_ref().map(traffic_json),
        "end": (!session.end.is_empty()).then_some(&session.end),
    })
}

fn tcp_json(tcp: &Tcp) -> Value {
    json!({
        "send_buffer": (tcp.send_buffer > 0).then_some(tcp.send_buffer),
        "receive_buffer": (tcp.receive_buffer > 0).then_some(tcp.receive_buffer),
        "congestion": (!tcp.congestion.is_empty()).then_some(&tcp.congestion),
    })
}

/// With what serves it, which only list and show are told.
fn listed_json(session: &Session) -> Value {
    let mut object = session_json(session);
    object["processes"] = session.processes.iter().map(process_json).collect();
    object
}

fn event_json(event: &Event) -> Value {
    json!({
        "sequence": event.sequence, "at_ms": event.at_ms, "what": event.what,
        "session": event.session.as_ref().map(session_json),
    })
}

fn status_json(status: &CapabilitiesResponse) -> Value {
    let backend = |backend: &scistream_proto::gateway::Backend| {
        json!({
            "name": backend.name, "summary": backend.summary, "version": backend.version,
            "missing": backend.missing, "chained": backend.chained,
            "protections": backend.protections, "filters_sources": backend.filters_sources,
            "limits_bandwidth": backend.limits_bandwidth,
        })
    };
    let login = |login: &scistream_proto::gateway::Login| {
        json!({
            "provider": login.provider, "kind": login.kind, "issuer": login.issuer, "client_id": login.client_id,
            "scopes": login.scopes, "resource": login.resource,
        })
    };
    json!({
        "version": status.version, "backend": status.backend, "terminator": status.terminator,
        "protection": status.protection, "draining": status.draining,
        "ports": { "first": status.first_port, "last": status.last_port, "free": status.free_ports },
        "sessions": { "now": status.sessions, "most": status.max_sessions },
        "enforces_rate": status.enforces_rate,
        "max_bandwidth": (status.max_bandwidth > 0).then_some(status.max_bandwidth),
        "gateway_bandwidth": (status.gateway_bandwidth > 0).then_some(status.gateway_bandwidth),
        "max_buffer": (status.max_buffer > 0).then_some(status.max_buffer), "congestions": status.congestions,
        "max_listeners": status.max_listeners, "max_lifetime_seconds": status.max_lifetime_seconds,
        "authentication": status.authentication,
        "logins": status.logins.iter().map(login).collect::<Vec<_>>(),
        "backends": status.backends.iter().map(backend).collect::<Vec<_>>(),
    })
}

fn print_table(sessions: &[Session]) {
    say!(
        "{:<17}  {:<9}  {:<15}  {:>6}  {:>7}  {:>9}  {:>9}  LISTENERS → TARGETS",
        "SESSION",
        "STATE",
        "PROTECTION",
        "AGE",
        "LEFT",
        "IN",
        "OUT",
    );
    for session in sessions {
        let amount =
            |of: fn(&Traffic) -> u64| session.traffic.as_ref().map_or("?".into(), |traffic| bytes(of(traffic)));
        say!(
            "{:<17}  {:<9}  {:<15}  {:>6}  {:>7}  {:>9}  {:>9}  {}",
            session.id,
            state(session),
            session.protection,
            age(session.created_ms),
            left(session.expires_ms),
            amount(|traffic| traffic.bytes_in),
            amount(|traffic| traffic.bytes_out),
            if session.end.is_empty() { routes(session).join("  ") } else { session.end.clone() },
        );
    }
}

fn print_session(session: &Session) {
    say!("session     {}", session.id);
    say!("role        {}", session.role);
    say!("state       {}", session.state);
    if !session.end.is_empty() {
        say!("end         {}", session.end);
    }
    if !session.degraded.is_empty() {
        say!("degraded    {}", session.degraded);
    }
    say!("owner       {}", session.owner);
    say!("backend     {}", session.backend);
    say!("protection  {}", session.protection);
    match session.sources.as_slice() {
        [] => say!("sources     anywhere"),
        networks => say!("sources     {}", networks.join(", ")),
    }
    if let Some(bandwidth) = bandwidth(session) {
        say!("bandwidth   {bandwidth}");
    }
    if let Some(tcp) = &session.tcp {
        say!("tcp         {}", tcp_words(tcp));
    }
    if !session.weakness.is_empty() {
        say!("weak        {}", session.weakness);
    }
    say!("revision    {}", session.revision);
    say!("age         {}", age(session.created_ms));
    say!("left        {}", left(session.expires_ms));
    if let Some(traffic) = &session.traffic {
        let Traffic { connections, connections_ever, retransmits, .. } = traffic;
        say!(
            "traffic     {} in, {} out, {retransmits} segments sent again",
            bytes(traffic.bytes_in),
            bytes(traffic.bytes_out)
        );
        say!("connections {connections} open, {connections_ever} ever");
    }
    routes(session).iter().for_each(|route| say!("route       {route}"));
    session.processes.iter().for_each(|process| say!("process     {}", process_line(process)));
}

/// What it is kept to, if it is.
fn bandwidth(session: &Session) -> Option<String> {
    let asked = if session.rate > 0 { format!(" (asked for {})", session.rate) } else { String::new() };
    let limit = (session.bandwidth > 0).then(|| format!("kept to {} kB/s{asked}", session.bandwidth));
    let share = (session.share > 0).then(|| format!("its share is {} kB/s just now", session.share));
    let words: Vec<_> = limit.into_iter().chain(share).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn tcp_words(tcp: &Tcp) -> String {
    let buffer = |name: &str, size: u32| (size > 0).then(|| format!("{name} buffer {size}"));
    let congestion = (!tcp.congestion.is_empty()).then(|| tcp.congestion.clone());
    let words = [buffer("send", tcp.send_buffer), buffer("receive", tcp.receive_buffer), congestion];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(super) fn state(session: &Session) -> &str {
    if session.degraded.is_empty() { &session.state } else { "degraded" }
}

fn event_line(event: &Event) -> String {
    let session = event.session.as_ref().map_or("", |session| session.id.as_str());
    format!("{}  {session}  {}", event.sequence, event.what)
}

fn print_status(s2cs: &Endpoint, status: &CapabilitiesResponse) {
    let note = if status.draining { ", draining: it takes no new sessions" } else { "" };
    say!("gateway     {s2cs}, s2cs {}{note}", status.version);
    say!("sessions    {} of at most {}", status.sessions, status.max_sessions);
    say!("ports       {}-{}, {} free", status.first_port, status.last_port, status.free_ports);
    say!("protection  {} at least", status.protection);
    if status.gateway_bandwidth > 0 {
        say!("bandwidth   {} kB/s, shared by all sessions", status.gateway_bandwidth);
    }
    match (status.max_bandwidth, status.enforces_rate) {
        (0, false) => {}
        (0, true) => say!("a session   is kept to the rate that it is asked for with"),
        (most, false) => say!("a session   is kept to {most} kB/s"),
        (most, true) => say!("a session   is kept to the rate that it is asked for with, at most {most} kB/s"),
    }
    match status.authentication.as_slice() {
        [] => say!("who may     whoever can connect: it has no authentication"),
        ways => say!("who may     {}", ways.join(", ")),
    }
    for login in &status.logins {
        say!("log in      {}, at {}", login.provider, login.issuer);
    }
    for backend in &status.backends {
        let chosen = if backend.name == status.backend { "*" } else { " " };
        let state = if backend.missing.is_empty() { &backend.version } else { &backend.missing };
        say!("backend   {chosen} {:<9} {state}", backend.name);
    }
}

fn routes(session: &Session) -> Vec<String> {
    let targets = session.targets.iter().map(String::as_str).chain(std::iter::repeat("?"));
    session.listeners.iter().zip(targets).map(|(listener, target)| format!("{listener} → {target}")).collect()
}

pub(super) fn age(created_ms: u64) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    duration(now.saturating_sub(Duration::from_millis(created_ms)))
}

fn left(expires_ms: u64) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    match expires_ms {
        0 => "forever".into(),
        end => duration(Duration::from_millis(end).saturating_sub(now)),
    }
}

/// Short, with the unit that says most.
pub(super) fn duration(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
