//! A login in a browser: the address to open, and what becomes of the code
//! that comes back (RFC 6749 section 4.1, with PKCE, RFC 7636).

use std::borrow::Cow;

use oauth2::{AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope};
use openssl::memcmp;
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};

use super::exchange::{Tokens, client, refused, send};
use super::provider::Kind;
use super::{LoginError, Provider};
use crate::http::HttpClient;
use crate::shown::printable;

/// A login that has begun.
#[derive(Debug)]
pub struct Authorization {
    provider: Provider,
    redirect: Url,
    address: Url,
    state: CsrfToken,
    verifier: PkceCodeVerifier,
}

impl Authorization {
    /// Begins one that comes back to this address.
    ///
    /// # Errors
    /// The provider has no page to log in.
    pub fn begin(provider: &Provider, redirect: Url) -> Result<Self, LoginError> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let client = client(provider);
        let missing = |_| LoginError::Missing { issuer: provider.issuer().into(), what: "authorization endpoint" };
        let mut request = client
            .authorize_url(CsrfToken::new_random)
            .map_err(missing)?
            .set_redirect_uri(Cow::Owned(RedirectUrl::from_url(redirect.clone())))
            .set_pkce_challenge(challenge)
            .add_scopes(provider.purpose.scopes.iter().cloned().map(Scope::new));
        if !provider.purpose.resource.is_empty() {
            request = request.add_extra_param("resource", provider.purpose.resource.as_str());
        }
        match provider.kind {
            Kind::Globus => {
                request = request.add_extra_param("access_type", "offline").add_extra_param("prompt", "login")
            }
            // OpenID Connect Core section 11: without it, offline_access is ignored.
            Kind::Oidc if provider.purpose.scopes.iter().any(|scope| scope == "offline_access") => {
                request = request.add_extra_param("prompt", "consent");
            }
            Kind::Oidc => {}
        }
        let (address, state) = request.url();
        Ok(Self { provider: provider.clone(), redirect, address, state, verifier })
    }

    /// What the person opens.
    #[must_use]
    pub fn address(&self) -> &Url {
        &self.address
    }

    /// The code in the query that the browser came back with.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn code_in(&self, query: &str) -> Result<SecretString, LoginError> {
        let value = |name: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value)
        };
        let issuer = self.provider.issuer();
        let (state, ours) = (value("state").unwrap_or_default(), self.state.secret());
        if state.len() != ours.len() || !memcmp::eq(state.as_bytes(), ours.as_bytes()) {
            return Err(LoginError::State);
        }
        // RFC 9207 section 2.4: checked when it is there, missed when it was promised.
        let told = value("iss");
        if told.as_deref().map_or(self.provider.tells_issuer, |told| told != issuer) {
            let told = told.map_or("somebody who does not say who it is".into(), |told| printable(&told));
            return Err(LoginError::Mixed { issuer: issuer.into(), told });
        }
        if let Some(error) = value("error") {
            let error = match value("error_description") {
                Some(why) => printable(&format!("{error}: {why}")),
                None => printable(&error),
            };
            return Err(LoginError::Refused { doing: "log in", issuer: issuer.into(), error });
        }
        value("code").filter(|code| !code.is_empty()).map(|code| SecretString::from(&*code)).ok_or(LoginError::NoCode)
    }

    /// The code in what a person copied: the code itself, from the provider's page for
    /// codes, or the address at which the browser found nobody.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn code_of_pasted(&self, text: &str) -> Result<SecretString, LoginError> {
        let text = text.trim();
        match Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")) {
            Some(url) => self.code_in(url.query().unwrap_or_default()),
            // A page for codes shows no state; PKCE binds the code to us.
            None if self.provider.paste.is_some() && is_code(text) => Ok(SecretString::from(text)),
            None => Err(LoginError::NoCode),
        }
    }

    /// Exchanges the code for tokens.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn redeem(self, http: &HttpClient, code: &SecretString) -> Result<Tokens, LoginError> {
        let purpose = &self.provider.purpose;
        let client = client(&self.provider);
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.expose_secret().into()))
            .set_pkce_verifier(self.verifier)
            .set_redirect_uri(Cow::Owned(RedirectUrl::from_url(self.redirect)));
        if !purpose.resource.is_empty() {
            request = request.add_extra_param("resource", purpose.resource.as_str());
        }
        let answer = request.request_async(&|request| send(http.clone(), request)).await;
        let answer = answer.map_err(|e| refused("exchange the code for a token", &purpose.issuer, e))?;
        Tokens::of(&answer, self.provider.kind, purpose)
    }
}

