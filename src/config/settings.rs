//! The settings as they are written: in flags, and in the file.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::auth::ProviderSettings;
use crate::policy::RuleSettings;
use crate::shown::{in_one_line, toml_fault};

/// Every setting of s2cs, unchecked. One struct for the command line and for the
/// file, so that neither knows one that the other does not.
#[derive(Debug, Clone, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A TOML file with these same settings, underscores for dashes; flags win
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address of this gateway, where others of this list are not given [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub listener_ip: Option<String>,
    /// Port of the control server [default: 5000]
    #[arg(long, value_name = "N")]
    pub port: Option<u32>,
    /// Where the control server listens [default: --listener-ip and --port]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Where PROD sessions listen for the other gateway [default: --listener-ip]
    #[arg(long, value_name = "IP")]
    pub wan_ip: Option<String>,
    /// Where CONS sessions listen for the facility's own applications [default: --listener-ip]
    #[arg(long, value_name = "IP")]
    pub lan_ip: Option<String>,
    /// Networks that may connect to PROD sessions, comma-separated (a list in the file); a client may
    /// ask for a part of them [default: everyone]
    #[arg(long, value_name = "NET,NET…", value_delimiter = ',')]
    pub wan_sources: Option<Vec<String>>,
    /// Networks that may connect to CONS sessions, in the same way [default: everyone]
    #[arg(long, value_name = "NET,NET…", value_delimiter = ',')]
    pub lan_sources: Option<Vec<String>>,
    /// What peers are told instead of --wan-ip, behind NAT or in a container
    #[arg(long, value_name = "IP")]
    pub advertise_ip: Option<String>,
    /// Ports for listeners, both ends included [default: 5100-5200]
    #[arg(long, value_name = "A-B")]
    pub port_range: Option<String>,
    /// What carries the bytes: native, stunnel, haproxy, nginx, or one of the site's [default: native]
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// What ends the tunnel for a backend without PSK: native or stunnel [default: native]
    #[arg(long, value_name = "NAME")]
    pub terminator: Option<String>,
    /// The floor of the tunnel's protection: confidentiality, integrity (also what deployed
    /// stunnel peers speak: authenticated, not encrypted) or none [default: confidentiality]
    #[arg(long, value_name = "FLOOR")]
    pub protection: Option<String>,
    /// Box proxies in with Landlock: auto (where the kernel has it), required (start nowhere else)
    /// or off [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub sandbox: Option<String>,
    /// Have systemd run each proxy in a unit of its own, scistream-session@…, with its own limits: the
    /// socket of scistream-session.socket [default: proxies are processes of s2cs]
    #[arg(long, value_name = "SOCKET")]
    pub session_units: Option<PathBuf>,
    /// Have the helper s2fw, which listens on this socket, open the host's firewall for each
    /// session's listeners, from its sources, while it lives [default: the firewall is left alone]
    #[arg(long, value_name = "SOCKET")]
    pub firewall: Option<PathBuf>,
    /// Where sessions keep their keys, configurations and logs
    /// [default: what systemd has made for it, /var/lib/scistream for root, else ~/.local/state/scistream]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where a site puts backends/ and templates/ of its own [default: /etc/scistream]
    #[arg(long, value_name = "DIR")]
    pub site_dir: Option<PathBuf>,
    /// Certificate of the control server, PEM; a bare name may be a credential of systemd's
    /// [default: server.crt]
    #[arg(long, value_name = "FILE")]
    pub server_crt: Option<PathBuf>,
    /// Its private key, PEM, in the same way [default: server.key]
    #[arg(long, value_name = "FILE")]
    pub server_key: Option<PathBuf>,
    /// TLS on the control channel; False only on loopback or with --insecure [default: True]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub ssl: Option<bool>,
    /// Allow a plain control channel beyond loopback: UIDs, which are keys, go over it readable
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL")]
    pub insecure: Option<bool>,
    /// Certificates of authorities whose clients may prove with a certificate who they are, PEM
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// Who may use the gateway: anyone, user:NAME@DOMAIN, domain:DOMAIN, group:NAME, identity:ID or
    /// claim:NAME=VALUE; several separated by commas. `[[allow]]` rules in the file say more
    #[arg(long, value_name = "WHO", value_delimiter = ',', value_parser = RuleSettings::for_whom)]
    pub allow: Option<Vec<RuleSettings>>,
    /// Providers that know callers, `[[provider]]` in the file
    #[arg(skip)]
    pub provider: Option<Vec<ProviderSettings>>,
    /// The site's own networks, where PROD sessions may forward to unless a rule says other ones
    /// [default: private addresses]
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub site_networks: Option<Vec<String>>,
    /// Where to write down who asked for what and what became of it, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// What to do about UIDs that are weak as keys, such as those of deployed clients: accept
    /// (and show it) or refuse [default: accept]
    #[arg(long, value_name = "WHAT")]
    pub weak_keys: Option<String>,
    /// Calls a second that one caller may make, in bursts ten times as many [default: 50]
    #[arg(long, value_name = "N")]
    pub max_calls: Option<u32>,
    /// Calls a second that may come from one address [default: 1000]
    #[arg(long, value_name = "N")]
    pub max_calls_from_address: Option<u32>,
    /// Bad tokens a minute that may come from one address [default: 20]
    #[arg(long, value_name = "N")]
    pub max_bad_tokens: Option<u32>,
    /// REQs of one caller that may wait for their HELLO at once [default: 200]
    #[arg(long, value_name = "N")]
    pub max_waiting: Option<usize>,
    /// Serve whoever can connect, beyond loopback too
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL")]
    pub no_auth: Option<bool>,
    /// Seconds that REQ waits for HELLO, and HELLO for REQ [default: 180]
    #[arg(long, value_name = "SECONDS")]
    pub hello_timeout: Option<f64>,
    /// Seconds that a session waits for its first UPDATE [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    pub update_timeout: Option<f64>,
    /// Sessions at once [default: 1000]
    #[arg(long, value_name = "N")]
    pub max_sessions: Option<usize>,
    /// Listeners that one session may ask for [default: 64]
    #[arg(long, value_name = "N")]
    pub max_listeners: Option<u16>,
    /// Keep sessions to the rate that their clients send (--rate of s2uc; deployed clients send
    /// 10000 kB/s without meaning it) [default: False]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL")]
    pub enforce_rate: Option<bool>,
    /// What a session may move at most, in kB/s, all connections and both directions together
    /// [default: unlimited]
    #[arg(long, value_name = "KBPS")]
    pub max_bandwidth: Option<u32>,
    /// What all sessions may move together, in kB/s; they share it by the weights of their rules
    /// [default: unlimited]
    #[arg(long, value_name = "KBPS")]
    pub gateway_bandwidth: Option<u32>,
    /// What the buffers of a session's connections may take together, in MiB, with s2ds [default: its own]
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u32>,
    /// How the TCP connections of s2ds are set, `[tcp]` in the file
    #[arg(skip)]
    pub tcp: Option<TcpSettings>,
    /// Connections that one session may hold open [default: 4096]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<u32>,
    /// Take no sessions when the host has less memory available than this, in MiB [default: 64]
    #[arg(long, value_name = "MIB")]
    pub least_free_memory: Option<u32>,
    /// Seconds that open connections may go on after a release [default: 1]
    #[arg(long, value_name = "SECONDS")]
    pub drain_grace: Option<f64>,
    /// The longest lifetime of a session, in seconds [default: unlimited]
    #[arg(long, value_name = "SECONDS")]
    pub max_lifetime: Option<f64>,
    /// Release sessions through which no byte has moved for this many seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    pub max_idle: Option<f64>,
    /// Leave sessions running at SIGTERM, for the next start to go on with; SIGINT releases them always
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL")]
    pub keep_sessions_on_exit: Option<bool>,
    /// The deployed release's name of --backend: StunnelSubprocess, HaproxySubprocess, Haproxy,
    /// Nginx, Stunnel, S2DS
    #[arg(long, value_name = "NAME")]
    #[serde(skip)]
    pub r#type: Option<String>,
    /// Have Globus know callers: the client id of this gateway there
    #[arg(long, value_name = "ID")]
    #[serde(skip)]
    pub client_id: Option<String>,
    /// The file with the secret that goes with --client-id
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub client_secret_file: Option<PathBuf>,
    /// The same in the deployed release's way, which everybody on the host can read
    #[arg(long, value_name = "SECRET", hide = true)]
    #[serde(skip)]
    pub client_secret: Option<String>,
}

