//! Where a provider's endpoints are: as the operator says, or as its metadata say.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::http::{HttpClient, HttpError};

/// Metadata that do not tell what they should.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The address is none.
    #[error("make a request to {url}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: http::Error,
    },
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Another answer than metadata.
    #[error("find the metadata of {issuer}: {why}")]
    Metadata {
        /// Whose.
        issuer: String,
        /// What came instead.
        why: String,
    },
}

/// The two places where metadata lie: OpenID Connect Discovery 1.0 section 4 and
/// RFC 8414 section 3, the second for issuers without a path.
const PLACES: [&str; 2] = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];

/// Reads an issuer's metadata, and checks that they are its own.
///
/// # Errors
/// [`DiscoveryError`]
pub async fn metadata(http: &HttpClient, issuer: &str) -> Result<Map<String, Value>, DiscoveryError> {
    let fault = |why: String| DiscoveryError::Metadata { issuer: issuer.to_owned(), why };
    let mut last = None;
    for place in PLACES {
        let (status, body) = get(http, &format!("{}{place}", issuer.trim_end_matches('/'))).await?;
        match serde_json::from_slice::<Map<String, Value>>(&body) {
            // RFC 8414 section 3.3: another's metadata are not to be used.
            Ok(found) if status == StatusCode::OK && found.get("issuer") == Some(&Value::from(issuer)) => {
                return Ok(found);
            }
            Ok(_) if status == StatusCode::OK => last = Some(fault("they are another issuer's".into())),
            _ => last = last.or(Some(fault(format!("it answers {status}")))),
        }
    }
    Err(last.unwrap_or_else(|| fault("there are none".into())))
}

/// Reads what lies at an address.
///
/// # Errors
/// [`DiscoveryError`]
pub async fn get(http: &HttpClient, url: &str) -> Result<(StatusCode, Bytes), DiscoveryError> {
    let address = |source| DiscoveryError::Address { url: url.to_owned(), source };
    let request = Request::get(url).header("accept", "application/json").body(Bytes::new()).map_err(address)?;
    let answer = http.call(request).await?;
    Ok((answer.status(), answer.into_body()))
}

/// An endpoint that is known, or is looked for when it is first needed.
#[derive(Debug)]
pub(super) struct Endpoint {
    issuer: Option<String>,
    name: &'static str,
    known: OnceCell<Arc<str>>,
}

impl Endpoint {
    /// The endpoint of that name in the metadata of `issuer`, unless it is given.
    pub(super) fn new(name: &'static str, given: Option<String>, issuer: Option<String>) -> Self {
        let known = given.map(|url| OnceCell::from(Arc::from(url))).unwrap_or_default();
        Self { issuer, name, known }
    }

    /// Its address. A failure to find it is forgotten, and the next call looks again.
    pub(super) async fn get(&self, http: &HttpClient) -> Result<Arc<str>, DiscoveryError> {
        let find = async {
            let issuer = self.issuer.as_deref().unwrap_or_default();
            let found = metadata(http, issuer).await?;
            let why = || DiscoveryError::Metadata {
                issuer: issuer.to_owned(),
                why: format!("they name no {}; set it in the configuration", self.name),
            };
            Ok(Arc::from(found.get(self.name).and_then(Value::as_str).ok_or_else(why)?))
        };
        self.known.get_or_try_init(|| find).await.cloned()
    }
}