/// RFC 6749 appendix A.11: printable characters.
fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use scistream_proto::gateway::Login;

    use super::*;

    async fn begun(login: Login) -> Authorization {
        let http = HttpClient::new(None).expect("TLS");
        let provider = Provider::find(&login, &http).await.expect("known");
        let redirect = Url::parse("http://127.0.0.1:4000/").expect("an address");
        Authorization::begin(&provider, redirect).expect("begun")
    }

    fn site() -> Login {
        Login {
            kind: "oidc".into(),
            issuer: "https://login.example".into(),
            client_id: "s2uc".into(),
            scopes: vec!["scistream".into(), "offline_access".into()],
            resource: "https://gw.example/".into(),
            authorization_endpoint: "https://login.example/auth".into(),
            token_endpoint: "https://login.example/token".into(),
            ..Login::default()
        }
    }

    #[tokio::test]
    async fn the_address_asks_for_what_the_gateway_wants() {
        let begun = begun(site()).await;
        let asked: std::collections::HashMap<_, _> = begun.address().query_pairs().into_owned().collect();
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "s2uc"),
            ("scope", "offline_access scistream"),
            ("resource", "https://gw.example/"),
            ("prompt", "consent"),
            ("code_challenge_method", "S256"),
            ("redirect_uri", "http://127.0.0.1:4000/"),
        ] {
            assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(asked["code_challenge"].len(), 43);
        assert!(asked["state"].len() >= 22, "{}", asked["state"]);
        let globus = self::begun(Provider::globus_login("ID")).await;
        assert!(globus.address().as_str().contains("access_type=offline"));
    }

    #[tokio::test]
    async fn an_answer_is_believed_only_when_it_is_ours() {
        let begun = begun(site()).await;
        let state = begun.state.secret().clone();
        let code = |query: &str| begun.code_in(query).map(|code| code.expose_secret().to_owned());
        assert_eq!(code(&format!("code=abc&state={state}")).expect("ours"), "abc");
        assert_eq!(code(&format!("code=a&state={state}&iss=https%3A%2F%2Flogin.example")).expect("ours"), "a");
        for wrong in ["code=abc", "code=abc&state=other", "", "error=access_denied"] {
            assert!(matches!(code(wrong), Err(LoginError::State)), "{wrong}");
        }
        let mixed = code(&format!("code=abc&state={state}&iss=https%3A%2F%2Fevil.example"));
        assert!(matches!(mixed, Err(LoginError::Mixed { .. })), "{mixed:?}");
        let denied = code(&format!("error=access_denied&error_description=no%1b%5B2J&state={state}"));
        assert_eq!(denied.expect_err("denied").to_string(), "log in at https://login.example: access_denied: no[2J");
        assert!(matches!(code(&format!("state={state}")), Err(LoginError::NoCode)));
    }

    #[tokio::test]
    async fn a_promised_issuer_is_missed() {
        let mut begun = begun(site()).await;
        begun.provider.tells_issuer = true;
        let query = format!("code=abc&state={}", begun.state.secret());
        assert!(matches!(begun.code_in(&query), Err(LoginError::Mixed { .. })));
    }

    #[tokio::test]
    async fn what_people_paste_is_a_code_or_an_address() {
        let site = begun(site()).await;
        let address = format!(" http://127.0.0.1:4000/?code=abc&state={}\n", site.state.secret());
        assert_eq!(site.code_of_pasted(&address).expect("an address").expose_secret(), "abc");
        // Without its state a code may be anybody's.
        for wrong in ["abc", "", "http://127.0.0.1:4000/?code=abc"] {
            site.code_of_pasted(wrong).expect_err(wrong);
        }
        let globus = begun(Provider::globus_login("ID")).await;
        assert_eq!(globus.code_of_pasted(" abc-_d \n").expect("a code").expose_secret(), "abc-_d");
        for wrong in ["", "two words", "\u{e9}"] {
            assert!(matches!(globus.code_of_pasted(wrong), Err(LoginError::NoCode)), "{wrong}");
        }
    }
}
