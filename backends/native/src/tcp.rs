//! How the TCP sockets of a session are set up.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{SetSockOpt, setsockopt, sockopt};
use serde::Deserialize;
use tokio::net::TcpSocket;

use crate::pacing;
use crate::range::within;

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// What every TCP socket gets; the defaults suit streams that may be small, and
/// may be silent for days (tcp(7), socket(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSettings {
    /// Whether small messages leave at once.
    pub nodelay: bool,
    /// After how long a silence a peer is asked whether it lives; `None` never asks.
    pub keepalive: Option<Duration>,
    /// Bytes; `None` leaves it to the kernel, which grows it with the path.
    pub send_buffer: Option<usize>,
    /// Bytes; `None` leaves it to the kernel, which grows it with the path.
    pub receive_buffer: Option<usize>,
    /// The congestion control; `None` is the system's, within the host without BBR's timers.
    pub congestion: Option<String>,
}

impl Default for TcpSettings {
    fn default() -> Self {
        RawTcp::default().into()
    }
}

/// The table of the configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTcp {
    nodelay: bool,
    keepalive_seconds: u64,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
    congestion: Option<String>,
}

impl Default for RawTcp {
    fn default() -> Self {
        Self { nodelay: true, keepalive_seconds: 60, send_buffer: None, receive_buffer: None, congestion: None }
    }
}

impl From<RawTcp> for TcpSettings {
    fn from(raw: RawTcp) -> Self {
        Self {
            nodelay: raw.nodelay,
            keepalive: (raw.keepalive_seconds > 0).then(|| Duration::from_secs(raw.keepalive_seconds)),
            send_buffer: raw.send_buffer,
            receive_buffer: raw.receive_buffer,
            congestion: raw.congestion,
        }
    }
}

impl RawTcp {
    /// Reports every value that cannot be set.
    pub(crate) fn check(&self, faults: &mut Vec<String>) {
        // tcp(7): more than 32767 seconds is refused.
        within("tcp.keepalive_seconds", self.keepalive_seconds, 0, 32_767, faults);
        for (what, bytes) in [("tcp.send_buffer", self.send_buffer), ("tcp.receive_buffer", self.receive_buffer)] {
            if let Some(bytes) = bytes {
                within(what, bytes as u64, 4096, 1 << 30, faults);
            }
        }
        if let Some(name) = &self.congestion {
            // The kernel's names have at most 15 bytes (TCP_CA_NAME_MAX).
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            if !(1..=15).contains(&name.len()) || !name.bytes().all(plain) {
                faults.push(format!("tcp.congestion: expected a name such as \"bbr\", found {name:?}"));
            } else if let Err(error) = try_congestion(name) {
                faults.push(format!(
                    "tcp.congestion: the kernel refused {name:?} ({error}); \
                     those that it has are in /proc/sys/net/ipv4/tcp_available_congestion_control"
                ));
            }
        }
    }
}

fn try_congestion(name: &str) -> io::Result<()> {
    set(&TcpSocket::new_v4()?, sockopt::TcpCongestion, &name.into())
}

impl TcpSettings {
    /// Sets up a socket that is connected, or about to connect.
    ///
    /// # Errors
    /// When the peer has already gone, or the kernel does not have the congestion control.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        if self.nodelay {
            set(socket, sockopt::TcpNoDelay, &true)?;
        }
        if let Some(idle) = self.keepalive {
            set(socket, sockopt::KeepAlive, &true)?;
            set(socket, sockopt::TcpKeepIdle, &seconds(idle))?;
            set(socket, sockopt::TcpKeepInterval, &seconds(KEEPALIVE_INTERVAL))?;
            set(socket, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
        }
        if let Some(bytes) = &self.send_buffer {
            set(socket, sockopt::SndBuf, bytes)?;
        }
        if let Some(bytes) = &self.receive_buffer {
            set(socket, sockopt::RcvBuf, bytes)?;
        }
        if let Some(name) = &self.congestion {
            set(socket, sockopt::TcpCongestion, &name.into())?;
        }
        Ok(())
    }

    /// Sets up a socket that is about to connect, see [`Self::apply`].
    ///
    /// # Errors
    /// As above.
    pub fn apply_before_connecting(&self, socket: &impl AsFd, target: IpAddr) -> io::Result<()> {
        self.apply(socket)?;
        if self.congestion.is_none() {
            pacing::before_connecting(socket, target);
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn set<O: SetSockOpt>(socket: &impl AsFd, option: O, value: &O::Val) -> io::Result<()> {
    Ok(setsockopt(socket, option, value)?)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[tokio::test]
    async fn what_is_set_is_what_the_kernel_has() {
        let settings = TcpSettings {
            nodelay: false,
            keepalive: Some(Duration::from_secs(7)),
            send_buffer: Some(65_536),
            receive_buffer: Some(131_072),
            congestion: Some("reno".to_owned()),
        };
        let socket = TcpSocket::new_v4().expect("a socket");
        settings.apply(&socket).expect("set up");
        assert!(!getsockopt(&socket, sockopt::TcpNoDelay).expect("TCP_NODELAY"));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle).expect("idle"), 7);
        // socket(7): the kernel doubles both, for its own books.
        assert_eq!(getsockopt(&socket, sockopt::SndBuf).expect("SO_SNDBUF"), 2 * 65_536);
        assert_eq!(getsockopt(&socket, sockopt::RcvBuf).expect("SO_RCVBUF"), 2 * 131_072);
        let congestion = getsockopt(&socket, sockopt::TcpCongestion).expect("TCP_CONGESTION");
        assert_eq!(congestion.to_string_lossy().trim_end_matches('\0'), "reno");
    }

    #[tokio::test]
    async fn what_is_asked_for_holds_within_the_host_too() {
        let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
        for name in known.expect("their names").split_whitespace() {
            let asked = TcpSettings { congestion: Some(name.to_owned()), ..TcpSettings::default() };
            let socket = TcpSocket::new_v4().expect("a socket");
            asked.apply_before_connecting(&socket, "127.0.0.1".parse().expect("an address")).expect("set up");
            let congestion = getsockopt(&socket, sockopt::TcpCongestion).expect("TCP_CONGESTION");
            assert_eq!(congestion.to_string_lossy().trim_end_matches('\0'), name);
        }
    }

    #[tokio::test]
    async fn silent_peers_are_left_alone_where_that_is_wanted() {
        let socket = TcpSocket::new_v4().expect("a socket");
        TcpSettings { keepalive: None, ..TcpSettings::default() }.apply(&socket).expect("set up");
        assert!(!getsockopt(&socket, sockopt::KeepAlive).expect("SO_KEEPALIVE"));
    }
}
