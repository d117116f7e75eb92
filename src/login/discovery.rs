//! Finds a provider's endpoints by its metadata (RFC 8414, OpenID Connect Discovery).

use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use url::Url;

use super::LoginError;
use super::error::printable;
use super::provider::{Provider, secure};
use crate::http::HttpClient;

/// What we need of it.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Fills in what the issuer's metadata says.
pub(super) async fn discover(mut provider: Provider, http: &HttpClient) -> Result<Provider, LoginError> {
    let metadata = metadata(provider.issuer(), http).await?;
    let endpoint = |what, address: Option<&String>| address.map(|address| secure(what, address)).transpose();
    let token = endpoint("token endpoint", metadata.token_endpoint.as_ref())?;
    let missing = || LoginError::Missing { issuer: provider.issuer().into(), what: "token endpoint" };
    provider.token = token.ok_or_else(missing)?;
    provider.authorization = endpoint("authorization endpoint", metadata.authorization_endpoint.as_ref())?;
    provider.device = endpoint("device authorization endpoint", metadata.device_authorization_endpoint.as_ref())?;
    provider.revocation = endpoint("revocation endpoint", metadata.revocation_endpoint.as_ref())?;
    provider.tells_issuer = metadata.authorization_response_iss_parameter_supported;
    Ok(provider)
}

async fn metadata(issuer: &str, http: &HttpClient) -> Result<Metadata, LoginError> {
    let mut status = 0;
    for place in places(issuer)? {
        let request = Request::get(place.as_str()).body(Bytes::new());
        let request = request.map_err(|_| LoginError::Insecure { what: "issuer", address: printable(issuer) })?;
        let answer = http.call(request).await?;
        status = answer.status().as_u16();
        if let Some(metadata) = serde_json::from_slice::<Metadata>(answer.body()).ok().filter(|_| status == 200) {
            if metadata.issuer == issuer {
                return Ok(metadata);
            }
            return Err(LoginError::OtherIssuer { issuer: issuer.into(), told: printable(&metadata.issuer) });
        }
    }
    Err(LoginError::Metadata { issuer: issuer.into(), status })
}

/// Where it may be: behind the issuer's path, or (RFC 8414 section 3) before it.
fn places(issuer: &str) -> Result<[Url; 2], LoginError> {
    let url = secure("issuer", issuer)?;
    let path = url.path().trim_end_matches('/').to_owned();
    Ok([format!("{path}/.well-known/openid-configuration"), format!("/.well-known/oauth-authorization-server{path}")]
        .map(|path| {
            let mut place = url.clone();
            place.set_path(&path);
            place
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_both_standards_put_it() {
        let found = |issuer| places(issuer).expect("an issuer").map(String::from);
        let realm = found("https://login.example/realms/egi");
        assert_eq!(realm[0], "https://login.example/realms/egi/.well-known/openid-configuration");
        assert_eq!(realm[1], "https://login.example/.well-known/oauth-authorization-server/realms/egi");
        assert_eq!(found("https://login.example/")[0], "https://login.example/.well-known/openid-configuration");
    }
}
