//! Hands out access tokens, fresh ones: what would expire soon is renewed first.

use std::time::Duration;

use oauth2::RefreshToken;
use secrecy::{ExposeSecret, SecretString};

use super::exchange::{Tokens, client_at, refused, send};
use super::provider::{Kind, Purpose};
use super::{Entry, LoginError, Store};
use crate::causes::causes;
use crate::http::HttpClient;

/// A token that holds for less than that is renewed before it is used.
const AHEAD: Duration = Duration::from_secs(60);

/// The access token of a purpose, renewed when it is time. `None`: nobody has logged in.
///
/// A refresh token that rotates may be used once, so this is done under the
/// store's lock: whoever comes second finds the new token there.
///
/// # Errors
/// [`LoginError`]
pub async fn fresh_token(store: &Store, purpose: &Purpose) -> Result<Option<SecretString>, LoginError> {
    let current = |entry: &Entry| entry.holds_for(AHEAD).then(|| entry.access_token.clone());
    match store.read().await?.login(purpose) {
        None => return Ok(None),
        Some(entry) => {
            if let Some(token) = current(entry) {
                return Ok(Some(token));
            }
        }
    }
    let mut locked = store.lock().await?;
    let mut book = locked.read().await?;
    let Some(entry) = book.login(purpose) else { return Ok(None) };
    if let Some(token) = current(entry) {
        return Ok(Some(token));
    }
    let issuer = || purpose.issuer.clone();
    let mut entry = entry.clone();
    let holds = entry.holds_for(Duration::ZERO);
    let renewed = match &entry.refresh_token {
        Some(refresh) => renewed(&entry, refresh).await,
        None => Err(LoginError::Expired { issuer: issuer() }),
    };
    match renewed {
        Ok(tokens) => {
            entry.renew(tokens);
            let token = entry.access_token.clone();
            book.put(entry);
            locked.write(&book).await?;
            Ok(Some(token))
        }
        // It does for now; the next call tries again.
        Err(e) if holds => {
            tracing::debug!("the token of {} is not renewed yet: {}", issuer(), causes(&e));
            Ok(Some(entry.access_token))
        }
        Err(e) => Err(e),
    }
}

async fn renewed(entry: &Entry, refresh: &SecretString) -> Result<Tokens, LoginError> {
    let Entry { purpose, kind, .. } = entry;
    let http = HttpClient::new(None)?;
    let client = client_at(&purpose.client_id, None, &entry.token_endpoint);
    let refresh = RefreshToken::new(refresh.expose_secret().into());
    let mut request = client.exchange_refresh_token(&refresh);
    if *kind == Kind::Oidc && !purpose.resource.is_empty() {
        request = request.add_extra_param("resource", purpose.resource.as_str());
    }
    let answer = request.request_async(&|request| send(http.clone(), request)).await;
    let answer = answer.map_err(|e| refused("renew the token (if this goes on, log in again)", &purpose.issuer, e))?;
    Tokens::of(&answer, *kind, purpose)
}
