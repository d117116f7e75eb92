//! What a provider says of a token, whichever way it says it, becomes a caller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{Caller, Identity};

/// What a token must say, and where it says what.
#[derive(Debug, Clone)]
pub(super) struct Demands {
    /// The provider's name in the configuration.
    pub(super) provider: String,
    /// The token must be made for one of these; empty: for whomever.
    pub(super) audience: Vec<String>,
    /// All of these must be in it.
    pub(super) scopes: Vec<String>,
    /// Who must have made it, where that is told.
    pub(super) issuer: Option<String>,
    /// The claim with the lasting name.
    pub(super) subject_claim: String,
    /// The claims with names that people know and the provider vouches for.
    pub(super) name_claims: Vec<String>,
    /// The claim with groups.
    pub(super) groups_claim: String,
    /// Further claims that the policy asks for.
    pub(super) claims: BTreeSet<String>,
    /// Whether it is Globus, whose word on other identities of the same person counts.
    pub(super) linked: bool,
}

/// Why a token is not good. For the gateway's log; callers learn less.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it is not active: unknown, expired, or revoked")]
    Inactive,
    #[error("it is expired")]
    Expired,
    #[error("it is not yet valid")]
    Early,
    #[error("it is made for another audience than {0:?}")]
    Audience(Vec<String>),
    #[error("it lacks the scope {0}")]
    Scope(String),
    #[error("it comes from another issuer")]
    Issuer,
    #[error("it has no {0}, which would say who it is for")]
    Subject(String),
    #[error("{0}")]
    Form(String),
}

/// How far clocks may be apart.
const SKEW: u64 = 5;

/// A good token: whose it is, and until when.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) caller: Caller,
    pub(super) expires: Option<SystemTime>,
}

impl Demands {
    /// Judges claims that have been proved to be the provider's words.
    pub(super) fn judge(&self, claims: &Map<String, Value>) -> Result<Verdict, Flaw> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let expires = seconds(claims, "exp")?;
        if expires.is_some_and(|end| end.saturating_add(SKEW) <= now) {
            return Err(Flaw::Expired);
        }
        if seconds(claims, "nbf")?.is_some_and(|begin| begin > now + SKEW) {
            return Err(Flaw::Early);
        }
        if let (Some(wanted), Some(told)) = (&self.issuer, claims.get("iss"))
            && told != wanted
        {
            return Err(Flaw::Issuer);
        }
        let audience = texts(claims, "aud");
        if !self.audience.is_empty() && !self.audience.iter().any(|wanted| audience.contains(wanted)) {
            return Err(Flaw::Audience(self.audience.clone()));
        }
        let scopes: BTreeSet<String> =
            ["scope", "scp"].iter().flat_map(|key| texts(claims, key)).flat_map(|text| words(&text)).collect();
        if let Some(missing) = self.scopes.iter().find(|wanted| !scopes.contains(*wanted)) {
            return Err(Flaw::Scope(missing.clone()));
        }
        let identity = self.identity(claims)?;
        // One that no clock can show is as good as none.
        let expires = expires.and_then(|end| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end)));
        Ok(Verdict { caller: Caller::Known(Arc::new(identity)), expires })
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, Flaw> {
        let subject = claims.get(&self.subject_claim).and_then(Value::as_str).filter(|text| !text.is_empty());
        let subject = subject.ok_or_else(|| Flaw::Subject(self.subject_claim.clone()))?.to_owned();
        // Both spellings are in use at Globus.
        let spellings: &[&str] = if self.linked { &["identity_set", "identities_set"] } else { &[] };
        let linked = spellings.iter().flat_map(|key| texts(claims, key));
        let mut names: BTreeSet<String> = self.name_claims.iter().flat_map(|key| texts(claims, key)).collect();
        if claims.get("email_verified") == Some(&Value::Bool(true)) {
            names.extend(texts(claims, "email"));
        }
        let told = |name: &String| (name.clone(), texts(claims, name));
        let claims_told: BTreeMap<_, _> =
            self.claims.iter().map(told).filter(|(_, values)| !values.is_empty()).collect();
        Ok(Identity {
            provider: self.provider.clone(),
            identities: linked.chain([subject.clone()]).collect(),
            subject,
            names,
            groups: texts(claims, &self.groups_claim),
            claims: claims_told,
        })
    }
}

/// A claim that is one text or a list of them (RFC 7519 section 4.1.3 has `aud` as either).
fn texts(claims: &Map<String, Value>, key: &str) -> BTreeSet<String> {
    match claims.get(key) {
        Some(Value::String(text)) => [text.clone()].into(),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        _ => BTreeSet::new(),
    }
}

