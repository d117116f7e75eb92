//! The first look at every call: how often it comes, and who makes it. Nothing
//! else about it is looked at before.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::authenticator::JudgeError;
use super::{Authenticator, Caller, Token};

/// How often one may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls a second of one caller; ten times as many at once.
    pub calls: NonZeroU32,
    /// Calls a second from one address; as many at once.
    pub calls_from_address: NonZeroU32,
    /// Tokens a minute from one address that turn out not to be good.
    pub failures_from_address: NonZeroU32,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// They did not say who they are.
    #[error("Authentication token is missing for scope {scope}")]
    Missing {
        /// What tokens are for; the deployed release's words name it.
        scope: String,
    },
    /// Nobody vouches for what they say.
    #[error("Authentication token is invalid for scope {scope}")]
    Invalid {
        /// What tokens are for.
        scope: String,
        /// Why, for the gateway's log alone.
        why: String,
    },
    /// Who would vouch for them cannot be asked.
    #[error("who you are cannot be checked now: the provider {provider} does not answer")]
    Silent {
        /// Who cannot be asked.
        provider: String,
        /// Why, for the gateway's log alone.
        why: String,
    },
    /// They call too often.
    #[error("too many {what} come from you")]
    TooOften {
        /// What there are too many of.
        what: &'static str,
        /// After which time one more is taken.
        wait: Duration,
    },
}

/// Lets callers in. Clones share their counts.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None`: nobody has to say who they are.
    authenticator: Option<Authenticator>,
    /// What tokens are for.
    scope: String,
    by_caller: DefaultKeyedRateLimiter<String>,
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    failures: DefaultKeyedRateLimiter<IpAddr>,
    /// Addresses whose tokens are not looked at, and until when.
    shut_out: Mutex<HashMap<IpAddr, Instant>>,
    /// Turns of each address to have a token judged.
    judging: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    /// Turns of all together.
    all: Arc<Semaphore>,
    clock: DefaultClock,
}

/// Tokens of one address that are judged at once, and of all.
const MOST_OF_ADDRESS: usize = 8;
const MOST_OF_ALL: usize = 64;
/// How long a call waits for its turn: a little longer than a provider has to answer.
const PATIENCE: Duration = Duration::from_secs(12);
/// After so many keys, those that call seldom are forgotten.
const MOST_KEYS: usize = 10_000;

impl Guard {
    /// Lets in whoever calls not too often and, with an authenticator, has a good
    /// token or certificate.
    #[must_use]
    pub fn new(authenticator: Option<Authenticator>, scope: String, limits: Limits) -> Self {
        let burst = NonZeroU32::new(10).expect("not zero");
        Self(Arc::new(Inner {
            authenticator,
            scope,
            by_caller: RateLimiter::keyed(
                Quota::per_second(limits.calls).allow_burst(limits.calls.saturating_mul(burst)),
            ),
            by_address: RateLimiter::keyed(Quota::per_second(limits.calls_from_address)),
            failures: RateLimiter::keyed(Quota::per_minute(limits.failures_from_address)),
            shut_out: Mutex::default(),
            judging: Mutex::default(),
            all: Arc::new(Semaphore::new(MOST_OF_ALL)),
            clock: DefaultClock::default(),
        }))
    }

