//! The tables of the listeners: where connections come in, who may, and where they go.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::address::Address;

/// One listener and where its connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// For log lines.
    pub name: String,
    /// Where connections come in.
    pub accept: Address,
    /// What they speak.
    pub accept_wire: WireKind,
    /// Whether a PROXY header comes first.
    pub accept_proxy_protocol: bool,
    /// Where connections go.
    pub target: Address,
    /// What the target speaks.
    pub target_wire: WireKind,
    /// The PROXY header that the target gets first.
    pub target_proxy_protocol: ProxyVersion,
    /// Who may connect; `None` is everyone.
    pub sources: Option<Vec<IpNet>>,
}

impl Listener {
    /// Whether connections from there are taken. One whose source is not known is
    /// nobody's that was let in.
    #[must_use]
    pub fn takes(&self, source: Option<IpAddr>) -> bool {
        let Some(sources) = &self.sources else { return true };
        source.is_some_and(|ip| sources.iter().any(|network| network.contains(&ip.to_canonical())))
    }
}

/// What one side of a connection speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireKind {
    /// The application's bytes as they are.
    #[default]
    Plain,
    /// TLS-PSK, down to the floor that `protection` sets.
    Psk,
}

/// Which PROXY header is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// None at all.
    #[default]
    None,
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

/// A table of the configuration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    name: Option<String>,
    accept: String,
    #[serde(default)]
    accept_wire: WireKind,
    #[serde(default)]
    accept_proxy_protocol: bool,
    target: String,
    #[serde(default)]
    target_wire: WireKind,
    #[serde(default)]
    target_proxy_protocol: ProxyVersion,
    sources: Option<Vec<String>>,
}

impl RawListener {
    /// Whether any side needs a key.
    pub(super) fn needs_a_key(&self) -> bool {
        [self.accept_wire, self.target_wire].contains(&WireKind::Psk)
    }
}

/// What the tables say; pushes a fault for each thing that is wrong.
pub(super) fn check_all(raw: &[RawListener], faults: &mut Vec<String>) -> Vec<Listener> {
    if raw.is_empty() {
        faults.push("listener: at least one is needed".to_owned());
    }
    let mut listeners = Vec::new();
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    for (number, raw) in raw.iter().enumerate() {
        let mut found = Vec::new();
        if let Some(listener) = check(raw, number, &mut found) {
            if !names.insert(listener.name.clone()) {
                found.push(format!("name: another listener is called {:?}", listener.name));
            }
            if !addresses.insert(listener.accept.clone()) {
                found.push(format!("accept: another listener has {}", listener.accept));
            }
            listeners.push(listener);
        }
        faults.extend(found.iter().map(|fault| format!("listener[{number}].{fault}")));
    }
    listeners
}

fn check(raw: &RawListener, number: usize, faults: &mut Vec<String>) -> Option<Listener> {
    let name = raw.name.clone().unwrap_or_else(|| number.to_string());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
        faults.push("name: has to be 1 to 64 letters, digits, or one of - _ . :".to_owned());
    }
    let mut address = |what: &str, text: &str| {
        text.parse::<Address>().map_err(|fault| faults.push(format!("{what}: {fault}, found {text:?}"))).ok()
    };
    let (accept, target) = (address("accept", &raw.accept), address("target", &raw.target));
    let sources = check_sources(raw.sources.as_deref(), faults);
    let (accept, target) = (accept?, target?);
    if sources.is_some() && matches!(accept, Address::Unix(_)) && !raw.accept_proxy_protocol {
        faults.push("sources: a unix socket knows no source, unless accept_proxy_protocol is true".to_owned());
    }
    Some(Listener {
        name,
        accept,
        accept_wire: raw.accept_wire,
        accept_proxy_protocol: raw.accept_proxy_protocol,
        target,
        target_wire: raw.target_wire,
        target_proxy_protocol: raw.target_proxy_protocol,
        sources,
    })
}

fn check_sources(sources: Option<&[String]>, faults: &mut Vec<String>) -> Option<Vec<IpNet>> {
    let sources = sources?;
    if sources.is_empty() {
        // Could be meant as nobody or as everybody, which must not be mixed up.
        faults.push("sources: name at least one network, or leave it out to let everyone connect".to_owned());
    }
    let parse = |text: &String| match text.parse::<IpNet>() {
        Ok(network) => Some(network),
        Err(_) => match text.parse::<IpAddr>() {
            Ok(address) => Some(address.into()),
            Err(_) => {
                faults.push(format!("sources: expected a network such as 198.51.100.0/24, found {text:?}"));
                None
            }
        },
    };
    Some(sources.iter().filter_map(parse).collect())
}
