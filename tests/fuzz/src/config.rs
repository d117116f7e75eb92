//! `s2cs.toml`, as an operator writes it.

use scistream::config::{Config, Faults, Settings};

/// A folder that holds no backends and no templates.
pub const NO_SITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
/// `unix(7)`
const LONGEST_SOCKET_PATH: usize = 107;

/// What is taken can be served; what is not has its faults told.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut faults = Vec::new();
    let said = Settings::parse("s2cs.toml", text, &mut faults);
    let without_site = Settings { site_dir: Some(NO_SITE.into()), ..Settings::default() };
    match Config::check(without_site.over(said.clone()), faults) {
        Ok(config) => assert_can_be_served(&config, &said),
        Err(Faults(faults)) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.is_empty()), "refused without a reason");
            faults.iter().for_each(|fault| super::assert_one_line(fault));
        }
    }
}

fn assert_can_be_served(config: &Config, said: &Settings) {
    let engine = &config.engine;
    assert!(*config.port_range.start() >= 1 && config.port_range.start() <= config.port_range.end());
    assert!(config.max_listeners >= 1 && config.connections_per_process >= 1 && engine.max_sessions >= 1);
    let waits = [engine.hello_timeout, engine.update_timeout, config.drain_grace];
    waits.into_iter().chain(engine.max_lifetime).chain(engine.max_idle).for_each(super::assert_can_be_waited);

    let socket = config.state_dir.join("sessions/0123456789ab-prod/999.sock");
    assert!(config.state_dir.is_absolute() && socket.as_os_str().len() <= LONGEST_SOCKET_PATH);
    super::assert_plain(socket.to_str().expect("plain"), b"/._-+");

    assert!(config.terminator.speaks_psk());
    let end = if config.backend.speaks_psk() { &config.backend } else { &config.terminator };
    assert!(end.abilities.psk.contains(&engine.protection));
    assert_eq!(
        config.catalog.get(&config.backend.name).map(|m| m.name.clone()).ok(),
        said.backend.clone().or(Some("native".into()))
    );

    // What is open is open because somebody said so.
    if !config.listen.ip().is_loopback() {
        assert!(said.no_auth == Some(true) || said.client_ca.is_some() || !config.providers.is_empty());
        assert!(config.tls.is_some() || said.insecure == Some(true));
    }
    assert!(config.advertise.is_some() || !(engine.wan.is_unspecified() || engine.lan.is_unspecified()));
}
