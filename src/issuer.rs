//! What an authorization server says of itself: its metadata (RFC 8414, OpenID
//! Connect Discovery), and which addresses secrets may be sent to.

use std::net::IpAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::DATE;
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::http::{HttpClient, HttpError};
use crate::shown::printable;

/// An authorization server that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// It gives no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An address that a secret must not be sent to.
    #[error("use the {what} {address:?}: it is not https, nor http on loopback")]
    Insecure {
        /// What it is to be.
        what: &'static str,
        /// As it was given.
        address: String,
    },
    /// No metadata.
    #[error("read the metadata of {issuer}: it answers {status}, and no JSON as RFC 8414 has it")]
    Metadata {
        /// Whose.
        issuer: String,
        /// The HTTP status.
        status: u16,
    },
    /// Metadata of somebody else (RFC 8414 section 3.3).
    #[error("trust the metadata of {issuer}: it says that it is {told}")]
    Other {
        /// Who was asked.
        issuer: String,
        /// Who answered.
        told: String,
    },
}

/// An address to which secrets may be sent: over TLS, or to this host.
///
/// # Errors
/// [`IssuerError::Insecure`]
pub fn secure(what: &'static str, address: &str) -> Result<Url, IssuerError> {
    let url = Url::parse(address).ok().filter(|url| match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    });
    url.ok_or_else(|| IssuerError::Insecure { what, address: printable(address) })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Reads an issuer's metadata, and checks that they are its own.
///
/// # Errors
/// [`IssuerError`]
pub async fn metadata(issuer: &str, http: &HttpClient) -> Result<Map<String, Value>, IssuerError> {
    metadata_with_date(issuer, http).await.map(|answered| answered.metadata)
}

/// What an issuer says of itself.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// When it was then, by its own clock (RFC 9110 section 6.6.1).
    pub date: Option<SystemTime>,
}

/// The same, and tells what time it is there.
///
/// # Errors
/// [`IssuerError`]
pub async fn metadata_with_date(issuer: &str, http: &HttpClient) -> Result<Answered, IssuerError> {
    let mut status = StatusCode::OK;
    for place in places(issuer)? {
        let answer = ask(place.as_str(), http).await?;
        status = answer.status();
        let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let found = serde_json::from_slice::<Map<String, Value>>(answer.body());
        let found = found.ok().filter(|_| status == StatusCode::OK);
        let told = found.as_ref().and_then(|found| found.get("issuer")).and_then(Value::as_str);
        match (told, found.as_ref()) {
            (Some(told), Some(found)) if told == issuer => return Ok(Answered { metadata: found.clone(), date }),
            (Some(told), _) => return Err(IssuerError::Other { issuer: issuer.into(), told: printable(told) }),
            _ => {}
        }
    }
    Err(IssuerError::Metadata { issuer: issuer.into(), status: status.as_u16() })
}

/// Reads what lies at an address.
///
/// # Errors
/// [`IssuerError`]
pub async fn get(address: &str, http: &HttpClient) -> Result<(StatusCode, Bytes), IssuerError> {
    let answer = ask(address, http).await?;
    Ok((answer.status(), answer.into_body()))
}

async fn ask(address: &str, http: &HttpClient) -> Result<Response<Bytes>, IssuerError> {
    let url = secure("address", address)?;
    let request = Request::get(url.as_str()).header("accept", "application/json").body(Bytes::new());
    let request = request.map_err(|_| IssuerError::Insecure { what: "address", address: printable(address) })?;
    Ok(http.call(request).await?)
}

/// Where metadata may be: behind the issuer's path, or (RFC 8414 section 3) before it.
fn places(issuer: &str) -> Result<[Url; 2], IssuerError> {
    let url = secure("issuer", issuer)?;
    let path = url.path().trim_end_matches('/').to_owned();
    let paths =
        [format!("{path}/.well-known/openid-configuration"), format!("/.well-known/oauth-authorization-server{path}")];
    Ok(paths.map(|path| {
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

    #[test]
    fn secrets_go_over_tls_or_stay_here() {
        for good in ["https://login.example/x", "http://127.0.0.1:9/", "http://[::1]/", "http://localhost:1"] {
            assert!(secure("issuer", good).is_ok(), "{good}");
        }
        for bad in
            ["http://login.example/", "ftp://127.0.0.1/", "login.example", "", "http://127.0.0.1.example/", "file:///x"]
        {
            assert!(secure("issuer", bad).is_err(), "{bad}");
        }
    }
}
