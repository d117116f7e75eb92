//! Finds out whose a token is, by asking as little as possible.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use moka::Expiry;
use moka::future::Cache;

use super::claims::{Flaw, Verdict};
use super::introspection::Introspection;
use super::jwt::{JwtTokens, claimed_issuer};
use super::{Caller, Token};

/// Judges tokens with the providers of the gateway. Clones share what is known.
#[derive(Debug, Clone)]
pub struct Authenticator {
    providers: Arc<[Provider]>,
    /// Good tokens by their digests. Who asks for one that is just being judged waits for that.
    known: Cache<[u8; 32], Verdict>,
}

/// One who vouches for callers.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) issuer: Option<String>,
    pub(super) way: Way,
}

#[derive(Debug)]
pub(super) enum Way {
    Introspection(Box<Introspection>),
    Jwt(Box<JwtTokens>),
}

/// A token about which there is no good word.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum JudgeError {
    /// It is not good.
    #[error("{0}")]
    Flawed(#[from] Flaw),
    /// It may be good.
    #[error("{provider} cannot be asked: {why}")]
    Silent {
        /// Who cannot be asked.
        provider: String,
        /// Why, for the gateway's log.
        why: String,
    },
}

/// For so long a revoked token may still be taken for good.
const MEMORY: Duration = Duration::from_secs(30);
const MOST_KNOWN: u64 = 10_000;

impl Authenticator {
    pub(super) fn new(providers: Vec<Provider>) -> Self {
        let known = Cache::builder().max_capacity(MOST_KNOWN).expire_after(Until).build();
        Self { providers: providers.into(), known }
    }

    /// Whose a token is, if it was judged a short while ago.
    pub(super) async fn remembered(&self, token: &Token) -> Option<Caller> {
        self.known.get(&token.digest()).await.map(|verdict| verdict.caller)
    }

    /// Whose a token is.
    pub(super) async fn judge(&self, token: &Token) -> Result<Caller, JudgeError> {
        let judged = self.known.try_get_with(token.digest(), self.ask(token)).await;
        judged.map(|verdict| verdict.caller).map_err(Arc::unwrap_or_clone)
    }

    /// Asks those who may know it. One who cannot be asked might have known it.
    async fn ask(&self, token: &Token) -> Result<Verdict, JudgeError> {
        let mut outcome = Err(Flaw::Form("no provider knows it".into()).into());
        for provider in self.concerned(token) {
            let judged = match &provider.way {
                Way::Introspection(introspection) => introspection.judge(token).await,
                Way::Jwt(jwt) => jwt.judge(token).await,
            };
            match (judged, &outcome) {
                (Ok(verdict), _) => return Ok(verdict),
                (Err(_), Err(JudgeError::Silent { .. })) => {}
                (Err(e), _) => outcome = Err(e),
            }
        }
        outcome
    }

    /// Nobody is shown a token that is said to be another's, by itself or by its bearer.
    fn concerned<'a>(&'a self, token: &Token) -> impl Iterator<Item = &'a Provider> {
        let claimed = claimed_issuer(token).or_else(|| token.said_issuer().map(ToOwned::to_owned));
        let is_of_one = claimed.is_some() && self.providers.iter().any(|provider| provider.issuer == claimed);
        self.providers.iter().filter(move |provider| match (&provider.way, is_of_one) {
            (_, true) => provider.issuer == claimed,
            (Way::Introspection(_), false) => claimed.is_none() || provider.issuer.is_none(),
            (Way::Jwt(_), false) => false,
        })
    }
}

/// A good token is remembered for [`MEMORY`], and never beyond its own end.
struct Until;

impl Expiry<[u8; 32], Verdict> for Until {
    fn expire_after_create(&self, _: &[u8; 32], verdict: &Verdict, _: Instant) -> Option<Duration> {
        let left = verdict.expires.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        Some(left.map_or(MEMORY, |left| left.min(MEMORY)))
    }
}
