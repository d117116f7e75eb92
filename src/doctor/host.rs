//! The host: what it grants, and what its guards let through.

use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::process::Command;
use tokio::time::timeout;

use super::Finding;
use crate::config::Config;
use crate::supervisor::kernel_has_landlock;

/// For what is asked of the host's own tools.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection has two sockets in its proxy, and may have two pipes.
const DESCRIPTORS_PER_CONNECTION: u64 = 6;

/// Everything about the host.
pub(super) async fn look_at(config: &Config) -> Vec<Finding> {
    let mut found = vec![descriptors(config), landlock(), kernel_tls()];
    found.extend(selinux());
    found.extend(firewall(config).await);
    found
}

fn descriptors(config: &Config) -> Finding {
    const ABOUT: &str = "descriptors";
    let needed = DESCRIPTORS_PER_CONNECTION * u64::from(config.connections_per_process);
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= needed => {
            Finding::good(ABOUT, format!("a process started here may open {hard} (ulimit -Hn)"))
        }
        Ok((_, hard)) => {
            let connections = config.connections_per_process;
            let said = format!("a process started here may open {hard}, and {connections} connections need {needed}");
            Finding::note(
                ABOUT,
                said,
                "LimitNOFILE=524288 in the unit (ours has it), ulimit -Hn, or a lower max_connections",
            )
        }
        Err(e) => Finding::bad(ABOUT, format!("their limit cannot be read: {e}"), "look at /proc/self/limits"),
    }
}

fn landlock() -> Finding {
    const ABOUT: &str = "Landlock";
    if kernel_has_landlock() {
        Finding::good(ABOUT, "the kernel has it: proxies read their own session's folder alone")
    } else {
        let remedy =
            "proxies run without that box; Linux 5.13 and later have it, with landlock among what lsm= names at boot";
        Finding::note(ABOUT, "this kernel has none", remedy)
    }
}

fn kernel_tls() -> Finding {
    const ABOUT: &str = "kernel TLS";
    let protocols = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    if protocols.split_whitespace().any(|protocol| protocol == "tls") {
        return Finding::good(
            ABOUT,
            "the kernel has it; s2ds uses it where OpenSSL gives it both directions (kernel_tls)",
        );
    }
    Finding::note(ABOUT, "the kernel has none loaded", "not needed: s2ds does TLS by itself; modprobe tls loads it")
}

fn selinux() -> Option<Finding> {
    const ABOUT: &str = "SELinux";
    let enforcing = fs::read_to_string("/sys/fs/selinux/enforce").ok()?.trim() == "1";
    Some(if enforcing {
        let remedy = "should a proxy be kept from a port or a target: ausearch -m avc -ts recent; semanage port -a -t \
                      http_port_t -p tcp 5100-5200 and setsebool -P haproxy_connect_any 1 let confined ones through";
        Finding::note(ABOUT, "it enforces its policy", remedy)
    } else {
        Finding::good(ABOUT, "it enforces nothing")
    })
}

async fn firewall(config: &Config) -> Vec<Finding> {
    const ABOUT: &str = "firewall";
    if let Some(helper) = &config.firewall {
        return vec![match helper.probe() {
            Ok(()) => Finding::good(ABOUT, "s2fw answers, and opens it for each session"),
            Err(e) => {
                let said = format!("s2fw does not answer: {e}");
                Finding::bad(ABOUT, said, "systemctl status s2fw; without it new sessions are refused")
            }
        }];
    }
    let (first, last) = (config.port_range.start(), config.port_range.end());
    if said(&["firewall-cmd", "--state"]).await.is_some_and(|output| output.status.success()) {
        let port = config.listen.port();
        let remedy = format!(
            "unless it is open already: firewall-cmd --permanent --add-port={port}/tcp --add-port={first}-{last}/tcp && \
             firewall-cmd --reload; or let s2fw --firewalld open it for each session alone"
        );
        return vec![Finding::note(ABOUT, "firewalld runs, and s2cs leaves it alone", remedy)];
    }
    let rules = said(&["nft", "list", "ruleset"]).await.filter(|output| output.status.success());
    let rules = rules.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let drops = rules.lines().any(|line| line.contains("hook input") && line.contains("policy drop"));
    if drops {
        let remedy = format!("unless {first}-{last} are open already: s2fw --print-ruleset shows what to add for s2fw");
        return vec![Finding::note(
            ABOUT,
            "nftables drops what it is not told to let in, and s2cs leaves it alone",
            remedy,
        )];
    }
    vec![Finding::good(ABOUT, "nothing on this host seems to drop connections (as far as we may look)")]
}

/// What a tool of the host's says, if it is there and answers.
async fn said(words: &[&str]) -> Option<Output> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.ok()?.ok()
}
