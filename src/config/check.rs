//! From settings as they are written to a [`Config`] that cannot be wrong.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::programs::{self, Programs};
use super::values::{
    at_least_a_second, at_least_one, parsed, port, port_range, protection, seconds, sources, weak_keys,
};
use super::{Config, Settings, TlsFiles, access, amounts, deployed};
use crate::credentials;
use crate::engine;
use crate::firewall::Firewall;
use crate::policy::{Ground, SourcePolicy};
use crate::supervisor::SessionUnits;

/// A unix socket's path has at most 107 bytes (`unix(7)`); a session adds this much,
/// the control socket less.
const LONGEST_STATE_DIR: usize = 107 - "/sessions/0123456789ab-prod/999.sock".len();
/// Pushes a fault for each thing that is wrong; without any, there is a config.
pub(super) fn check(mut settings: Settings, faults: &mut Vec<String>) -> Option<Config> {
    let mut notes = Vec::new();
    let backend_name = deployed::backend_of_type(&settings, &mut notes, faults)
        .or(settings.backend.clone())
        .unwrap_or_else(|| "native".into());
    let listener_ip =
        parsed("listener_ip", settings.listener_ip.as_deref(), faults).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = port("port", settings.port.unwrap_or(5000), faults);
    let listen = parsed("listen", settings.listen.as_deref(), faults).unwrap_or(SocketAddr::new(listener_ip, port));
    let wan = parsed("wan_ip", settings.wan_ip.as_deref(), faults).unwrap_or(listener_ip);
    let lan = parsed("lan_ip", settings.lan_ip.as_deref(), faults).unwrap_or(listener_ip);
    let sources = SourcePolicy {
        wan: sources("wan_sources", settings.wan_sources.as_deref(), faults),
        lan: sources("lan_sources", settings.lan_sources.as_deref(), faults),
    };
    let advertise = parsed("advertise_ip", settings.advertise_ip.as_deref(), faults);
    check_advertised(wan, lan, advertise, faults);
    let port_range = port_range(settings.port_range.as_deref().unwrap_or("5100-5200"), faults);
    let tls = check_tls(&settings, listen, faults);
    let own = [wan, lan, listen.ip()].into_iter().chain(advertise).filter(|ip| !ip.is_unspecified()).collect();
    let ports = port_range.clone().unwrap_or(1..=1);
    let alone = listen.ip().is_loopback();
    let ground = Ground { alone, inside: vec![], inside_is_said: false, own, ports };
    let access = access::check(&mut settings, listen, ground, &mut notes, faults);
    let amounts = amounts::check(&mut settings, &mut notes, faults);
    let weak_keys = weak_keys(settings.weak_keys.as_deref(), faults);
    let max_waiting = at_least_one("max_waiting", settings.max_waiting.unwrap_or(200), faults);
    let state_dir = check_state_dir(settings.state_dir.clone(), faults);
    let protection = protection(settings.protection.as_deref(), faults);
    let sandbox = programs::sandbox(settings.sandbox.as_deref(), state_dir.as_deref(), &mut notes, faults);
    let session_units = settings.session_units.clone().zip(state_dir.clone());
    let session_units = session_units.map(|(socket, state_dir)| SessionUnits { socket, state_dir });
    let Programs { catalog, backend, terminator, gate } =
        programs::check(&settings, &backend_name, protection, faults)?;
    let hello_timeout = seconds("hello_timeout", settings.hello_timeout.unwrap_or(180.0), faults);
    let update_timeout = seconds("update_timeout", settings.update_timeout.unwrap_or(3600.0), faults);
    let drain_grace = seconds("drain_grace", settings.drain_grace.unwrap_or(1.0), faults);
    let max_lifetime = settings.max_lifetime.map(|most| seconds("max_lifetime", most, faults));
    let max_idle = settings.max_idle.map(|most| at_least_a_second("max_idle", most, faults));
    let max_sessions = at_least_one("max_sessions", settings.max_sessions.unwrap_or(1000), faults);
    let max_listeners = at_least_one("max_listeners", settings.max_listeners.unwrap_or(64), faults);
    let connections_per_process = at_least_one("max_connections", settings.max_connections.unwrap_or(4096), faults);
    Some(Config {
        listen,
        tls,
        advertise,
        port_range: port_range?,
        state_dir: state_dir?,
        catalog,
        backend,
        terminator,
        gate,
        drain_grace,
        connections_per_process,
        memory_mib: amounts.memory_mib,
        tcp: amounts.tcp,
        sandbox,
        session_units,
        firewall: settings.firewall.clone().map(Firewall::new),
        max_listeners,
        providers: access.providers,
        limits: access.limits,
        audit_log: settings.audit_log.clone(),
        keep_sessions_on_exit: settings.keep_sessions_on_exit == Some(true),
        engine: engine::Settings {
            wan,
            lan,
            protection,
            sources,
            bandwidth: amounts.bandwidth,
            tcp: amounts.tcp_policy,
            policy: Arc::new(access.policy),
            weak_keys,
            max_waiting,
            hello_timeout,
            update_timeout,
            max_sessions,
            least_free_memory: u64::from(settings.least_free_memory.unwrap_or(64)) << 20,
            max_lifetime,
            max_idle,
        },
        notes,
    })
}

