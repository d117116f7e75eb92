//! Every setting of s2cs, and the file that shows them all.

use std::fmt::Write as _;

use super::comments::{Field, fields};
use super::format::{comment, sentence};

const SETTINGS: &str = include_str!("../../src/config/settings.rs");
const PROVIDER: &str = include_str!("../../src/auth/provider.rs");
const RULE: &str = include_str!("../../src/policy/rule.rs");

/// What a gateway has that is installed from a package, and why.
const CHOSEN: [(&str, &str, &str); 6] = [
    (
        "listener_ip",
        "\"0.0.0.0\"",
        "This stands for a choice to be made: write the gateway's address, or wan_ip and lan_ip below. s2cs does not \
         start before, nor without a certificate and a word on who may use it",
    ),
    ("server_crt", "\"/etc/scistream/server.crt\"", ""),
    ("server_key", "\"/etc/scistream/server.key\"", "The user scistream must be able to read it"),
    ("state_dir", "\"/var/lib/scistream\"", ""),
    ("audit_log", "\"/var/log/scistream/audit.log\"", "/etc/logrotate.d/scistream rotates it"),
    ("keep_sessions_on_exit", "true", "So streams go on when the package is upgraded and s2cs starts anew"),
];

/// What is shown where a default is no value that could be written down.
const EXAMPLES: &[(&str, &str)] = &[
    ("listen", "\"192.0.2.1:5000\""),
    ("wan_ip", "\"192.0.2.1\""),
    ("lan_ip", "\"10.0.0.1\""),
    ("wan_sources", "[\"198.51.100.0/24\"]"),
    ("lan_sources", "[\"10.0.0.0/8\"]"),
    ("advertise_ip", "\"203.0.113.7\""),
    ("firewall", "\"/run/scistream/s2fw.sock\""),
    ("session_units", "\"/run/scistream/session.sock\""),
    ("client_ca", "\"/etc/scistream/clients.crt\""),
    ("site_networks", "[\"10.0.0.0/8\"]"),
    ("audit_log", "\"/var/log/scistream/audit.log\""),
    ("max_bandwidth", "50000"),
    ("gateway_bandwidth", "1000000"),
    ("memory_mib", "256"),
    ("max_lifetime", "604800"),
    ("max_idle", "86400"),
    ("tcp.nodelay", "true"),
    ("tcp.keepalive_seconds", "60"),
    ("tcp.send_buffer", "4194304"),
    ("tcp.receive_buffer", "4194304"),
    ("tcp.congestion", "\"cubic\""),
    ("tcp.max_buffer", "67108864"),
    ("tcp.congestions", "[\"cubic\", \"reno\"]"),
    ("provider.name", "\"facility\""),
    ("provider.kind", "\"introspection\""),
    ("provider.issuer", "\"https://login.facility.example\""),
    ("provider.introspection_endpoint", "\"https://login.facility.example/introspect\""),
    ("provider.jwks_uri", "\"https://login.facility.example/keys\""),
    ("provider.client_id", "\"gateway\""),
    ("provider.client_secret_file", "\"/etc/scistream/secret\""),
    ("provider.audience", "[\"https://gateway.facility.example\"]"),
    ("provider.scopes", "[\"scistream\"]"),
    ("provider.subject_claim", "\"sub\""),
    ("provider.name_claims", "[\"username\"]"),
    ("provider.groups_claim", "\"groups\""),
    ("provider.strict_type", "true"),
    ("provider.ca_file", "\"/etc/scistream/authorities.crt\""),
    ("provider.login_client_id", "\"s2uc\""),
    ("provider.login_scopes", "[\"scistream\"]"),
    ("provider.login_resource", "\"https://gateway.facility.example\""),
    ("allow.name", "\"beamline 7\""),
    ("allow.who", "[\"user:alice@facility.example\", \"group:beamline-7\"]"),
    ("allow.provider", "\"facility\""),
    ("allow.roles", "[\"PROD\", \"CONS\"]"),
    ("allow.targets", "[\"10.7.0.0/16:5000-5999\"]"),
    ("allow.remotes", "[\"198.51.100.0/24\"]"),
    ("allow.sources", "[\"198.51.100.0/24\"]"),
    ("allow.backends", "[\"haproxy\"]"),
    ("allow.protections", "[\"integrity\"]"),
    ("allow.max_sessions", "10"),
    ("allow.max_connections", "16"),
    ("allow.max_lifetime", "86400"),
    ("allow.max_bandwidth", "20000"),
    ("allow.weight", "3"),
    ("allow.hello_for", "[\"group:beamline-7\"]"),
    ("allow.operator", "false"),
];

