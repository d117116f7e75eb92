//! An endpoint of a provider's that is known, or is looked for when it is first needed.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::http::HttpClient;
use crate::issuer::{IssuerError, metadata, secure};

/// An endpoint that cannot be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    /// The metadata cannot be had.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// They do not name it.
    #[error("find the {name} of {issuer}: its metadata name none; set it in the configuration")]
    Unnamed {
        /// Which endpoint.
        name: &'static str,
        /// Whose.
        issuer: String,
    },
}

/// Where it is, as the operator says, or as the provider's metadata say.
#[derive(Debug)]
pub(super) struct Endpoint {
    issuer: String,
    name: &'static str,
    known: OnceCell<Arc<str>>,
}

impl Endpoint {
    /// The endpoint of that name in the metadata of `issuer`, unless it is given.
    pub(super) fn new(name: &'static str, given: Option<String>, issuer: Option<String>) -> Self {
        let known = given.map(|url| OnceCell::from(Arc::from(url))).unwrap_or_default();
        Self { issuer: issuer.unwrap_or_default(), name, known }
    }

    /// Its address. A failure to find it is forgotten, and the next call looks again.
    pub(super) async fn get(&self, http: &HttpClient) -> Result<Arc<str>, EndpointError> {
        let find = async {
            let found = metadata(&self.issuer, http).await?;
            let unnamed = || EndpointError::Unnamed { name: self.name, issuer: self.issuer.clone() };
            let url = found.get(self.name).and_then(Value::as_str).ok_or_else(unnamed)?;
            Ok(Arc::from(secure(self.name, url)?.as_str()))
        };
        self.known.get_or_try_init(|| find).await.cloned()
    }
}
