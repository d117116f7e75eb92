//! s2uc top: what goes through a gateway's sessions, live.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use scistream_proto::gateway::{Flow, SessionFlows, Traffic};
use serde_json::{Value, json};

use super::gateway::{Failure, Interrupts};
use super::sessions::{At, age, session_json, state};
use crate::shown::in_one_line;

/// Connections that a session's block shows, the busiest first.
const SHOWN: usize = 10;

#[derive(Args)]
pub(super) struct Top {
    /// Only this session, by its short id
    id: Option<String>,
    /// Seconds between two looks
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = interval)]
    interval: Duration,
    /// Look once
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    at: At,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    let length = Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())?;
    // The gateway looks every second itself.
    if length < Duration::from_millis(100) { Err("that is too short".into()) } else { Ok(length) }
}

pub(super) async fn top(command: Top, json: bool) -> Result<ExitCode, Failure> {
    let gateway = command.at.connect().await?;
    let id = command.id.as_deref().unwrap_or_default();
    let screen = !json && !command.once && stdout().is_terminal();
    let mut interrupts = Interrupts::listen()?;
    loop {
        let look = async {
            let sessions = gateway.flows(id).await?;
            let text = if json { format!("{}\n", as_json(&sessions)) } else { table(gateway.name(), sessions) };
            Ok::<_, Failure>(if screen { on_screen(&text) } else { text })
        };
        let text = tokio::select! {
            text = look => text?,
            () = interrupts.next() => return Ok(ExitCode::SUCCESS),
        };
        let mut out = stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        drop(out);
        // Nobody reads any more, or nobody wants more.
        if written.is_err() || command.once {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(command.interval) => {}
            () = interrupts.next() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// From the upper left corner, each line and the rest of the screen cleared
/// behind what is written (ECMA-48: CUP, EL, ED), so that nothing flickers.
fn on_screen(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

pub(super) fn traffic_json(traffic: &Traffic) -> Value {
    json!({
        "bytes_in": traffic.bytes_in, "bytes_out": traffic.bytes_out, "retransmits": traffic.retransmits,
        "connections": traffic.connections, "connections_ever": traffic.connections_ever,
        "in_per_second": traffic.in_per_second, "out_per_second": traffic.out_per_second, "rtt_us": traffic.rtt_us,
    })
}

fn as_json(sessions: &[SessionFlows]) -> Value {
    let flow = |flow: &Flow| {
        json!({
            "listener": flow.listener, "peer": flow.peer, "bytes_in": flow.bytes_in, "bytes_out": flow.bytes_out,
            "retransmits": flow.retransmits, "in_per_second": flow.in_per_second,
            "out_per_second": flow.out_per_second, "rtt_us": flow.rtt_us,
            "congestion_window": flow.congestion_window, "since_ms": flow.since_ms,
        })
    };
    let session = |both: &SessionFlows| {
        let mut object = both.session.as_ref().map(session_json).unwrap_or_default();
        object["flows"] = both.flows.iter().map(flow).collect();
        object
    };
    json!({ "sessions": sessions.iter().map(session).collect::<Vec<_>>() })
}

fn table(gateway: &str, mut sessions: Vec<SessionFlows>) -> String {
    sessions.sort_by_cached_key(|both| {
        let traffic = traffic_of(both).unwrap_or_default();
        let id = both.session.as_ref().map(|session| session.id.clone());
        (std::cmp::Reverse(traffic.in_per_second.saturating_add(traffic.out_per_second)), id)
    });
    let (mut rate_in, mut rate_out, mut connections) = (0_u64, 0_u64, 0_u64);
    for traffic in sessions.iter().filter_map(traffic_of) {
        rate_in = rate_in.saturating_add(traffic.in_per_second);
        rate_out = rate_out.saturating_add(traffic.out_per_second);
        connections = connections.saturating_add(traffic.connections);
    }
    let mut text = format!(
        "{gateway}: sessions {}, connections {connections}, in {}/s, out {}/s\n\n",
        sessions.len(),
        bytes(rate_in),
        bytes(rate_out),
    );
    let titles = Row {
        name: "SESSION, PEER".into(),
        state: "STATE",
        connections: "CONN".into(),
        rate: ["IN/s".into(), "OUT/s".into()],
        total: ["IN".into(), "OUT".into()],
        rtt: "RTT".into(),
        retransmits: "RETRANS".into(),
        window: "WINDOW".into(),
        age: "AGE".into(),
    };
    titles.write(&mut text);
    for both in &mut sessions {
        session_row(both).write(&mut text);
        both.flows.sort_by_key(|flow| std::cmp::Reverse(flow.in_per_second.saturating_add(flow.out_per_second)));
        both.flows.iter().take(SHOWN).for_each(|flow| flow_row(flow).write(&mut text));
        if both.flows.len() > SHOWN {
            text.push_str(&format!("  and {} more\n", both.flows.len() - SHOWN));
        }
    }
    text
}

fn traffic_of(both: &SessionFlows) -> Option<Traffic> {
    both.session.as_ref()?.traffic
}

struct Row<'a> {
    name: String,
    state: &'a str,
    connections: String,
    rate: [String; 2],
    total: [String; 2],
    rtt: String,
    retransmits: String,
    window: String,
    age: String,
}

impl Row<'_> {
    fn write(&self, text: &mut String) {
        let Self { name, state, connections, rate: [rate_in, rate_out], total: [all_in, all_out], .. } = self;
        let Self { rtt, retransmits, window, age, .. } = self;
        let line = format!(
            "{name:<24} {state:<9} {connections:>5} {rate_in:>9} {rate_out:>9} {all_in:>9} {all_out:>9} \
             {rtt:>8} {retransmits:>8} {window:>9} {age:>5}"
        );
        writeln!(text, "{}", in_one_line(line.trim_end())).expect("a string takes everything");
    }
}

fn session_row(both: &SessionFlows) -> Row<'_> {
    let session = both.session.as_ref();
    let traffic = traffic_of(both);
    let number = |of: fn(&Traffic) -> u64| traffic.as_ref().map_or("?".into(), |traffic| of(traffic).to_string());
    let amount = |of: fn(&Traffic) -> u64| traffic.as_ref().map_or("?".into(), |traffic| bytes(of(traffic)));
    Row {
        name: session.map(|session| session.id.clone()).unwrap_or_default(),
        state: session.map_or("", state),
        connections: number(|traffic| traffic.connections),
        rate: [amount(|traffic| traffic.in_per_second), amount(|traffic| traffic.out_per_second)],
        total: [amount(|traffic| traffic.bytes_in), amount(|traffic| traffic.bytes_out)],
        rtt: traffic.as_ref().filter(|traffic| traffic.connections > 0).map_or(String::new(), |t| length(t.rtt_us)),
        retransmits: number(|traffic| traffic.retransmits),
        window: String::new(),
        age: session.map_or(String::new(), |session| age(session.created_ms)),
    }
}

fn flow_row(flow: &Flow) -> Row<'_> {
    Row {
        name: format!("  {}", flow.peer),
        state: "",
        connections: String::new(),
        rate: [bytes(flow.in_per_second), bytes(flow.out_per_second)],
        total: [bytes(flow.bytes_in), bytes(flow.bytes_out)],
        rtt: length(flow.rtt_us),
        retransmits: flow.retransmits.to_string(),
        window: bytes(flow.congestion_window),
        age: age(flow.since_ms),
    }
}

