//! Asks an authorization server what it thinks of a token (RFC 7662).

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use openssl::base64;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::claims::{Demands, Flaw, Verdict};
use super::endpoint::Endpoint;
use super::{JudgeError, Token};
use crate::causes::causes;
use crate::http::HttpClient;

/// A provider that is asked about each token.
#[derive(Debug)]
pub(super) struct Introspection {
    pub(super) endpoint: Endpoint,
    pub(super) client_id: String,
    pub(super) client_secret: SecretString,
    /// Globus tells linked identities when it is asked to.
    pub(super) include: Option<&'static str>,
    pub(super) demands: Demands,
    pub(super) http: HttpClient,
}

/// Errors that mean the token, and not us: an authorization server that also makes
/// JWTs may not introspect those.
const NOT_ITS_TOKEN: &str = "unsupported_token_type";

impl Introspection {
    pub(super) async fn judge(&self, token: &Token) -> Result<Verdict, JudgeError> {
        let claims = self.ask(token).await?;
        // Nothing else may be assumed of a token that is not (section 2.2).
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Err(Flaw::Inactive.into());
        }
        Ok(self.demands.judge(&claims)?)
    }

    async fn ask(&self, token: &Token) -> Result<Map<String, Value>, JudgeError> {
        let silent = |why: String| JudgeError::Silent { provider: self.demands.provider.clone(), why };
        let endpoint = self.endpoint.get(&self.http).await.map_err(|e| silent(format!("failed to {}", causes(&e))))?;
        let request = self.request(&endpoint, token).map_err(|e| silent(e.to_string()))?;
        let answer = self.http.call(request).await.map_err(|e| silent(format!("failed to {}", causes(&e))))?;
        let body: Option<Map<String, Value>> = serde_json::from_slice(answer.body()).ok();
        match (answer.status(), body) {
            (StatusCode::OK, Some(claims)) => Ok(claims),
            (StatusCode::OK, None) => Err(silent("its answer is no JSON object".into())),
            (StatusCode::BAD_REQUEST, Some(error)) if error.get("error") == Some(&Value::from(NOT_ITS_TOKEN)) => {
                Err(Flaw::Form("it is of a kind that the provider does not introspect".into()).into())
            }
            (status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => {
                Err(silent(format!("it answers {status}: are client_id and client_secret right?")))
            }
            (status, _) => Err(silent(format!("it answers {status}"))),
        }
    }

    fn request(&self, endpoint: &str, token: &Token) -> Result<Request<Bytes>, http::Error> {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token.expose()).append_pair("token_type_hint", "access_token");
        if let Some(include) = self.include {
            form.append_pair("include", include);
        }
        // RFC 6749 section 2.3.1: both are form-encoded before they are joined.
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(&self.client_id), encoded(self.client_secret.expose_secret()));
        let mut credentials = HeaderValue::try_from(format!("Basic {}", base64::encode_block(pair.as_bytes())))?;
        credentials.set_sensitive(true);
        Request::post(endpoint)
            .header(AUTHORIZATION, credentials)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form.finish()))
    }
}
