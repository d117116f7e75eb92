//! Asks a token endpoint, and reads what it gives.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AccessToken, AuthUrl, ClientId, EndpointMaybeSet, EndpointNotSet, EndpointSet, ErrorResponse, ExtraTokenFields,
    HttpRequest, HttpResponse, RefreshToken, RequestTokenError, StandardRevocableToken, StandardTokenResponse,
    TokenResponse, TokenUrl,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::provider::{Kind, Purpose};
use super::{LoginError, Provider};
use crate::http::{HttpClient, HttpError};
use crate::shown::printable;

/// What a login gave.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// For gateways.
    pub access: SecretString,
    /// For the next access token.
    pub refresh: Option<SecretString>,
    /// What the access token allows, if the provider says that it is other than what was asked for.
    pub scopes: Option<Vec<String>>,
    /// When the access token ends, as far as the provider tells.
    pub expires: Option<SystemTime>,
    /// Who logged in, as far as the provider tells.
    pub who: Option<String>,
}

/// What answers hold beyond RFC 6749.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Extra {
    // Of a type that no log shows.
    id_token: Option<AccessToken>,
    // Globus: a token for each further resource server.
    #[serde(default)]
    other_tokens: Vec<OtherToken>,
}

impl ExtraTokenFields for Extra {}

#[derive(Debug, Serialize, Deserialize)]
struct OtherToken {
    access_token: AccessToken,
    refresh_token: Option<RefreshToken>,
    #[serde(default)]
    scope: String,
    expires_in: Option<u64>,
}

pub(super) type Answer = StandardTokenResponse<Extra, BasicTokenType>;

/// The public client that s2uc is.
pub(super) type Client = oauth2::Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointMaybeSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

pub(super) fn client(provider: &Provider) -> Client {
    client_at(&provider.purpose.client_id, provider.authorization.as_ref(), &provider.token)
}

pub(super) fn client_at(client_id: &str, authorization: Option<&Url>, token: &Url) -> Client {
    oauth2::Client::new(ClientId::new(client_id.into()))
        .set_auth_uri_option(authorization.cloned().map(AuthUrl::from_url))
        .set_token_uri(TokenUrl::from_url(token.clone()))
}

/// One exchange, for the oauth2 crate.
pub(super) async fn send(http: HttpClient, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    Ok(http.call(request.map(Bytes::from)).await?.map(Vec::from))
}

/// Why a request was refused; `doing` says what it was for.
pub(super) fn refused<T: ErrorResponse + 'static>(
    doing: &'static str,
    issuer: &str,
    e: RequestTokenError<HttpError, T>,
) -> LoginError {
    match e {
        RequestTokenError::Request(e) => e.into(),
        RequestTokenError::ServerResponse(answer) => {
            LoginError::Refused { doing, issuer: issuer.into(), error: printable(&answer.to_string()) }
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            LoginError::Answer { doing, issuer: issuer.into() }
        }
    }
}

impl Tokens {
    /// The tokens for a purpose among those of an answer.
    pub(super) fn of(answer: &Answer, kind: Kind, purpose: &Purpose) -> Result<Self, LoginError> {
        let extra = answer.extra_fields();
        let who = extra.id_token.as_ref().and_then(|token| who(token.secret()));
        let first = Self {
            access: secret(answer.access_token().secret()),
            refresh: answer.refresh_token().map(|token| secret(token.secret())),
            scopes: answer.scopes().map(|scopes| scopes.iter().map(|scope| printable(scope)).collect()),
            expires: answer.expires_in().and_then(|left| SystemTime::now().checked_add(left)),
            who: who.clone(),
        };
        if kind == Kind::Oidc {
            return Ok(first);
        }
        let others = extra.other_tokens.iter().map(|other| Self {
            access: secret(other.access_token.secret()),
            refresh: other.refresh_token.as_ref().map(|token| secret(token.secret())),
            scopes: Some(other.scope.split_whitespace().map(printable).collect()),
            expires: other.expires_in.and_then(|left| SystemTime::now().checked_add(Duration::from_secs(left))),
            who: who.clone(),
        });
        let allows = |tokens: &Self| {
            let allowed = tokens.scopes.as_deref().unwrap_or_default();
            // Those for Globus itself (openid, email) come with another token.
            purpose.scopes.iter().filter(|scope| scope.contains("/scopes/")).all(|scope| allowed.contains(scope))
        };
        let issuer = purpose.issuer.clone();
        let found = std::iter::once(first).chain(others).find(allows);
        found.ok_or(LoginError::Missing { issuer, what: "token for this gateway's scope in its answer" })
    }
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

/// Who an ID token is about. It came over TLS from the token endpoint itself, and
/// is shown, not trusted, so its signature is not looked at (OpenID Connect Core 3.1.3.7).
fn who(id_token: &str) -> Option<String> {
    let payload = id_token.split('.').nth(1)?.replace('-', "+").replace('_', "/");
    let padded = format!("{payload}{}", "=".repeat(payload.len().wrapping_neg() % 4));
    let claims: Value = serde_json::from_slice(&openssl::base64::decode_block(&padded).ok()?).ok()?;
    let found = ["preferred_username", "email", "sub"].iter().find_map(|name| claims[name].as_str());
    found.map(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        serde_json::from_str(text).expect("an answer")
    }

    fn purpose(scopes: &[&str]) -> Purpose {
        Purpose {
            issuer: "https://login.example".into(),
            client_id: "s2uc".into(),
            resource: String::new(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
        }
    }

    const GLOBUS_ANSWER: &str = r#"{
        "access_token": "for-globus", "scope": "openid email", "resource_server": "auth.globus.org",
        "expires_in": 172800, "token_type": "Bearer", "refresh_token": null,
        "other_tokens": [{
            "access_token": "for-gateway", "refresh_token": "again", "token_type": "Bearer", "expires_in": 172800,
            "scope": "https://auth.globus.org/scopes/ID/scistream", "resource_server": "ID"
        }]
    }"#;

    #[test]
    fn the_gateways_token_is_found_among_others() {
        use secrecy::ExposeSecret;
        let scope = "https://auth.globus.org/scopes/ID/scistream";
        let tokens = Tokens::of(&answer(GLOBUS_ANSWER), Kind::Globus, &purpose(&[scope, "openid"])).expect("found");
        assert_eq!(tokens.access.expose_secret(), "for-gateway");
        assert_eq!(tokens.refresh.expect("given").expose_secret(), "again");
        let other = purpose(&["https://auth.globus.org/scopes/OTHER/scistream"]);
        Tokens::of(&answer(GLOBUS_ANSWER), Kind::Globus, &other).expect_err("a token for somebody else");
    }

    #[test]
    fn no_debug_text_holds_a_token() {
        let answer = answer(GLOBUS_ANSWER);
        let scope = "https://auth.globus.org/scopes/ID/scistream";
        let tokens = Tokens::of(&answer, Kind::Globus, &purpose(&[scope])).expect("found");
        let text = format!("{answer:?} {tokens:?}");
        for token in ["for-globus", "for-gateway", "again"] {
            assert!(!text.contains(token), "{text}");
        }
    }

    #[test]
    fn an_id_token_tells_who() {
        // {"alg":"none"}.{"sub":"1","email":"a@b"}
        assert_eq!(who("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIiwiZW1haWwiOiJhQGIifQ.").as_deref(), Some("a@b"));
        for nonsense in ["", "a.b", "a.!.c", "a.e30.c"] {
            assert_eq!(who(nonsense), None, "{nonsense}");
        }
    }
}