/// RFC 6749 section 3.3: scopes stand between spaces.
fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect()
}

/// A time (RFC 7519 section 2, NumericDate): one that is there and is no number spoils the token.
fn seconds(claims: &Map<String, Value>, key: &str) -> Result<Option<u64>, Flaw> {
    match claims.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let whole = value.as_u64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a time with a fraction is cut down to seconds"
            )]
            let cut = || value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds)).map(|seconds| seconds as u64);
            whole.or_else(cut).map(Some).ok_or_else(|| Flaw::Form(format!("its {key} is no time")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn demands() -> Demands {
        Demands {
            provider: "globus".into(),
            audience: vec!["gateway".into()],
            scopes: vec!["stream".into(), "more".into()],
            issuer: Some("https://issuer.example".into()),
            subject_claim: "sub".into(),
            name_claims: vec!["username".into()],
            groups_claim: "groups".into(),
            claims: ["entitlement".to_owned()].into(),
            linked: true,
        }
    }

    fn now() -> u64 {
        SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
    }

    fn judge(change: impl FnOnce(&mut Value)) -> Result<Verdict, Flaw> {
        let mut claims = json!({
            "sub": "1-2", "username": "alice@facility.example", "email": "boss@facility.example",
            "iss": "https://issuer.example", "aud": ["other", "gateway"], "scope": "more other stream",
            "exp": now() + 60, "nbf": now() - 1, "identity_set": ["1-2", "3-4"], "groups": ["beamline"],
            "entitlement": "urn:x", "unasked": "y",
        });
        change(&mut claims);
        demands().judge(claims.as_object().expect("an object"))
    }

    #[test]
    fn a_good_token_tells_who() {
        let verdict = judge(|_| {}).expect("good");
        let Caller::Known(identity) = verdict.caller else { panic!("nobody") };
        assert_eq!(identity.identities.len(), 2);
        assert_eq!(Vec::from_iter(&identity.names), ["alice@facility.example"], "an address that nobody verified");
        assert_eq!(Vec::from_iter(identity.claims.keys()), ["entitlement"]);
        assert!(verdict.expires.is_some());
        let other = judge(|c| {
            c["aud"] = json!("gateway");
            c["identities_set"] = c["identity_set"].take();
            c["email_verified"] = json!(true);
        });
        let Caller::Known(identity) = other.expect("good too").caller else { panic!("nobody") };
        assert_eq!((identity.identities.len(), identity.names.len()), (2, 2));
    }

    #[test]
    fn only_globus_may_say_who_is_the_same_person() {
        let claims = json!({ "sub": "mallory", "identity_set": ["alice"], "identities_set": ["alice"],
            "aud": "gateway", "scope": "more stream" });
        let verdict = Demands { linked: false, ..demands() }.judge(claims.as_object().expect("an object"));
        let Caller::Known(identity) = verdict.expect("good").caller else { panic!("nobody") };
        assert_eq!(Vec::from_iter(&identity.identities), ["mallory"]);
    }

    #[test]
    fn each_flaw_is_found() {
        let flaw = |change: fn(&mut Value)| judge(change).expect_err("not good");
        assert_eq!(flaw(|c| c["exp"] = json!(now() - 60)), Flaw::Expired);
        assert_eq!(flaw(|c| c["nbf"] = json!(now() + 60)), Flaw::Early);
        assert_eq!(flaw(|c| c["iss"] = json!("https://evil.example")), Flaw::Issuer);
        assert_eq!(flaw(|c| c["iss"] = json!(["https://issuer.example"])), Flaw::Issuer);
        assert_eq!(flaw(|c| c["aud"] = json!("other")), Flaw::Audience(vec!["gateway".into()]));
        assert_eq!(flaw(|c| c["aud"] = Value::Null), Flaw::Audience(vec!["gateway".into()]));
        assert_eq!(flaw(|c| c["scope"] = json!("stream")), Flaw::Scope("more".into()));
        assert_eq!(flaw(|c| c["scope"] = json!("stream,more")), Flaw::Scope("stream".into()));
        assert_eq!(flaw(|c| c["sub"] = json!("")), Flaw::Subject("sub".into()));
        assert_eq!(flaw(|c| c["sub"] = json!(7)), Flaw::Subject("sub".into()));
        assert!(matches!(flaw(|c| c["exp"] = json!("soon")), Flaw::Form(_)));
        assert!(matches!(flaw(|c| c["exp"] = json!(-1)), Flaw::Form(_)));
        assert!(judge(|c| c["exp"] = json!(1e11 + 0.5)).is_ok());
        assert!(judge(|c| c["exp"] = json!(u64::MAX)).is_ok(), "an end beyond all clocks");
    }
}