/// The tables of the file: their names, headings, what they are for, and their fields.
pub const TABLES: [(&str, &str, &str, &str, &str); 3] = [
    (
        "tcp",
        "[tcp]",
        "How the TCP connections of s2ds are set. What is left out is left to s2ds, or may not be chosen by clients",
        SETTINGS,
        "TcpSettings",
    ),
    (
        "provider",
        "[[provider]]",
        "Who knows callers: an OAuth 2.0 server that is asked about tokens, or that signs them; there may be several",
        PROVIDER,
        "ProviderSettings",
    ),
    (
        "allow",
        "[[allow]]",
        "Who may use the gateway, and for what; as many rules as there are kinds of callers. What is left out is bounded by the gateway's own settings alone",
        RULE,
        "RuleSettings",
    ),
];

/// A setting, as people are shown it.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// What it is, in a sentence.
    pub says: String,
    /// What may stand there.
    pub kind: &'static str,
    /// What it is when it is left out, in words; empty where the sentence says so.
    pub otherwise: String,
    /// What the file shows.
    pub shown: Shown,
}

/// What the file shows of a setting.
#[derive(Debug, Clone)]
pub enum Shown {
    /// Its default.
    Default(String),
    /// Something that might stand there.
    Example(String),
}

/// The settings outside tables.
pub fn top_level() -> Vec<Setting> {
    let all = fields(SETTINGS, "Settings");
    let keys: Vec<_> = all.iter().map(|field| field.name.clone()).collect();
    let plain = all.into_iter().filter(|field| TABLES.iter().all(|(name, ..)| field.name != *name));
    plain.map(|field| setting(field, "", &keys)).collect()
}

/// The settings of a table.
pub fn of_table(name: &str, source: &str, of: &str) -> Vec<Setting> {
    fields(source, of).into_iter().map(|field| setting(field, &format!("{name}."), &[])).collect()
}

fn setting(field: Field, table: &str, keys: &[String]) -> Setting {
    let (says, default) = match field.says.split_once(" [default: ") {
        Some((says, default)) => (says.to_owned(), default.trim_end_matches(']').to_owned()),
        None => (field.says, String::new()),
    };
    let id = format!("{table}{}", field.name);
    let example = EXAMPLES.iter().find(|(key, _)| *key == id).map(|(_, example)| (*example).to_owned());
    let shown = match (example, field.kind) {
        (Some(example), _) => Shown::Example(example),
        (None, "true or false") => {
            Shown::Default(if default.is_empty() { "false".into() } else { default.to_lowercase() })
        }
        (None, "number") => Shown::Default(default.clone()),
        (None, _) => {
            assert!(!default.is_empty(), "{id} has no default that could be shown; give it an example");
            Shown::Default(format!("{default:?}"))
        }
    };
    let says = in_words_of_the_file(&says, keys);
    Setting { key: field.name, says, kind: field.kind, otherwise: in_words_of_the_file(&default, keys), shown }
}

/// Flags are keys here.
fn in_words_of_the_file(text: &str, keys: &[String]) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word.trim_start_matches("--");
        let end = bare.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(bare.len());
        let key = bare[..end].replace('-', "_");
        if word.starts_with("--") && keys.contains(&key) { format!("{key}{}", &bare[end..]) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The file, as the packages have it.
pub fn sample() -> String {
    let mut out = String::from(
        "# The configuration of s2cs, the control server of a SciStream gateway; s2cs.toml(5) has the same.\n\
         # A line like #name = value is the default, or an example where there is no such value.\n\
         # s2cs check --config /etc/scistream/s2cs.toml tells all that is wrong, or still missing.\n",
    );
    for setting in top_level() {
        out.push('\n');
        let chosen = CHOSEN.iter().find(|(key, ..)| *key == setting.key);
        let default = match (&setting.shown, chosen) {
            (Shown::Default(_), None) => String::new(),
            _ if setting.otherwise.is_empty() => String::new(),
            _ => format!(" Default: {}.", setting.otherwise),
        };
        out.push_str(&comment(&format!("{}{default}", sentence(&setting.says))));
        let line = match (chosen, &setting.shown) {
            (Some((key, value, why)), _) => {
                if !why.is_empty() {
                    out.push_str(&comment(&sentence(why)));
                }
                format!("{key} = {value}")
            }
            (None, Shown::Default(value) | Shown::Example(value)) => format!("#{} = {value}", setting.key),
        };
        writeln!(out, "{line}").expect("strings take all");
    }
    for (name, heading, about, source, of) in TABLES {
        write!(out, "\n\n{}#{heading}\n", comment(&sentence(about))).expect("strings take all");
        for Setting { key, says, shown: Shown::Default(value) | Shown::Example(value), .. } in
            of_table(name, source, of)
        {
            write!(out, "\n{}#{key} = {value}\n", comment(&sentence(&says))).expect("strings take all");
        }
    }
    out
}
