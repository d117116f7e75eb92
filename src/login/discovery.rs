//! Fills in a provider's endpoints from its metadata.

use serde_json::Value;

use super::LoginError;
use super::provider::Provider;
use crate::http::HttpClient;
use crate::issuer::{metadata, secure};

/// Fills in what the issuer's metadata says.
pub(super) async fn discover(mut provider: Provider, http: &HttpClient) -> Result<Provider, LoginError> {
    let metadata = metadata(provider.issuer(), http).await?;
    let endpoint = |what, key: &str| metadata.get(key).and_then(Value::as_str).map(|url| secure(what, url)).transpose();
    let missing = || LoginError::Missing { issuer: provider.issuer().into(), what: "token endpoint" };
    provider.token = endpoint("token endpoint", "token_endpoint")?.ok_or_else(missing)?;
    provider.authorization = endpoint("authorization endpoint", "authorization_endpoint")?;
    provider.device = endpoint("device authorization endpoint", "device_authorization_endpoint")?;
    provider.revocation = endpoint("revocation endpoint", "revocation_endpoint")?;
    provider.tells_issuer = metadata.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true));
    Ok(provider)
}
