//! A gateway, seen by its operator: everything that a session will need.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::{Finding, certificate, host, issuers, ports};
use crate::backend::{Manifest, Programs};
use crate::client::Gateway;
use crate::config::{Config, Faults};
use crate::store::ControlSocket;

/// Looks at the gateway that these settings, checked, are of.
pub async fn look_at_gateway(config: Result<Config, Faults>) -> Vec<Finding> {
    const ABOUT: &str = "configuration";
    let config = match config {
        Ok(config) => config,
        Err(Faults(faults)) => {
            let remedy = "s2cs setup writes one that is good; man s2cs.toml tells of every setting";
            return faults.into_iter().map(|fault| Finding::bad(ABOUT, fault, remedy)).collect();
        }
    };
    let mut found = vec![Finding::good(ABOUT, "it is good")];
    found.extend(config.notes.iter().map(|note| Finding::note(ABOUT, note, "look whether that is meant")));
    found.extend(programs(&config));
    if let Some(files) = &config.tls {
        found.extend(certificate::look_at_files(files, &names(&config)));
    }
    let ours = listeners(&config.state_dir).await;
    found.push(ports::look_at_control(config.listen, ours.is_some()));
    let ours = ours.unwrap_or_default();
    let (wan, lan) = (config.engine.wan, config.engine.lan);
    found.push(ports::look_at_range("wan_ip", wan, &config.port_range, &ours));
    if lan != wan {
        found.push(ports::look_at_range("lan_ip", lan, &config.port_range, &ours));
    }
    for (name, issuer, ca_file) in config.providers.issuers() {
        found.extend(issuers::look_at(name, issuer, ca_file).await);
    }
    found.extend(host::look_at(&config).await);
    found
}

/// What users may reach the gateway by.
fn names(config: &Config) -> Vec<String> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let addresses = config.advertise.into_iter().chain([config.listen.ip()]).filter(|ip| !ip.is_unspecified());
    host.into_iter().filter(|name| !name.is_empty()).chain(addresses.map(|ip| ip.to_string())).collect()
}

fn programs(config: &Config) -> Vec<Finding> {
    const ABOUT: &str = "programs";
    let known = Programs::default();
    let look = |manifest: &Arc<Manifest>| match known.find(manifest) {
        Ok(program) => Finding::good(ABOUT, format!("{} {}", program.path.display(), program.version)),
        Err(e) => Finding::bad(ABOUT, e.to_string(), "without it no session can be served"),
    };
    config.taking_part().into_values().map(look).collect()
}

/// Where sessions listen; `None` when no s2cs runs with this state folder.
async fn listeners(state_dir: &Path) -> Option<HashSet<SocketAddr>> {
    let gateway = Gateway::connect_operator(&ControlSocket::path(state_dir)).await.ok()?;
    let sessions = gateway.list().await.ok()?.sessions;
    Some(sessions.iter().flat_map(|session| &session.listeners).filter_map(|text| text.parse().ok()).collect())
}