    /// Whether nobody has to say who they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.authenticator.is_none()
    }

    /// Says who calls. `certified` is whom a client's certificate names.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn admit(
        &self,
        address: Option<IpAddr>,
        certified: Option<&Caller>,
        token: Option<&Token>,
    ) -> Result<Caller, GuardError> {
        self.count_call(address)?;
        let address = address.map(share_of);
        let caller = self.caller(address, certified, token).await?;
        if let Caller::Known(_) = caller {
            self.count(&self.0.by_caller, &caller.principal(), "calls")?;
        }
        Ok(caller)
    }

    /// Whether the token that let somebody in is good still. One that cannot be
    /// judged now has not turned bad.
    pub async fn still_admits(&self, token: &Token) -> bool {
        match &self.0.authenticator {
            Some(authenticator) => !matches!(authenticator.judge(token).await, Err(JudgeError::Flawed(_))),
            None => true,
        }
    }

    /// Counts a call from an address.
    ///
    /// # Errors
    /// [`GuardError::TooOften`]
    pub fn count_call(&self, address: Option<IpAddr>) -> Result<(), GuardError> {
        match address.map(share_of) {
            Some(address) => self.count(&self.0.by_address, &address, "calls"),
            None => Ok(()),
        }
    }

    async fn caller(
        &self,
        address: Option<IpAddr>,
        certified: Option<&Caller>,
        token: Option<&Token>,
    ) -> Result<Caller, GuardError> {
        if let Some(caller) = certified {
            return Ok(caller.clone());
        }
        let Some(authenticator) = &self.0.authenticator else {
            return Ok(Caller::Anyone);
        };
        let scope = || self.0.scope.clone();
        let token = token.ok_or_else(|| GuardError::Missing { scope: scope() })?;
        // Somebody else at this address may have guessed, while this one was let in.
        if let Some(caller) = authenticator.remembered(token).await {
            return Ok(caller);
        }
        self.look_for(address)?;
        // Providers are asked about few tokens at a time, whoever sends how many.
        let _turns = self.turns(address).await?;
        if let Some(caller) = authenticator.remembered(token).await {
            return Ok(caller);
        }
        self.look_for(address)?;
        // Counts also when the caller does not wait for the answer.
        let mut attempt = Attempt { guard: self, address, bad: true };
        let judged = authenticator.judge(token).await;
        attempt.bad = matches!(judged, Err(JudgeError::Flawed(_)));
        judged.map_err(|e| match e {
            JudgeError::Silent { provider, why } => GuardError::Silent { provider, why },
            JudgeError::Flawed(flaw) => GuardError::Invalid { scope: scope(), why: flaw.to_string() },
        })
    }

    /// A turn among those of the address, and one among all.
    async fn turns(&self, address: Option<IpAddr>) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), GuardError> {
        let of_address = {
            let mut judging = self.0.judging.lock().unwrap_or_else(PoisonError::into_inner);
            if judging.len() > MOST_KEYS {
                judging.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            let key = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            Arc::clone(judging.entry(key).or_insert_with(|| Arc::new(Semaphore::new(MOST_OF_ADDRESS))))
        };
        let too_often = |_| GuardError::TooOften { what: "unknown tokens", wait: PATIENCE };
        let turns = async {
            let first = of_address.acquire_owned().await.expect("nobody closes it");
            (first, Arc::clone(&self.0.all).acquire_owned().await.expect("nobody closes it"))
        };
        timeout(PATIENCE, turns).await.map_err(too_often)
    }

    fn count<K: std::hash::Hash + Eq + Clone>(
        &self,
        limiter: &DefaultKeyedRateLimiter<K>,
        key: &K,
        what: &'static str,
    ) -> Result<(), GuardError> {
        if limiter.len() > MOST_KEYS {
            limiter.retain_recent();
        }
        let wait = |until: governor::NotUntil<_>| until.wait_time_from(self.0.clock.now());
        limiter.check_key(key).map_err(|until| GuardError::TooOften { what, wait: wait(until) })
    }

    fn look_for(&self, address: Option<IpAddr>) -> Result<(), GuardError> {
        let mut shut_out = self.0.shut_out.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if shut_out.len() > MOST_KEYS {
            shut_out.retain(|_, until| *until > now);
        }
        match address.and_then(|address| shut_out.get(&address)) {
            Some(until) if *until > now => Err(GuardError::TooOften { what: "bad tokens", wait: *until - now }),
            _ => Ok(()),
        }
    }

    fn note_failure(&self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Err(GuardError::TooOften { wait, .. }) = self.count(&self.0.failures, &address, "bad tokens") {
            let mut shut_out = self.0.shut_out.lock().unwrap_or_else(PoisonError::into_inner);
            shut_out.insert(address, Instant::now() + wait);
        }
    }
}

/// A token on its way to be judged.
struct Attempt<'a> {
    guard: &'a Guard,
    address: Option<IpAddr>,
    bad: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.bad {
            self.guard.note_failure(self.address);
        }
    }
}

/// Addresses that count as one: an IPv6 host has a whole /64 for itself (RFC 7934 section 6).
#[must_use]
pub fn share_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(calls: u32) -> Guard {
        let few = NonZeroU32::new(calls).expect("not zero");
        let limits = Limits { calls: few, calls_from_address: few, failures_from_address: few };
        Guard::new(None, "stream".into(), limits)
    }

    #[tokio::test]
    async fn an_address_that_calls_too_often_is_told_when_to_come_back() {
        let guard = guard(5);
        let call = |address: &str| {
            let (guard, address) = (guard.clone(), address.parse().expect("an address"));
            async move { guard.admit(Some(address), None, None).await }
        };
        for _ in 0..5 {
            assert_eq!(call("192.0.2.7").await, Ok(Caller::Anyone));
        }
        let Err(GuardError::TooOften { wait, .. }) = call("192.0.2.7").await else { panic!("let in") };
        assert!(wait > Duration::ZERO && wait < Duration::from_secs(1), "{wait:?}");
        assert_eq!(call("192.0.2.8").await, Ok(Caller::Anyone), "another address");
        assert_eq!(guard.admit(None, None, None).await, Ok(Caller::Anyone), "the gateway's own socket");
    }

    #[test]
    fn the_addresses_of_one_host_count_as_one() {
        let share = |text: &str| share_of(text.parse().expect("an address"));
        assert_eq!(share("2001:db8::1"), share("2001:db8::ffff:2"));
        assert_ne!(share("2001:db8::1"), share("2001:db8:0:1::1"));
        assert_eq!(share("::ffff:192.0.2.1"), share("192.0.2.1"));
        assert_ne!(share("192.0.2.1"), share("192.0.2.2"));
    }
}
