//! The floor below which a `psk` side does not go, and the suites that meet it.
//!
//! Every suite named here takes the key as its only proof. There is none that
//! is anonymous, and none that proves itself with a certificate alone.

use serde::Deserialize;

/// Both with SHA-256, since OpenSSL's PSK callbacks serve no other in TLS 1.3.
const TLS13: [&str; 2] = ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];

/// Authenticated encryption, and a recording is of no use to who gets the key later.
const TLS12_SECRET: [&str; 4] = [
    "ECDHE-PSK-CHACHA20-POLY1305",
    "DHE-PSK-AES128-GCM-SHA256",
    "DHE-PSK-AES256-GCM-SHA384",
    "DHE-PSK-CHACHA20-POLY1305",
];

/// What the deployed release can be brought to: the peer proves the key and no
/// byte can be altered, but all can be read.
const TLS12_AUTHENTIC: [&str; 2] = ["ECDHE-PSK-NULL-SHA256", "PSK-NULL-SHA256"];

/// How well a `psk` side is protected at least. Two ends agree on the strongest
/// protection that both have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// The peer holds the key, and nobody else reads or alters.
    #[default]
    Confidentiality,
    /// Also: the peer holds the key and nobody alters, but anyone may read along.
    Integrity,
    /// Also: plain bytes, from and to anyone.
    None,
}

/// What a finished handshake has come to.
#[derive(Debug, Clone, Copy)]
pub struct Negotiated<'a> {
    /// `TLSv1.2` or `TLSv1.3`, as OpenSSL says it.
    pub version: &'a str,
    /// The suite, as OpenSSL says it.
    pub suite: &'a str,
    /// Whether the handshake went on from something both ends knew before. We
    /// keep no sessions, so in TLS 1.3 that can only have been the key.
    pub resumed: bool,
}

impl Protection {
    /// The TLS 1.3 suites, best first, as OpenSSL wants them written.
    #[must_use]
    pub fn tls13_suites(self) -> String {
        TLS13.join(":")
    }

    /// The TLS 1.2 suites, best first, as OpenSSL wants them written.
    #[must_use]
    pub fn tls12_suites(self) -> String {
        let more: &[&str] = if self == Self::Confidentiality { &[] } else { &TLS12_AUTHENTIC };
        [&TLS12_SECRET, more].concat().join(":")
    }

    /// OpenSSL's security level. Only level 0 has suites without encryption, so
    /// what else that level would let in is kept out by the list of suites.
    #[must_use]
    pub fn security_level(self) -> u32 {
        if self == Self::Confidentiality { 2 } else { 0 }
    }

    /// Looks at the outcome, not at what was offered: a second lock, should
    /// OpenSSL's configuration on a host, or OpenSSL, ever say otherwise.
    #[must_use]
    pub fn allows(self, outcome: Negotiated<'_>) -> bool {
        match outcome.version {
            "TLSv1.3" => outcome.resumed && TLS13.contains(&outcome.suite),
            "TLSv1.2" => {
                !outcome.resumed
                    && (TLS12_SECRET.contains(&outcome.suite)
                        || self != Self::Confidentiality && TLS12_AUTHENTIC.contains(&outcome.suite))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(floor: Protection, version: &str, suite: &str, resumed: bool) -> bool {
        floor.allows(Negotiated { version, suite, resumed })
    }

    #[test]
    fn every_suite_is_one_of_a_key() {
        for floor in [Protection::Confidentiality, Protection::Integrity, Protection::None] {
            for suite in floor.tls12_suites().split(':') {
                assert!(suite.contains("PSK-"), "{suite}");
                assert!(!suite.contains("RSA"), "{suite}");
            }
        }
    }

    #[test]
    fn the_outcome_is_held_against_the_floor() {
        use Protection::{Confidentiality, Integrity};
        assert!(allows(Confidentiality, "TLSv1.3", "TLS_AES_128_GCM_SHA256", true));
        assert!(!allows(Confidentiality, "TLSv1.3", "TLS_AES_128_GCM_SHA256", false), "no key took part");
        assert!(!allows(Confidentiality, "TLSv1.3", "TLS_AES_256_GCM_SHA384", true));
        assert!(allows(Confidentiality, "TLSv1.2", "ECDHE-PSK-CHACHA20-POLY1305", false));
        assert!(!allows(Confidentiality, "TLSv1.2", "ECDHE-PSK-NULL-SHA256", false));
        assert!(!allows(Confidentiality, "TLSv1.1", "ECDHE-PSK-CHACHA20-POLY1305", false));
        assert!(allows(Integrity, "TLSv1.2", "PSK-NULL-SHA256", false));
        assert!(!allows(Integrity, "TLSv1.2", "PSK-NULL-SHA256", true), "a resumed session proves no key");
        assert!(!allows(Integrity, "TLSv1.2", "AECDH-NULL-SHA", false));
        assert!(!allows(Integrity, "TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305", false));
    }
}
