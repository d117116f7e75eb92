//! Judges tokens that say everything themselves: JWT access tokens (RFC 9068).

use josekit::JoseError;
use josekit::jwk::Jwk;
use josekit::jws::alg::ecdsa::EcdsaJwsAlgorithm as Ecdsa;
use josekit::jws::alg::eddsa::EddsaJwsAlgorithm as Eddsa;
use josekit::jws::alg::rsassa::RsassaJwsAlgorithm as Rsassa;
use josekit::jws::alg::rsassa_pss::RsassaPssJwsAlgorithm as RsassaPss;
use josekit::jws::{JwsContext, JwsVerifier};
use openssl::base64;
use serde_json::{Map, Value};

use super::claims::{Demands, Flaw, Verdict};
use super::keys::Keys;
use super::{JudgeError, Token};

/// A provider whose tokens are judged here, by its keys.
#[derive(Debug)]
pub(super) struct JwtTokens {
    pub(super) keys: Keys,
    /// Whether the header must say that it is an access token (RFC 9068 section 4).
    pub(super) strict_type: bool,
    pub(super) demands: Demands,
}

/// The two forms of the media type (RFC 9068 section 2.1).
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];

impl JwtTokens {
    pub(super) async fn judge(&self, token: &Token) -> Result<Verdict, JudgeError> {
        let header = part(token, 0).ok_or_else(|| form("it is no JWT"))?;
        if header.contains_key("crit") {
            return Err(form("its header has extensions that must be understood").into());
        }
        let told = |key: &str| header.get(key).and_then(Value::as_str);
        let is_access_token = told("typ").is_some_and(|typ| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known)));
        if self.strict_type && !is_access_token {
            return Err(form("its header does not say that it is an access token (typ at+jwt)").into());
        }
        let algorithm = told("alg").ok_or_else(|| form("its header names no algorithm"))?;
        let silent = |why| JudgeError::Silent { provider: self.demands.provider.clone(), why };
        let keys = self.keys.named(told("kid")).await.map_err(silent)?;
        if keys.is_empty() {
            return Err(form("it is signed with none of the provider's keys").into());
        }
        let claims = keys.iter().find_map(|key| verified(token, algorithm, key));
        let claims = claims.ok_or_else(|| form("its signature is not the provider's"))?;
        // Section 2.2 requires both; without an end it would be good for ever.
        for required in ["exp", "iss"] {
            if claims.get(required).is_none_or(Value::is_null) {
                return Err(form(&format!("it has no {required}")).into());
            }
        }
        Ok(self.demands.judge(&claims)?)
    }
}

fn form(what: &str) -> Flaw {
    Flaw::Form(what.into())
}

/// The claims, if this key has signed them.
fn verified(token: &Token, algorithm: &str, key: &Jwk) -> Option<Map<String, Value>> {
    let verifier = verifier(algorithm, key).ok().flatten()?;
    let (payload, _) = JwsContext::new().deserialize_compact(token.expose(), &*verifier).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// Signatures that only the provider can make: neither `none`, nor one with a shared
/// secret, for which a public key could be taken.
fn verifier(algorithm: &str, key: &Jwk) -> Result<Option<Box<dyn JwsVerifier>>, JoseError> {
    let rsa = |algorithm: Rsassa| algorithm.verifier_from_jwk(key).map(boxed);
    let pss = |algorithm: RsassaPss| algorithm.verifier_from_jwk(key).map(boxed);
    let ecdsa = |algorithm: Ecdsa| algorithm.verifier_from_jwk(key).map(boxed);
    Ok(Some(match algorithm {
        "RS256" => rsa(Rsassa::Rs256)?,
        "RS384" => rsa(Rsassa::Rs384)?,
        "RS512" => rsa(Rsassa::Rs512)?,
        "PS256" => pss(RsassaPss::Ps256)?,
        "PS384" => pss(RsassaPss::Ps384)?,
        "PS512" => pss(RsassaPss::Ps512)?,
        "ES256" => ecdsa(Ecdsa::Es256)?,
        "ES384" => ecdsa(Ecdsa::Es384)?,
        "ES512" => ecdsa(Ecdsa::Es512)?,
        "EdDSA" => boxed(Eddsa::Eddsa.verifier_from_jwk(key)?),
        _ => return Ok(None),
    }))
}

fn boxed(verifier: impl JwsVerifier + 'static) -> Box<dyn JwsVerifier> {
    Box::new(verifier)
}

/// Who a token says that it comes from, before anybody has proved it. `None`: it is no JWT.
pub(super) fn claimed_issuer(token: &Token) -> Option<String> {
    part(token, 0)?;
    Some(part(token, 1)?.get("iss")?.as_str()?.to_owned())
}

/// One of the three parts of a JWT, as the JSON object that it is.
fn part(token: &Token, index: usize) -> Option<Map<String, Value>> {
    let parts: Vec<&str> = token.expose().split('.').collect();
    let [_, _, _] = parts.as_slice() else { return None };
    // RFC 7515 section 2: the alphabet of URLs, without padding.
    let mut text = parts[index].replace('-', "+").replace('_', "/");
    text.push_str(&"=".repeat((4 - text.len() % 4) % 4));
    serde_json::from_slice(&base64::decode_block(&text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_jwts_claim_an_issuer() {
        let claimed = |text: &str| claimed_issuer(&Token::parse(text).expect("a token"));
        // {"alg":"none"} . {"iss":"x"} .
        assert_eq!(claimed("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.").as_deref(), Some("x"));
        for other in ["opaque", "a.b.c", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0", "e30.e30.e30", "e30.eyJpc3MiOjd9.x"] {
            assert_eq!(claimed(other), None, "{other}");
        }
    }

    #[test]
    fn only_signatures_of_the_provider_count() {
        let key = Jwk::generate_rsa_key(2048).expect("a key");
        for algorithm in ["none", "None", "", "HS256", "HS512", "ES256K", "dir"] {
            assert!(verifier(algorithm, &key).expect("no fault").is_none(), "{algorithm}");
        }
        assert!(verifier("RS256", &key).expect("it fits").is_some());
        assert!(verifier("ES256", &key).is_err(), "a key of another kind");
    }
}