/// Bytes for people, three digits and more: 999 B, 1.25 kB, 118 MB.
pub(super) fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let Some(power) = count.checked_ilog(1000).filter(|power| *power > 0) else {
        return format!("{count} B");
    };
    let base = 1000_u64.pow(power);
    let unit = usize::try_from(power).ok().and_then(|power| units.get(power - 1)).unwrap_or(&"EB");
    let (whole, hundredths) = (count / base, count % base / (base / 100).max(1));
    match whole {
        0..10 => format!("{whole}.{hundredths:02} {unit}"),
        10..100 => format!("{whole}.{} {unit}", hundredths / 10),
        _ => format!("{whole} {unit}"),
    }
}

/// Microseconds for people.
fn length(microseconds: u64) -> String {
    match microseconds {
        0..1000 => format!("{microseconds} µs"),
        1000..100_000 => format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100),
        _ => format!("{} ms", microseconds / 1000),
    }
}

#[cfg(test)]
mod tests {
    use scistream_proto::gateway::Session;

    use super::*;

    #[test]
    fn what_no_gateway_has_is_shown_all_the_same() {
        let most = u64::MAX;
        let traffic = Traffic { in_per_second: most, out_per_second: most, connections: most, ..Traffic::default() };
        let session = Session { id: "0123\u{1b}[2J\n".into(), traffic: Some(traffic), ..Session::default() };
        let flow = Flow { peer: "\u{202e}".into(), in_per_second: most, out_per_second: most, ..Flow::default() };
        let both = SessionFlows { session: Some(session), flows: vec![flow.clone(), flow] };
        let text = table("gw:5000", vec![both.clone(), both]);
        assert_eq!(text.lines().count(), 2 + 1 + 2 * 3, "{text}");
        assert!(text.starts_with("gw:5000: sessions 2, connections 18446744073709551615, in 18.4 EB/s"), "{text}");
        assert!(text.lines().all(|line| line.chars().all(crate::shown::is_harmless)), "{text:?}");
    }

    #[test]
    fn amounts_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1_258_999, "1.25 MB"),
            (118_300_000, "118 MB"),
            (12_345_000_000, "12.3 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!([length(7), length(1234), length(250_000)], ["7 µs", "1.2 ms", "250 ms"]);
    }
}
