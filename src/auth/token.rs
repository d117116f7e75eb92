//! An access token on its way from a header to those who can judge it.

use std::fmt;

use openssl::sha::sha256;
use secrecy::{ExposeSecret, SecretString};

/// No access token is longer: proxies refuse headers from about this length on.
const LONGEST: usize = 16 << 10;
/// What clients send that have none.
const NO_TOKEN: &str = "INVALID_TOKEN";

/// The metadata in which a client may say who made its token, so that no other
/// provider of the gateway's is shown it.
pub const ISSUER_HEADER: &str = "scistream-issuer";

/// A token that a caller sent. Shown only as the start of its SHA-256.
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    digest: [u8; 32],
    /// Who made it, as its bearer says.
    issuer: Option<String>,
}

impl Token {
    /// Reads the value of an `authorization` header: a bare token, as the deployed
    /// release sends it, or one behind `Bearer` (RFC 6750 section 2.1). `None` when
    /// it holds none, or what can be none.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let text = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_matches(' '),
            _ => header,
        };
        // RFC 6750 section 2.1: b64token, and nothing else.
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        let plausible = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(is_token) && text != NO_TOKEN;
        plausible.then(|| Self { text: text.into(), digest: sha256(text.as_bytes()), issuer: None })
    }

    /// The same, made by that one, as its bearer says: nobody else is to be shown it.
    #[must_use]
    pub fn said_to_be_of(self, issuer: Option<&str>) -> Self {
        Self { issuer: issuer.map(ToOwned::to_owned), ..self }
    }

    /// Who made it, as its bearer says.
    pub(super) fn said_issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The token itself, for the provider that is to judge it.
    pub(super) fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What tells tokens apart without telling them.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// The first twelve digits of its SHA-256.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_and_bearer_are_the_same() {
        for header in ["abc.DEF-1", "Bearer abc.DEF-1", "bearer abc.DEF-1", "BEARER  abc.DEF-1"] {
            assert_eq!(Token::parse(header).expect(header).expose(), "abc.DEF-1");
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        for header in
            ["", "Bearer ", "Bearer", "INVALID_TOKEN", "Bearer INVALID_TOKEN", "Basic abc", "a b", "a\nb", "tökén"]
        {
            let bare_word = header == "Bearer";
            assert_eq!(Token::parse(header).is_some(), bare_word, "{header:?}");
        }
        assert!(Token::parse(&"a".repeat(LONGEST + 1)).is_none());
    }

    #[test]
    fn it_is_not_shown() {
        let token = Token::parse("secret-token").expect("a token");
        assert!(!format!("{token:?} {token}").contains("secret"));
    }
}