/// `[tcp]` in the file. What is not given is left to s2ds, or may not be chosen by clients.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpSettings {
    /// Whether small pieces are sent at once.
    pub nodelay: Option<bool>,
    /// After how many seconds of silence the peer is asked whether it lives; 0: never.
    pub keepalive_seconds: Option<u32>,
    /// Bytes that may be under way.
    pub send_buffer: Option<u32>,
    /// Bytes that may come in unread.
    pub receive_buffer: Option<u32>,
    /// Who decides how fast to send: cubic, bbr …
    pub congestion: Option<String>,
    /// The largest buffers that a client may ask for.
    pub max_buffer: Option<u32>,
    /// The congestion controls that a client may ask for.
    #[serde(default)]
    pub congestions: Vec<String>,
}

/// Booleans as people write them, Python's among them.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("write True or False".into()),
    }
}

macro_rules! first_of {
    ($flags:ident, $file:ident: $($field:ident)*) => {
        Self { $($field: $flags.$field.or($file.$field),)* }
    };
}

impl Settings {
    /// These settings, and where they say nothing, those of a file.
    #[must_use]
    pub fn over(self, file: Self) -> Self {
        let flags = self;
        first_of!(flags, file: config listener_ip port listen wan_ip lan_ip wan_sources lan_sources advertise_ip
            port_range backend terminator protection sandbox session_units firewall state_dir site_dir server_crt server_key ssl insecure no_auth hello_timeout
            update_timeout max_sessions max_listeners max_connections enforce_rate max_bandwidth gateway_bandwidth memory_mib tcp least_free_memory drain_grace max_lifetime max_idle
            keep_sessions_on_exit r#type client_id client_secret client_secret_file client_ca allow provider
            site_networks audit_log weak_keys max_calls max_calls_from_address max_bad_tokens max_waiting)
    }

