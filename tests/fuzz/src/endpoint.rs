//! An endpoint, as a stranger sends it: where this gateway will connect to.

use scistream::session::{Endpoint, Host};

/// One that is taken is written with harmless letters, and read again as the same.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Endpoint>() {
        Ok(endpoint) => {
            let shown = endpoint.to_string();
            super::assert_plain(&shown, b"-.:[]");
            assert!(!shown.starts_with('-'), "{shown} looks like a flag");
            assert_eq!(shown.parse::<Endpoint>().as_ref(), Ok(&endpoint));
            assert_host(&endpoint.host);
        }
        Err(fault) => super::assert_one_line(&fault.to_string()),
    }
    if let Ok(host) = text.parse::<Host>() {
        assert_host(&host);
        let endpoint = Endpoint { host, port: std::num::NonZeroU16::MIN };
        assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
    }
}

/// A name is one: what `inet_aton(3)` would read as an address is not looked up.
fn assert_host(host: &Host) {
    let Host::Name(name) = host else { return };
    super::assert_plain(name, b"-.");
    assert!((1..=253).contains(&name.len()), "{name}");
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(!hexadecimal && !last.bytes().all(|b| b.is_ascii_digit()), "{name} is a number");
}