fn check_advertised(wan: IpAddr, lan: IpAddr, advertise: Option<IpAddr>, faults: &mut Vec<String>) {
    for (name, ip) in [("wan_ip", wan), ("lan_ip", lan)] {
        if ip.is_unspecified() && advertise.is_none() {
            faults.push(format!(
                "{name} {ip} is every address of this host; say with advertise_ip which one others are told"
            ));
        }
    }
    if advertise.is_some_and(|ip| ip.is_unspecified()) {
        faults.push("advertise_ip must be an address that others can connect to".into());
    }
}

fn check_tls(settings: &Settings, listen: SocketAddr, faults: &mut Vec<String>) -> Option<TlsFiles> {
    if settings.ssl == Some(false) {
        if !listen.ip().is_loopback() && settings.insecure != Some(true) {
            faults.push(format!(
                "ssl = false on {listen}: UIDs, which are keys, would go over the network readable; \
                 leave TLS on, listen on loopback, or add insecure"
            ));
        }
        if settings.client_ca.is_some() {
            faults.push("client_ca needs TLS, which ssl = false turns off".into());
        }
        return None;
    }
    let file = |given: &Option<PathBuf>, default: &str| {
        credentials::resolve(given.as_deref().unwrap_or_else(|| Path::new(default)))
    };
    let certificate = file(&settings.server_crt, "server.crt");
    let key = file(&settings.server_key, "server.key");
    let missing: Vec<_> = [&certificate, &key]
        .into_iter()
        .filter(|path| !path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    if !missing.is_empty() {
        faults.push(format!(
            "the control server needs a certificate and its key, and there is no {}; \
             make a pair with: s2cs cert --host NAME --ip IP",
            missing.join(" and no ")
        ));
    }
    Some(TlsFiles { certificate, key, client_ca: settings.client_ca.as_deref().map(credentials::resolve) })
}

pub(super) fn check_state_dir(given: Option<PathBuf>, faults: &mut Vec<String>) -> Option<PathBuf> {
    let Some(path) = given.or_else(default_state_dir) else {
        faults.push("state_dir is not given, and there is no home folder to put it in".into());
        return None;
    };
    let path = std::path::absolute(&path).unwrap_or(path);
    // The path goes into configuration files of several programs, each with its own rules for quoting.
    let plain =
        path.to_str().is_some_and(|text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b)));
    if !plain {
        faults.push(format!("state_dir {} may hold only letters, digits and / . _ - +", path.display()));
    }
    if path.as_os_str().len() > LONGEST_STATE_DIR {
        faults.push(format!(
            "state_dir {} is longer than {LONGEST_STATE_DIR} characters, which leaves no room for unix sockets in it",
            path.display()
        ));
    }
    Some(path)
}

