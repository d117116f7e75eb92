//! stunnel as the other end, as facilities run it today and as they could.

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::{bytes, connect, digest, free_address, stunnel};

const OPTIONS: [(&str, &str, &str); 3] = [
    ("integrity", "ciphers = eNULL\nsecurityLevel = 0\nsslVersionMax = TLSv1.2\n", "TLSv1.2 ECDHE-PSK-NULL-SHA256"),
    ("confidentiality", "ciphers = PSK\nsslVersionMin = TLSv1.3\n", "TLSv1.3 TLS_AES_128_GCM_SHA256"),
    ("confidentiality", "ciphers = PSK\nsslVersionMax = TLSv1.2\n", "TLSv1.2 ECDHE-PSK-CHACHA20-POLY1305"),
];

#[test]
fn as_the_client() {
    for (protection, options, wire) in OPTIONS {
        let application = Application::echo();
        let config = Config::new(&format!("protection = \"{protection}\""));
        let (accept, middle) = (free_address(), free_address());
        let s2ds = Program::s2ds(&config.write(&[listener(middle, application.address, "accept_wire = \"psk\"")]));
        let _stunnel = stunnel::with_options(config.folder(), true, accept, middle, options);
        // Twice: the second time stunnel would resume its session, if it were let.
        for seed in 1..=2 {
            let sent = bytes(2 << 20, seed);
            assert_eq!(digest(&exchange(connect(accept), sent.clone())), digest(&sent));
        }
        s2ds.wait_for_nth(&format!("source_wire=\"{wire}\""), 2);
    }
}

#[test]
fn as_the_server() {
    for (protection, options, wire) in OPTIONS {
        let application = Application::echo();
        let config = Config::new(&format!("protection = \"{protection}\""));
        let (accept, middle) = (free_address(), free_address());
        let _stunnel = stunnel::with_options(config.folder(), false, middle, application.address, options);
        let s2ds = Program::s2ds(&config.write(&[listener(accept, middle, "target_wire = \"psk\"")]));
        for seed in 1..=2 {
            let sent = bytes(2 << 20, seed);
            assert_eq!(digest(&exchange(connect(accept), sent.clone())), digest(&sent));
        }
        s2ds.wait_for_nth(&format!("target_wire=\"{wire}\""), 2);
    }
}
