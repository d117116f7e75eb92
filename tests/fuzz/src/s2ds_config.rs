//! The configuration of s2ds.

use std::collections::BTreeSet;

use s2ds::address::Address;
use s2ds::config::{Config, Listener, WireKind};
use s2ds::key::Keys;

const KEYS: &str = "client1:00112233445566778899aabbccddeeff\n";

/// What is taken can be served; what is not has its faults told, a line each.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // What the file system holds is no matter of the text.
    let keys = |_: &std::path::Path, identity: &str| Keys::parse(KEYS, identity);
    match Config::parse(text, keys) {
        Ok(config) => assert_can_be_served(&config),
        Err(faults) => {
            assert!(!faults.is_empty());
            faults.iter().for_each(|fault| super::assert_one_line(fault));
        }
    }
}

fn assert_can_be_served(config: &Config) {
    let listeners = &config.listeners;
    assert!(!listeners.is_empty() && config.max_connections >= 1);
    [config.connect_timeout, config.handshake_timeout, config.drain].into_iter().for_each(super::assert_can_be_waited);
    let names: BTreeSet<_> = listeners.iter().map(|listener| &listener.name).collect();
    let accepts: BTreeSet<_> = listeners.iter().map(|listener| listener.accept.to_string()).collect();
    assert_eq!([names.len(), accepts.len()], [listeners.len(); 2], "two listeners share a name or an address");
    for listener in listeners {
        assert_listener(listener);
        let has_psk = [listener.accept_wire, listener.target_wire].contains(&WireKind::Psk);
        assert!(!has_psk || config.keys.is_some(), "there is no key");
    }
}

fn assert_listener(listener: &Listener) {
    super::assert_plain(&listener.name, b"-_.:");
    for address in [&listener.accept, &listener.target] {
        super::assert_one_line(&address.to_string());
        assert_eq!(address.to_string().parse::<Address>().as_ref(), Ok(address));
    }
    if let Some(sources) = &listener.sources {
        assert!(!sources.is_empty(), "nobody, or everybody?");
        assert!(listener.accept_proxy_protocol || matches!(listener.accept, Address::Tcp(_)));
    }
}