/// Where it is unless it is said.
pub(super) fn default_state_dir() -> Option<PathBuf> {
    // systemd.exec(5): what StateDirectory= has made for us; several are set apart by colons.
    if let Some(made) = std::env::var_os("STATE_DIRECTORY") {
        return std::env::split_paths(&made).next();
    }
    if nix::unistd::geteuid().is_root() {
        return Some("/var/lib/scistream".into());
    }
    std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))
        .map(|base| base.join("scistream"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Protection;

    /// Settings that are right but for what the test changes.
    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings =
            Settings { ssl: Some(false), state_dir: Some("/tmp/scistream-test".into()), ..Settings::default() };
        change(&mut settings);
        settings
    }

    fn faults(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut faults = Vec::new();
        check(settings(change), &mut faults);
        faults
    }

    #[test]
    fn the_defaults_are_those_of_the_deployed_release() {
        let mut faults = Vec::new();
        let config = check(settings(|_| {}), &mut faults).expect("a config");
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(config.listen.to_string(), "127.0.0.1:5000");
        assert_eq!(config.port_range, 5100..=5200);
        assert!(config.engine.policy.is_open() && config.providers.is_empty());
        assert_eq!(config.engine.protection, Protection::Confidentiality);
    }

    #[test]
    fn many_faults_are_one_report() {
        let faults = faults(|s| {
            s.listener_ip = Some("host".into());
            s.port = Some(70000);
            s.port_range = Some("5200-5100".into());
            s.protection = Some("some".into());
            s.backend = Some("mock".into());
            s.state_dir = Some("/tmp/a b".into());
        });
        assert_eq!(faults.len(), 6, "{faults:#?}");
    }

    #[test]
    fn what_is_open_must_be_said() {
        let outside = |s: &mut Settings| s.listener_ip = Some("192.0.2.1".into());
        assert_eq!(faults(outside).len(), 2, "neither TLS nor authentication");
        assert_eq!(
            faults(|s| {
                outside(s);
                s.no_auth = Some(true);
                s.insecure = Some(true);
            }),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_deployed_switches_turn_globus_on_and_nobody_is_let_in_by_chance() {
        let globus = |allow: Option<&str>| {
            let mut faults = Vec::new();
            let settings = settings(|s| {
                s.client_id = Some("x".into());
                s.client_secret = Some("y".into());
                s.allow = allow.map(|who| vec![crate::policy::RuleSettings::for_whom(who).expect("a rule")]);
            });
            (check(settings, &mut faults), faults)
        };
        let (config, good) = globus(Some("domain:facility.example"));
        assert_eq!(good, Vec::<String>::new());
        let config = config.expect("a config");
        assert_eq!(config.providers.names(), ["globus"]);
        assert!(!config.engine.policy.is_open());
        assert_eq!(config.notes.len(), 1, "the secret is in the list of processes");
        assert_eq!(globus(None).1.len(), 1, "no rule");
        assert_eq!(globus(Some("everybody")).1.len(), 1, "no such word");
        assert_eq!(faults(|s| s.client_id = Some("x".into())).len(), 2, "neither a secret nor a rule");
        assert_eq!(faults(|s| s.client_secret = Some("x".into())).len(), 1, "a secret of nobody");
        let rules = |s: &mut Settings| s.allow = Some(vec![crate::policy::RuleSettings::default()]);
        assert_eq!(faults(rules).len(), 1, "rules for callers that nobody knows");
    }

    #[test]
    fn the_longest_state_folder_has_room_for_the_control_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().as_os_str().len() + 1;
        let longest = folder.path().join("x".repeat(LONGEST_STATE_DIR - base));
        std::fs::create_dir(&longest).expect("a folder");
        assert_eq!(check_state_dir(Some(longest.clone()), &mut Vec::new()), Some(longest.clone()));
        crate::store::ControlSocket::bind(&longest).expect("room for it");
    }

    #[test]
    fn deployed_types_are_read_and_said() {
        let mut faults = Vec::new();
        let config = check(settings(|s| s.r#type = Some("StunnelSubprocess".into())), &mut faults).expect("a config");
        assert_eq!(config.backend.name, "stunnel");
        assert_eq!(config.notes.len(), 1);
        assert_eq!(self::faults(|s| s.r#type = Some("Mock".into())).len(), 1);
    }

    #[test]
    fn a_wait_that_goes_beyond_every_clock_is_a_fault() {
        for seconds in [1e19, 1e12, f64::INFINITY, f64::NAN, -1.0] {
            assert_eq!(faults(|s| s.hello_timeout = Some(seconds)).len(), 1, "{seconds}");
            assert!(!faults(|s| s.max_idle = Some(seconds)).is_empty(), "{seconds}");
        }
        assert_eq!(faults(|s| s.max_lifetime = Some(3.0e8)), Vec::<String>::new());
    }

    #[test]
    fn every_address_needs_a_name_for_others() {
        assert_eq!(
            faults(|s| {
                s.wan_ip = Some("0.0.0.0".into());
            })
            .len(),
            1
        );
        assert!(
            faults(|s| {
                s.wan_ip = Some("0.0.0.0".into());
                s.advertise_ip = Some("192.0.2.7".into());
            })
            .is_empty()
        );
    }

    #[test]
    fn sources_are_networks_each_of_which_is_judged() {
        let lists = |s: &mut Settings| {
            s.wan_sources = Some(vec!["198.51.100.0/24".into(), " 2001:db8::/32".into()]);
            s.lan_sources = Some(vec!["10.0.0.1/8".into(), "everyone".into()]);
        };
        let found = faults(lists);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("lan_sources: \"10.0.0.1/8\"") && found[0].contains("write 10.0.0.0/8"));
        let config = check(settings(lists), &mut Vec::new()).expect("a config");
        assert_eq!(config.engine.sources.wan.to_string(), "198.51.100.0/24, 2001:db8::/32");
    }

    #[test]
    fn stunnel_cannot_go_without_tls() {
        let faults = faults(|s| {
            s.backend = Some("stunnel".into());
            s.protection = Some("none".into());
        });
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}
