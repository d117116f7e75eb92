//! The keys with which a provider signs: fetched, kept, and looked for again when
//! a token names one that is not there.
//!
//! One task has them. Whoever asks for a key that is known is answered at once;
//! who asks for another one waits for the next look at the provider's key set,
//! which is taken at most once a second, whatever tokens come.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use josekit::jwk::{Jwk, JwkSet};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::endpoint::Endpoint;
use crate::causes::causes;
use crate::http::HttpClient;
use crate::issuer;

/// Between two looks at the key set.
const PAUSE: Duration = Duration::from_secs(1);
/// After this, keys that the provider has taken back are no longer good.
const MOST_AGE: Duration = Duration::from_secs(600);
/// After this without a look that succeeded, no key is good.
const MOST_STALE: Duration = Duration::from_secs(3600);
/// Who may wait for a look at once.
const MOST_WAITING: usize = 1000;

/// A way to the task. It ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Keys(mpsc::Sender<Ask>);

#[derive(Debug)]
struct Ask {
    key_id: Option<String>,
    answer: oneshot::Sender<Result<Vec<Jwk>, String>>,
}

impl Keys {
    /// Starts the task, in the runtime of the caller.
    pub(super) fn of(endpoint: Endpoint, http: HttpClient) -> Self {
        let (asks, inbox) = mpsc::channel(64);
        let keeper = Keeper { source: Arc::new((endpoint, http)), set: None, waiting: vec![], next: Instant::now() };
        tokio::spawn(keeper.run(inbox));
        Self(asks)
    }

    /// The keys that a token with this `kid` may be signed with; none if there is no such key.
    ///
    /// # Errors
    /// Why that cannot be told now.
    pub(super) async fn named(&self, key_id: Option<&str>) -> Result<Vec<Jwk>, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "its keys are no longer looked after".to_owned();
        self.0.send(Ask { key_id: key_id.map(ToOwned::to_owned), answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

struct Keeper {
    source: Arc<(Endpoint, HttpClient)>,
    /// The last key set that was read, and when.
    set: Option<(JwkSet, Instant)>,
    waiting: Vec<Ask>,
    /// When the key set may be looked at again.
    next: Instant,
}

type Look = Pin<Box<dyn Future<Output = Result<JwkSet, String>> + Send>>;

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::Receiver<Ask>) {
        let mut look: Option<Look> = None;
        loop {
            let begin = look.is_none() && !self.waiting.is_empty();
            tokio::select! {
                ask = inbox.recv() => match ask {
                    Some(ask) => self.hear(ask),
                    None => return,
                },
                () = sleep_until(self.next), if begin => look = Some(Box::pin(fetch(Arc::clone(&self.source)))),
                outcome = ready(look.as_mut()) => {
                    look = None;
                    self.next = Instant::now() + PAUSE;
                    self.take(outcome);
                }
            }
        }
    }

    fn hear(&mut self, ask: Ask) {
        let fresh = self.set.as_ref().is_some_and(|(_, when)| when.elapsed() < MOST_AGE);
        let found = self.find(ask.key_id.as_deref());
        if fresh && !found.is_empty() {
            tell(ask, Ok(found));
        } else if self.waiting.len() < MOST_WAITING {
            self.waiting.push(ask);
        } else {
            tell(ask, Err("too many wait for its keys".into()));
        }
    }

    /// Answers all who waited. When a look fails, the keys that were good are good
    /// still for a while.
    fn take(&mut self, outcome: Result<JwkSet, String>) {
        let fault = match outcome {
            Ok(set) => {
                self.set = Some((set, Instant::now()));
                None
            }
            Err(why) => {
                // Somebody may have taken them back long since.
                self.set.take_if(|(_, when)| when.elapsed() > MOST_STALE);
                Some(why)
            }
        };
        for ask in std::mem::take(&mut self.waiting) {
            let found = self.find(ask.key_id.as_deref());
            let answer = match &fault {
                Some(why) if found.is_empty() => Err(why.clone()),
                _ => Ok(found),
            };
            tell(ask, answer);
        }
    }

    fn find(&self, key_id: Option<&str>) -> Vec<Jwk> {
        let Some((set, _)) = &self.set else { return vec![] };
        match key_id {
            Some(key_id) => set.get(key_id).into_iter().cloned().collect(),
            None => set.keys().into_iter().cloned().collect(),
        }
    }
}

/// Who asked may have stopped waiting.
fn tell(ask: Ask, answer: Result<Vec<Jwk>, String>) {
    drop(ask.answer.send(answer));
}

async fn ready(look: Option<&mut Look>) -> Result<JwkSet, String> {
    match look {
        Some(look) => look.await,
        None => pending().await,
    }
}

async fn fetch(source: Arc<(Endpoint, HttpClient)>) -> Result<JwkSet, String> {
    let (endpoint, http) = &*source;
    let url = endpoint.get(http).await.map_err(|e| format!("failed to {}", causes(&e)))?;
    let (status, body) = issuer::get(&url, http).await.map_err(|e| format!("failed to {}", causes(&e)))?;
    if !status.is_success() {
        return Err(format!("its key set answers {status}"));
    }
    JwkSet::from_bytes(&body).map_err(|e| format!("its key set cannot be read: {}", causes(&e)))
}
