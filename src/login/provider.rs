//! An authorization server as a client needs it: what to ask for, and where.

use std::fmt;

use scistream_proto::gateway::Login;
use serde::{Deserialize, Serialize};
use url::Url;

use super::LoginError;
use super::discovery::discover;
use crate::http::HttpClient;
use crate::issuer::secure;
use crate::shown::printable;

/// Globus Auth, as tokens and scopes name it.
const GLOBUS: &str = "https://auth.globus.org";
/// The native client of the deployed release, which every user shares.
const GLOBUS_CLIENT: &str = "4787c84e-9c55-4881-b941-cb6720cea11c";

/// Whose habits a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Globus Auth: no metadata of its endpoints, a token for each resource server.
    Globus,
    /// OAuth 2.0 as its RFCs have it.
    Oidc,
}

/// What a token is for. Gateways with the same purpose share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// Who issues it.
    pub issuer: String,
    /// To which client.
    pub client_id: String,
    /// For which resource (RFC 8707); may be empty.
    pub resource: String,
    /// What it is to allow; sorted.
    pub scopes: Vec<String>,
}

impl Purpose {
    /// What a gateway asks for.
    #[must_use]
    pub fn of(login: &Login) -> Self {
        let mut scopes = login.scopes.clone();
        scopes.sort();
        scopes.dedup();
        let (issuer, client_id, resource) = (login.issuer.clone(), login.client_id.clone(), login.resource.clone());
        Self { issuer, client_id, resource, scopes }
    }

    /// Scopes as one word; the wire's way to list them.
    #[must_use]
    pub fn scope(&self) -> String {
        self.scopes.join(" ")
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, resource, .. } = self;
        write!(f, "{issuer}, for {}", printable(&self.scope()))?;
        if resource.is_empty() { Ok(()) } else { write!(f, " at {}", printable(resource)) }
    }
}

/// A provider whose endpoints are known.
#[derive(Debug, Clone)]
pub struct Provider {
    /// What the site calls it.
    pub name: String,
    /// Whose habits it has.
    pub kind: Kind,
    /// What it is asked for.
    pub purpose: Purpose,
    /// Where people log in.
    pub authorization: Option<Url>,
    /// Where codes and refresh tokens become tokens.
    pub token: Url,
    /// Where devices begin to log in (RFC 8628).
    pub device: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation: Option<Url>,
    /// The page that shows the code to copy.
    pub paste: Option<Url>,
    /// Its redirects say whose they are (RFC 9207).
    pub tells_issuer: bool,
}

impl Provider {
    /// What the deployed release's `--scope` means: Globus, with the scope of that resource server.
    #[must_use]
    pub fn globus_login(resource_server: &str) -> Login {
        Login {
            provider: "globus".into(),
            kind: "globus".into(),
            issuer: GLOBUS.into(),
            client_id: GLOBUS_CLIENT.into(),
            scopes: vec![format!("{GLOBUS}/scopes/{resource_server}/scistream")],
            ..Login::default()
        }
    }

    /// Finds the endpoints of what a gateway names: as it says, as is known of
    /// Globus, or as the issuer's metadata says.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn find(login: &Login, http: &HttpClient) -> Result<Self, LoginError> {
        let kind = match login.kind.as_str() {
            "globus" => Kind::Globus,
            "oidc" => Kind::Oidc,
            other => return Err(LoginError::Kind(printable(other))),
        };
        let issuer = secure("issuer", &login.issuer)?;
        let mut provider = Self {
            name: printable(&login.provider),
            kind,
            purpose: Purpose::of(login),
            authorization: None,
            token: issuer.clone(),
            device: None,
            revocation: None,
            paste: None,
            tells_issuer: false,
        };
        let named = |what, address: &str| match address {
            "" => Ok(None),
            address => of_issuer(what, address, &issuer).map(Some),
        };
        provider.paste = named("page for codes", &login.paste_redirect_uri)?;
        let token = named("token endpoint", &login.token_endpoint)?;
        if kind == Kind::Oidc && token.is_none() {
            return discover(provider, http).await;
        }
        let globus = |what, path| match kind {
            Kind::Globus => of_issuer(what, &format!("{}{path}", login.issuer), &issuer).map(Some),
            Kind::Oidc => Ok(None),
        };
        let either = |what, address: &str, path| Ok::<_, LoginError>(named(what, address)?.or(globus(what, path)?));
        provider.token = either("token endpoint", &login.token_endpoint, "/v2/oauth2/token")?.unwrap_or(issuer.clone());
        provider.authorization =
            either("authorization endpoint", &login.authorization_endpoint, "/v2/oauth2/authorize")?;
        provider.revocation = either("revocation endpoint", &login.revocation_endpoint, "/v2/oauth2/token/revoke")?;
        provider.device = named("device authorization endpoint", &login.device_authorization_endpoint)?;
        // Its native clients have no loopback redirect registered.
        provider.paste = provider.paste.or(globus("page for codes", "/v2/web/auth-code")?);
        Ok(provider)
    }

    /// Who it says it is.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.purpose.issuer
    }
}

