//! Has an authorization server forget the tokens of a login (RFC 7009).

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::{Entry, LoginError};
use crate::http::HttpClient;
use crate::shown::printable;

/// What became of the access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// It holds no more.
    AtOnce,
    /// It is one that is signed, not looked up: it holds until it expires (RFC 7009 section 2.2.1).
    WhenItExpires,
}

/// Revokes the refresh token, with which others could be had, and then the access token.
///
/// # Errors
/// [`LoginError`], of the first that could not be revoked; the other was tried.
pub async fn revoke(entry: &Entry, http: &HttpClient) -> Result<Revoked, LoginError> {
    let refresh = match &entry.refresh_token {
        Some(token) => one(entry, token, Token::Refresh, http).await,
        None => Ok(Revoked::AtOnce),
    };
    let access = one(entry, &entry.access_token, Token::Access, http).await;
    refresh.and(access)
}

#[derive(Clone, Copy)]
enum Token {
    Refresh,
    Access,
}

async fn one(entry: &Entry, token: &SecretString, which: Token, http: &HttpClient) -> Result<Revoked, LoginError> {
    let issuer = || entry.purpose.issuer.clone();
    let Some(endpoint) = &entry.revocation_endpoint else {
        return Err(LoginError::Missing { issuer: issuer(), what: "revocation endpoint" });
    };
    let (hint, doing) = match which {
        Token::Refresh => ("refresh_token", "revoke the refresh token"),
        Token::Access => ("access_token", "revoke the access token"),
    };
    let client = ("client_id", entry.purpose.client_id.as_str());
    let fields = [("token", token.expose_secret()), ("token_type_hint", hint), client];
    let form = Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::post(endpoint.as_str())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(Bytes::from(form))
        .expect("an address that was checked");
    let answer = http.call(request).await?;
    if answer.status().is_success() {
        return Ok(Revoked::AtOnce);
    }
    let told: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match told["error"].as_str() {
        Some("unsupported_token_type") => Ok(Revoked::WhenItExpires),
        error => {
            let error = format!("it answers {} {}", answer.status(), printable(error.unwrap_or_default()));
            Err(LoginError::Refused { doing, issuer: issuer(), error: error.trim_end().to_owned() })
        }
    }
}
