//! What is kept of logins: the content of the tokens' file.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::exchange::Tokens;
use super::provider::{Kind, Provider, Purpose};

/// The format that is written.
pub(super) const VERSION: u32 = 1;

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    pub(super) version: u32,
    /// One for each purpose.
    pub logins: Vec<Entry>,
    /// What each gateway wants a token for, `HOST:PORT` by `HOST:PORT`.
    pub gateways: BTreeMap<String, Purpose>,
}

/// One login.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What its tokens are for.
    pub purpose: Purpose,
    pub(super) kind: Kind,
    pub(super) token_endpoint: Url,
    pub(super) revocation_endpoint: Option<Url>,
    #[serde(serialize_with = "expose", deserialize_with = "conceal")]
    pub(super) access_token: SecretString,
    #[serde(serialize_with = "expose_option", deserialize_with = "conceal_option")]
    pub(super) refresh_token: Option<SecretString>,
    /// Unix time in seconds; none: it is not known.
    expires: Option<u64>,
    /// What the access token allows.
    pub scopes: Vec<String>,
    /// Who logged in, as far as it is known.
    pub who: Option<String>,
}

impl Default for Book {
    fn default() -> Self {
        Self { version: VERSION, logins: Vec::new(), gateways: BTreeMap::new() }
    }
}

impl Book {
    /// The login for a purpose.
    #[must_use]
    pub fn login(&self, purpose: &Purpose) -> Option<&Entry> {
        self.logins.iter().find(|entry| entry.purpose == *purpose)
    }

    /// The login for a gateway that is known.
    #[must_use]
    pub fn login_for(&self, gateway: &str) -> Option<&Entry> {
        self.login(self.gateways.get(gateway)?)
    }

    /// Puts a login in the place of an older one of its purpose.
    pub fn put(&mut self, entry: Entry) {
        self.logins.retain(|known| known.purpose != entry.purpose);
        self.logins.push(entry);
    }

    /// Removes the login of a purpose, and what leads to it.
    pub fn remove(&mut self, purpose: &Purpose) {
        self.logins.retain(|known| known.purpose != *purpose);
        self.gateways.retain(|_, known| known != purpose);
    }
}

impl Entry {
    /// What a login at a provider gave.
    #[must_use]
    pub fn new(provider: &Provider, tokens: Tokens) -> Self {
        let mut entry = Self {
            purpose: provider.purpose.clone(),
            kind: provider.kind,
            token_endpoint: provider.token.clone(),
            revocation_endpoint: provider.revocation.clone(),
            access_token: SecretString::default(),
            refresh_token: None,
            expires: None,
            scopes: provider.purpose.scopes.clone(),
            who: None,
        };
        entry.renew(tokens);
        entry
    }

    /// Takes new tokens; what they do not tell stays as it was.
    pub(super) fn renew(&mut self, tokens: Tokens) {
        self.access_token = tokens.access;
        self.refresh_token = tokens.refresh.or(self.refresh_token.take());
        self.expires = tokens.expires.and_then(seconds);
        self.scopes = tokens.scopes.unwrap_or_else(|| self.scopes.clone());
        self.who = tokens.who.or(self.who.take());
    }

    /// When its access token ends, as far as it is known.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
    }

    /// Whether its access token holds for so long yet.
    #[must_use]
    pub fn holds_for(&self, time: Duration) -> bool {
        self.expires().is_none_or(|end| SystemTime::now() + time < end)
    }

    /// Whether it can be had anew without a person.
    #[must_use]
    pub fn is_refreshable(&self) -> bool {
        self.refresh_token.is_some()
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

fn expose<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

fn conceal<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    Ok(String::deserialize(from)?.into())
}

fn expose_option<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(to)
}

fn conceal_option<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Into::into))
}
