//! The configuration file: from TOML to values that cannot be wrong.
//!
//! The shape (unknown fields, types) is judged by serde; what the values mean is
//! judged here, and every fault is reported in one go.

mod listener;

pub use self::listener::{Listener, ProxyVersion, WireKind};

use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use self::listener::RawListener;
use crate::error::Error;
use crate::key::{self, Keys};
use crate::protection::Protection;
use crate::range::within;
use crate::tcp::{RawTcp, TcpSettings};
use crate::tls::KernelTls;

/// A configuration that can be served.
pub struct Config {
    /// Threads that carry connections; `None` leaves it to the number of processors.
    pub threads: Option<NonZeroUsize>,
    /// The floor of every `psk` side.
    pub protection: Protection,
    /// When the kernel is to make and open the records of TLS.
    pub kernel_tls: KernelTls,
    /// The keys, when any side needs them.
    pub keys: Option<Keys>,
    /// How long a target may take to accept.
    pub connect_timeout: Duration,
    /// How long a peer may take to prove itself.
    pub handshake_timeout: Duration,
    /// How long open connections may go on after SIGTERM.
    pub drain: Duration,
    /// How many connections are served at once.
    pub max_connections: usize,
    /// What all connections may carry together, both ways, in bytes of the
    /// applications a second; `None` is no limit.
    pub bandwidth: Option<NonZeroU64>,
    /// What the buffers of all connections may take together, in bytes.
    pub memory: usize,
    /// How TCP sockets are set up.
    pub tcp: Arc<TcpSettings>,
    /// What to serve; no two accept on the same address.
    pub listeners: Vec<Listener>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    protection: Protection,
    #[serde(default)]
    kernel_tls: KernelTls,
    threads: Option<usize>,
    #[serde(default = "ten_thousand")]
    connect_timeout_ms: u64,
    #[serde(default = "ten_thousand")]
    handshake_timeout_ms: u64,
    #[serde(default = "ten")]
    drain_seconds: u64,
    #[serde(default = "default_connections")]
    max_connections: usize,
    bandwidth: Option<u64>,
    #[serde(default = "default_memory")]
    memory_mib: usize,
    #[serde(default)]
    tcp: RawTcp,
    psk: Option<RawPsk>,
    #[serde(default)]
    listener: Vec<RawListener>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPsk {
    identity: String,
    file: PathBuf,
}

fn ten() -> u64 {
    10
}

fn ten_thousand() -> u64 {
    10_000
}

fn default_connections() -> usize {
    4096
}

fn default_memory() -> usize {
    256
}

impl Config {
    /// Reads and checks the file and the key file that it names.
    ///
    /// # Errors
    /// With every fault that was found.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::ReadConfig { path: path.to_owned(), source })?;
        Self::parse(&text, Keys::load).map_err(|faults| Error::CheckConfig { path: path.to_owned(), faults })
    }

    /// Reads and checks the text of a file. `keys` reads the key file that it names, for an identity.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn parse(text: &str, keys: impl FnOnce(&Path, &str) -> Result<Keys, Vec<String>>) -> Result<Self, Vec<String>> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| vec![in_one_line(text, &error)])?;
        let mut faults = Vec::new();
        let connect_timeout = milliseconds("connect_timeout_ms", raw.connect_timeout_ms, &mut faults);
        let handshake_timeout = milliseconds("handshake_timeout_ms", raw.handshake_timeout_ms, &mut faults);
        within("drain_seconds", raw.drain_seconds, 0, 86_400, &mut faults);
        within("max_connections", raw.max_connections as u64, 1, 1_000_000, &mut faults);
        if let Some(threads) = raw.threads {
            within("threads", threads as u64, 1, 1024, &mut faults);
        }
        if let Some(bandwidth) = raw.bandwidth {
            within("bandwidth", bandwidth, 1000, 1 << 40, &mut faults);
        }
        within("memory_mib", raw.memory_mib as u64, 1, 1 << 20, &mut faults);
        raw.tcp.check(&mut faults);
        let keys = check_psk(raw.psk.as_ref(), &raw.listener, keys, &mut faults);
        let listeners = listener::check_all(&raw.listener, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            threads: raw.threads.and_then(NonZeroUsize::new),
            protection: raw.protection,
            kernel_tls: raw.kernel_tls,
            keys,
            connect_timeout,
            handshake_timeout,
            drain: Duration::from_secs(raw.drain_seconds),
            max_connections: raw.max_connections,
            bandwidth: raw.bandwidth.and_then(NonZeroU64::new),
            memory: raw.memory_mib << 20,
            tcp: Arc::new(raw.tcp.into()),
            listeners,
        })
    }
}

