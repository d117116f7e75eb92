//! How much sessions may move, and how their connections are set.

use std::fs;

use super::settings::{Settings, TcpSettings};
use crate::policy::{BandwidthPolicy, TcpPolicy};
use crate::session::{BUFFERS, Bandwidth, Congestion, Tcp};

/// The most memory that it makes sense to name.
const MOST_MIB: u32 = 1 << 20;
/// `tcp(7)` takes no more.
const LONGEST_KEEPALIVE: u32 = 32_767;
/// What programs without CAP_NET_ADMIN may choose, as proxies are.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// What was said of it, checked.
pub(super) struct Amounts {
    pub(super) bandwidth: BandwidthPolicy,
    pub(super) memory_mib: Option<u32>,
    pub(super) tcp: Tcp,
    pub(super) tcp_policy: TcpPolicy,
}

/// Pushes a fault for each thing that is wrong.
pub(super) fn check(settings: &mut Settings, notes: &mut Vec<String>, faults: &mut Vec<String>) -> Amounts {
    let mut bound = |name: &str, given: Option<u32>| {
        let bound = given.and_then(Bandwidth::kilobytes);
        if given.is_some() && bound.is_none() {
            faults.push(format!("{name} must be at least 1 kB/s; leave it out for no bound"));
        }
        bound
    };
    let bandwidth = BandwidthPolicy {
        enforce_rate: settings.enforce_rate == Some(true),
        most: bound("max_bandwidth", settings.max_bandwidth),
        gateway: bound("gateway_bandwidth", settings.gateway_bandwidth),
    };
    let memory_mib = in_range("memory_mib", settings.memory_mib, 1, MOST_MIB, faults);
    let said = settings.tcp.take().unwrap_or_default();
    let (tcp, tcp_policy) = tcp(&said, notes, faults);
    Amounts { bandwidth, memory_mib, tcp, tcp_policy }
}

fn tcp(said: &TcpSettings, notes: &mut Vec<String>, faults: &mut Vec<String>) -> (Tcp, TcpPolicy) {
    let mut named = |key: &str, text: &String| {
        let name: Option<Congestion> = text.parse().map_err(|e| faults.push(format!("tcp.{key}: {text:?}: {e}"))).ok();
        if name.is_some() && !is_here(text) {
            notes.push(format!(
                "warning: tcp.{key} names {text}, which this kernel lets no proxy choose, so sessions with it will \
                 not start; load its module (tcp_{text}), and add it to net.ipv4.tcp_allowed_congestion_control"
            ));
        }
        name
    };
    let congestion = said.congestion.as_ref().and_then(|text| named("congestion", text));
    let congestions = said.congestions.iter().filter_map(|text| named("congestions", text)).collect();
    let mut buffer =
        |key: &str, given| in_range(&format!("tcp.{key}"), given, *BUFFERS.start(), *BUFFERS.end(), faults);
    let send_buffer = buffer("send_buffer", said.send_buffer);
    let receive_buffer = buffer("receive_buffer", said.receive_buffer);
    let max_buffer = buffer("max_buffer", said.max_buffer);
    let keepalive_seconds = in_range("tcp.keepalive_seconds", said.keepalive_seconds, 0, LONGEST_KEEPALIVE, faults);
    let tcp = Tcp { nodelay: said.nodelay, keepalive_seconds, send_buffer, receive_buffer, congestion };
    (tcp, TcpPolicy { max_buffer, congestions })
}

/// Where the kernel does not tell, nobody knows better.
fn is_here(name: &str) -> bool {
    fs::read_to_string(ALLOWED).map_or(true, |all| all.split_whitespace().any(|other| other == name))
}

fn in_range(name: &str, given: Option<u32>, least: u32, most: u32, faults: &mut Vec<String>) -> Option<u32> {
    let number = given?;
    let good = (least..=most).contains(&number);
    if !good {
        faults.push(format!("{name} must be from {least} to {most}, not {number}"));
    }
    good.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (Amounts, Vec<String>, Vec<String>) {
        let (mut notes, mut faults) = (Vec::new(), Vec::new());
        let mut settings = Settings::parse("s2cs.toml", text, &mut faults);
        let amounts = check(&mut settings, &mut notes, &mut faults);
        (amounts, notes, faults)
    }

    #[test]
    fn nothing_said_is_nothing_bounded() {
        let (amounts, notes, faults) = checked("");
        assert_eq!(amounts.bandwidth, BandwidthPolicy::default());
        assert_eq!((amounts.tcp, amounts.tcp_policy), (Tcp::default(), TcpPolicy::default()));
        assert_eq!((amounts.memory_mib, notes, faults), (None, vec![], vec![]));
    }

    #[test]
    fn what_is_said_is_taken_and_every_fault_is_told() {
        let (amounts, _, faults) = checked(
            "enforce_rate = true\nmax_bandwidth = 20000\ngateway_bandwidth = 100000\nmemory_mib = 256\n\
             [tcp]\nnodelay = false\nkeepalive_seconds = 0\nsend_buffer = 4194304\ncongestion = \"cubic\"\n\
             max_buffer = 8388608\ncongestions = [\"cubic\", \"bbr\"]\n",
        );
        assert_eq!(faults, Vec::<String>::new());
        assert!(amounts.bandwidth.enforce_rate);
        assert_eq!(amounts.bandwidth.gateway, Bandwidth::kilobytes(100_000));
        assert_eq!((amounts.tcp.nodelay, amounts.tcp.keepalive_seconds), (Some(false), Some(0)));
        assert_eq!(amounts.tcp_policy.congestions.len(), 2);
        let (_, _, faults) = checked(
            "max_bandwidth = 0\ngateway_bandwidth = 0\nmemory_mib = 0\n\
             [tcp]\nkeepalive_seconds = 99999\nsend_buffer = 0\ncongestion = \"BBR!\"\n",
        );
        assert_eq!(faults.len(), 6, "{faults:#?}");
        let (_, _, faults) = checked("[tcp]\nno_delay = true\n");
        assert_eq!(faults.len(), 1, "{faults:#?}");
    }

    #[test]
    fn a_congestion_control_that_is_not_here_is_warned_of() {
        let (_, notes, faults) = checked("[tcp]\ncongestion = \"nosuch\"\n");
        assert_eq!(faults, Vec::<String>::new());
        assert!(notes.len() == 1 && notes[0].contains("tcp_nosuch"), "{notes:?}");
    }
}