    /// What the flags say, over the file that they name, and the faults of that.
    pub(super) fn gathered(flags: Self) -> (Self, Vec<String>) {
        let mut faults = Vec::new();
        let file = flags.config.as_deref().map(|path| Self::from_file(path, &mut faults)).unwrap_or_default();
        (flags.over(file), faults)
    }

    /// Reads a file.
    pub(super) fn from_file(path: &Path, faults: &mut Vec<String>) -> Self {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text, faults),
            Err(e) => {
                faults.push(format!("{name} cannot be read: {e}"));
                Self::default()
            }
        }
    }

    /// Understands the text of the file `name`. Pushes a fault for each key that is wrong.
    #[must_use]
    pub fn parse(name: &str, text: &str, faults: &mut Vec<String>) -> Self {
        let table: toml::Table = match toml::from_str(text) {
            Ok(table) => table,
            Err(e) => {
                faults.push(format!("{name} is not TOML: {}", toml_fault(text, &e)));
                return Self::default();
            }
        };
        // Key by key, so that each one that is wrong gets its own line.
        let mut all = Self::default();
        for (key, value) in table {
            let one = toml::Table::from_iter([(key.clone(), value)]);
            match one.try_into::<Self>() {
                Ok(one) => all = one.over(all),
                Err(e) => faults.push(in_one_line(&format!("{name}: {key}: {}", e.message())).into_owned()),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_file_is_found_and_a_flag_wins() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s2cs.toml");
        fs::write(&path, "port = \"x\"\nbakend = \"native\"\nlan_ip = \"10.0.0.1\"\nwan_ip = \"10.0.0.2\"\n")
            .expect("written");
        let mut faults = Vec::new();
        let file = Settings::from_file(&path, &mut faults);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults.iter().any(|f| f.contains("bakend")) && faults.iter().any(|f| f.contains("port")));
        let flags = Settings { lan_ip: Some("10.9.9.9".into()), ..Settings::default() };
        let both = flags.over(file);
        assert_eq!(both.lan_ip.as_deref(), Some("10.9.9.9"));
        assert_eq!(both.wan_ip.as_deref(), Some("10.0.0.2"));
    }

    #[test]
    fn booleans_of_every_custom() {
        assert_eq!(boolean("False"), Ok(false));
        assert_eq!(boolean("true"), Ok(true));
        assert!(boolean("maybe").is_err());
    }
}