/// The parser draws the place of a fault over several lines; log lines and
/// answers to a user have one.
fn in_one_line(text: &str, error: &toml::de::Error) -> String {
    let message: String = error.message().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

fn milliseconds(what: &str, value: u64, faults: &mut Vec<String>) -> Duration {
    within(what, value, 1, 600_000, faults);
    Duration::from_millis(value)
}

fn check_psk(
    psk: Option<&RawPsk>,
    listeners: &[RawListener],
    keys: impl FnOnce(&Path, &str) -> Result<Keys, Vec<String>>,
    faults: &mut Vec<String>,
) -> Option<Keys> {
    let Some(psk) = psk else {
        if listeners.iter().any(RawListener::needs_a_key) {
            faults.push("psk: this table is needed, since a listener has a \"psk\" side".to_owned());
        }
        return None;
    };
    let before = faults.len();
    if let Err(fault) = key::check_identity(&psk.identity) {
        faults.push(format!("psk.identity: {fault}"));
    }
    if !psk.file.is_absolute() {
        faults.push("psk.file: expected an absolute path".to_owned());
    }
    if faults.len() > before {
        return None;
    }
    keys(&psk.file, &psk.identity)
        .map_err(|found| faults.extend(found.iter().map(|fault| format!("psk.file {:?}: {fault}", psk.file))))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    const LEAST: &str = "[[listener]]\naccept = \"127.0.0.1:5100\"\ntarget = \"10.0.0.9:5300\"\n";

    fn faults(text: &str) -> Vec<String> {
        Config::parse(text, Keys::load).err().unwrap_or_else(|| panic!("this was taken:\n{text}"))
    }

    #[test]
    fn the_least_there_can_be_gets_the_defaults() {
        let config = Config::parse(LEAST, Keys::load).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!((config.protection, config.kernel_tls), (Protection::Confidentiality, KernelTls::Auto));
        assert_eq!(config.threads, None);
        assert_eq!(config.connect_timeout, Duration::from_secs(10));
        assert_eq!(config.handshake_timeout, Duration::from_secs(10));
        assert_eq!(config.drain, Duration::from_secs(10));
        assert_eq!(config.max_connections, 4096);
        assert_eq!((config.bandwidth, config.memory, &*config.tcp), (None, 256 << 20, &TcpSettings::default()));
        let listener = &config.listeners[0];
        assert_eq!(listener.name, "0");
        assert_eq!((listener.accept_wire, listener.target_wire), (WireKind::Plain, WireKind::Plain));
        assert_eq!(listener.target_proxy_protocol, ProxyVersion::None);
        assert!(!listener.accept_proxy_protocol && listener.sources.is_none());
    }

    #[test]
    fn everything_that_can_be_set_is_read() {
        let text = "threads = 2\nconnect_timeout_ms = 1\nhandshake_timeout_ms = 2\ndrain_seconds = 0\n\
            max_connections = 3\nbandwidth = 125000\nmemory_mib = 7\nprotection = \"none\"\nkernel_tls = \"on\"\n[[listener]]\nname = \"a-1\"\naccept = \"/run/a\"\n\
            accept_proxy_protocol = true\ntarget = \"[::1]:5\"\ntarget_proxy_protocol = \"v2\"\n\
            sources = [\"198.51.100.0/24\", \"2001:db8::/32\", \"192.0.2.7\"]\n[tcp]\nnodelay = false\n\
            keepalive_seconds = 0\nsend_buffer = 65536\nreceive_buffer = 131072\ncongestion = \"reno\"\n";
        let config = Config::parse(text, Keys::load).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(config.threads.map(NonZeroUsize::get), Some(2));
        assert_eq!(config.drain, Duration::ZERO);
        assert_eq!((config.protection, config.kernel_tls), (Protection::None, KernelTls::On));
        assert_eq!((config.bandwidth.map(NonZeroU64::get), config.memory), (Some(125_000), 7 << 20));
        let tcp = TcpSettings {
            nodelay: false,
            keepalive: None,
            send_buffer: Some(65_536),
            receive_buffer: Some(131_072),
            congestion: Some("reno".to_owned()),
        };
        assert_eq!(*config.tcp, tcp);
        let listener = &config.listeners[0];
        assert_eq!(listener.accept, Address::Unix("/run/a".into()));
        assert_eq!(listener.target_proxy_protocol, ProxyVersion::V2);
        let sources: Vec<String> = listener.sources.iter().flatten().map(ToString::to_string).collect();
        assert_eq!(sources, ["198.51.100.0/24", "2001:db8::/32", "192.0.2.7/32"]);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = "connect_timeout_ms = 0\nthreads = 0\nmax_connections = 0\n[psk]\nidentity = \"a b\"\nfile = \"psk\"\n\
            [[listener]]\naccept = \"here:1\"\ntarget = \"10.0.0.9\"\nname = \"a\\nb\"\nsources = [\"x\", \"y\"]\n\
            [[listener]]\naccept = \"127.0.0.1:1\"\ntarget = \"/run/a\"\nsources = []\n\
            [[listener]]\naccept = \"127.0.0.1:1\"\ntarget = \"/run/a\"\nname = \"1\"\n";
        let found = faults(text);
        let expected = [
            "connect_timeout_ms",
            "max_connections",
            "threads",
            "psk.identity",
            "psk.file",
            "listener[0].name",
            "listener[0].accept",
            "listener[0].target",
            "listener[0].sources",
            "listener[0].sources",
            "listener[1].sources",
            "listener[2].name: another",
            "listener[2].accept: another",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (fault, expected) in found.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault:?} is not about {expected}");
        }
    }

    #[test]
    fn refuses_each_of_these() {
        let psk_side = LEAST.replace("target =", "target_wire = \"psk\"\ntarget =");
        let table = [
            ("", "at least one"),
            ("colour = 1\n", "line 1: unknown field `colour`"),
            (&format!("{LEAST}acept_wire = \"psk\"\n"), "line 4: unknown field `acept_wire`"),
            (&format!("protection = \"some\"\n{LEAST}"), "unknown variant `some`"),
            (&format!("{LEAST}accept_wire = \"tls\"\n"), "unknown variant `tls`"),
            (&format!("{LEAST}target_proxy_protocol = \"v3\"\n"), "unknown variant `v3`"),
            (&psk_side, "psk: this table is needed"),
            (&format!("threads = -1\n{LEAST}"), "line 1"),
            (&format!("bandwidth = 0\n{LEAST}"), "bandwidth: is 0"),
            (&format!("memory_mib = 0\n{LEAST}"), "memory_mib: is 0"),
            (&format!("{LEAST}[tcp]\nkeepalive_seconds = 40000\n"), "tcp.keepalive_seconds: is 40000"),
            (&format!("{LEAST}[tcp]\nsend_buffer = 1\n"), "tcp.send_buffer: is 1"),
            (&format!("{LEAST}[tcp]\ncongestion = \"slowest\"\n"), "tcp.congestion: the kernel refused \"slowest\""),
            (&format!("{LEAST}[tcp]\ncongestion = \"a b\"\n"), "tcp.congestion: expected a name"),
            (&format!("{LEAST}{LEAST}"), "another listener has 127.0.0.1:5100"),
            (&LEAST.replace("127.0.0.1:5100", "/run/a\"\nsources = [\"::/0\"]#"), "a unix socket knows no source"),
            (
                &format!("{LEAST}[psk]\nidentity = \"a\"\nfile = \"/nowhere/psk\"\n"),
                "psk.file \"/nowhere/psk\": No such",
            ),
            ("[[listener]]\n", "missing field `accept`"),
            ("= =", "line 1"),
        ];
        for (text, expected) in table {
            let found = faults(text).join("; ");
            assert!(found.contains(expected), "{text:?} gave {found:?}, not {expected:?}");
            assert!(!found.contains('\n'), "{found:?} has several lines");
        }
    }
}
