//! Whether the gateway can have the ports that it is to have.

use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use nix::errno::Errno;

use super::Finding;
use crate::ports::Ports;

const CONTROL: &str = "control port";
const ABOUT: &str = "ports";
/// More are not named.
const NAMED: usize = 8;

/// The port of the control server. `runs`: it answers its operator.
pub(super) fn look_at_control(listen: SocketAddr, runs: bool) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) if runs => {
            let said = format!("s2cs runs, but does not listen on {listen}");
            Finding::note(CONTROL, said, "it was started with other settings; restart it to have these in force")
        }
        Ok(_) => Finding::good(CONTROL, format!("{listen} is free; s2cs does not run with this state folder")),
        Err(e) if e.kind() == ErrorKind::AddrInUse && runs => {
            Finding::good(CONTROL, format!("s2cs runs, and {listen} is taken"))
        }
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            let remedy = format!(
                "ss -ltnp 'sport = :{}' shows by whom; stop it, or set port. If it is s2cs: run this as root or as \
                 its user, with the same state folder",
                listen.port()
            );
            Finding::bad(CONTROL, format!("{listen} is taken, and by no s2cs that answers here"), remedy)
        }
        Err(e) => Finding::bad(CONTROL, format!("{listen}: {e}"), wrong_address(&e, "listener_ip or listen")),
    }
}

/// The ports of sessions at one address; `ours` are those that sessions have.
pub(super) fn look_at_range(
    setting: &'static str,
    ip: IpAddr,
    range: &RangeInclusive<u16>,
    ours: &HashSet<SocketAddr>,
) -> Finding {
    let probe = match TcpListener::bind(SocketAddr::new(ip, 0)) {
        Ok(probe) => probe,
        Err(e) => return Finding::bad(ABOUT, format!("{setting} {ip}: {e}"), wrong_address(&e, setting)),
    };
    drop(probe);
    let all = Ports::new(range.clone());
    let is_taken = |port: &u16| {
        let address = SocketAddr::new(ip, *port);
        !ours.contains(&address) && all.lease_this(address).is_none()
    };
    let taken: BTreeSet<u16> = range.clone().filter(is_taken).collect();
    let (first, last, count) = (range.start(), range.end(), range.len());
    let used = ours.iter().filter(|address| address.ip() == ip).count();
    let about = format!("{setting} {ip}: of {count} ports ({first}-{last}) sessions have {used}");
    if taken.is_empty() {
        return Finding::good(ABOUT, format!("{about}, and the others are free"));
    }
    let named: Vec<String> = taken.iter().take(NAMED).map(u16::to_string).collect();
    let more = if taken.len() > NAMED { ", …" } else { "" };
    let said = format!("{about}, and other programs {} ({}{more})", taken.len(), named.join(", "));
    let remedy = format!(
        "ss -ltnp shows by whom; choose another port_range, above 1023, if {} are too few",
        count - taken.len()
    );
    if taken.len() + used >= count { Finding::bad(ABOUT, said, remedy) } else { Finding::note(ABOUT, said, remedy) }
}

fn wrong_address(e: &std::io::Error, setting: &str) -> String {
    match e.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRNOTAVAIL) => {
            format!("no interface of this host has it; ip address shows which there are, for {setting}")
        }
        Some(Errno::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE; take one above".to_owned(),
        _ => format!("look at {setting}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_others_have_is_named() {
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = held.local_addr().expect("bound");
        let range = address.port()..=address.port();
        let found = look_at_range("wan_ip", address.ip(), &range, &HashSet::new());
        assert_eq!(found.verdict, Verdict::Bad, "{found:?}");
        assert!(found.said.contains(&address.port().to_string()));
        let found = look_at_range("wan_ip", address.ip(), &range, &HashSet::from([address]));
        assert_eq!(found.verdict, Verdict::Good, "{found:?}");
        assert_eq!(look_at_control(address, false).verdict, Verdict::Bad);
        assert_eq!(look_at_control(address, true).verdict, Verdict::Good);
        drop(held);
        assert_eq!(look_at_control(address, false).verdict, Verdict::Good);
        // TEST-NET-1, which nobody has (RFC 5737).
        let nowhere = "192.0.2.77".parse().expect("an address");
        let found = look_at_range("lan_ip", nowhere, &range, &HashSet::new());
        assert_eq!(found.verdict, Verdict::Bad);
        assert!(found.remedy.is_some_and(|remedy| remedy.contains("lan_ip")));
    }
}