/// An address to which secrets may be sent, at the issuer's own host. A gateway could else send people's codes
/// elsewhere while they log in at a server that they trust.
fn of_issuer(what: &'static str, address: &str, issuer: &Url) -> Result<Url, LoginError> {
    let url = secure(what, address)?;
    if url.origin() == issuer.origin() {
        return Ok(url);
    }
    Err(LoginError::Foreign { what, address: printable(address), issuer: printable(issuer.as_str()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> HttpClient {
        HttpClient::new(None).expect("TLS")
    }

    #[tokio::test]
    async fn globus_is_known_by_heart() {
        let login = Provider::globus_login("c42c0dac-0a52-408e-a04f-5d31bfe0aef8");
        let provider = Provider::find(&login, &http()).await.expect("known");
        assert_eq!(provider.purpose.scope(), format!("{GLOBUS}/scopes/c42c0dac-0a52-408e-a04f-5d31bfe0aef8/scistream"));
        assert_eq!(provider.token.as_str(), "https://auth.globus.org/v2/oauth2/token");
        let text = |url: Option<Url>| url.map(String::from).unwrap_or_default();
        assert_eq!(text(provider.authorization), "https://auth.globus.org/v2/oauth2/authorize");
        assert_eq!(text(provider.revocation), "https://auth.globus.org/v2/oauth2/token/revoke");
        assert_eq!(text(provider.paste), "https://auth.globus.org/v2/web/auth-code");
        assert!(provider.device.is_none());
    }

    #[tokio::test]
    async fn endpoints_elsewhere_are_not_believed() {
        let issuer = "https://login.example".to_owned();
        for endpoint in ["https://evil.example/token", "http://login.example/token", "https://login.example:444/token"]
        {
            let login = Login {
                kind: "oidc".into(),
                issuer: issuer.clone(),
                token_endpoint: endpoint.into(),
                ..Login::default()
            };
            Provider::find(&login, &http()).await.expect_err(endpoint);
        }
        for issuer in ["http://login.example", "ftp://login.example", "login.example", ""] {
            let login = Login { kind: "oidc".into(), issuer: issuer.into(), ..Login::default() };
            let refused = Provider::find(&login, &http()).await.expect_err(issuer);
            assert!(matches!(refused, LoginError::Issuer(_)), "{refused}");
        }
        let login = Login { kind: "kerberos\u{1b}[2J".into(), issuer, ..Login::default() };
        let refused = Provider::find(&login, &http()).await.expect_err("unknown").to_string();
        assert!(refused.contains("kerberos[2J"), "{refused}");
    }

    #[test]
    fn the_order_of_scopes_does_not_make_another_purpose() {
        let login =
            |scopes: &[&str]| Login { scopes: scopes.iter().map(ToString::to_string).collect(), ..Login::default() };
        assert_eq!(Purpose::of(&login(&["b", "a", "b"])), Purpose::of(&login(&["a", "b"])));
        assert_ne!(Purpose::of(&login(&["a"])), Purpose::of(&login(&["a", "b"])));
    }
}
