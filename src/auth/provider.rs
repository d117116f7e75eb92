//! Providers as operators write them, `[[provider]]` in the configuration file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::Authenticator;
use super::authenticator::{Provider, Way};
use super::certificate::CERTIFICATE;
use super::claims::Demands;
use super::endpoint::Endpoint;
use super::introspection::Introspection;
use super::jwt::JwtTokens;
use super::keys::Keys;
use crate::credentials;
use crate::http::HttpClient;
use crate::issuer::secure;
use crate::tls::TlsError;

/// A provider, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// What rules and logs call it; its kind by default.
    pub name: Option<String>,
    /// How its tokens are judged: introspection (the default), jwt or globus.
    #[serde(default)]
    pub kind: Kind,
    /// Who it says it is, a URL; where its endpoints are found (RFC 8414).
    pub issuer: Option<String>,
    /// Where it is asked about tokens, if its metadata do not say.
    pub introspection_endpoint: Option<String>,
    /// Where its keys are, if its metadata do not say.
    pub jwks_uri: Option<String>,
    /// What it calls this gateway.
    pub client_id: Option<String>,
    /// The file with the secret that goes with it; a bare name is a credential of systemd's.
    pub client_secret_file: Option<PathBuf>,
    /// Tokens must be made for one of these; the gateway's client id by default, empty for whomever.
    pub audience: Option<Vec<String>>,
    /// All of these must be in a token.
    pub scopes: Option<Vec<String>>,
    /// The claim with the lasting name of a caller; `sub` by default.
    pub subject_claim: Option<String>,
    /// Claims with names that people know and the provider vouches for; `username` by default.
    pub name_claims: Option<Vec<String>>,
    /// The claim with the groups of a caller; `groups` by default.
    pub groups_claim: Option<String>,
    /// Whether a JWT must say that it is an access token (`typ` at+jwt); true by default.
    pub strict_type: Option<bool>,
    /// Certificates that are trusted besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// The public client that s2uc is there.
    pub login_client_id: Option<String>,
    /// What s2uc asks for; the scopes above by default.
    pub login_scopes: Option<Vec<String>>,
    /// For whom s2uc asks it (RFC 8707); for nobody in particular by default.
    pub login_resource: Option<String>,
}

/// How a provider's tokens are judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Globus Auth: introspection, with its endpoints and habits known.
    Globus,
    /// The provider is asked about each token (RFC 7662).
    #[default]
    Introspection,
    /// Tokens are signed by the provider (RFC 9068).
    Jwt,
}

/// Where people log in, for those who ask the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The provider's name.
    pub provider: String,
    /// Whether it is Globus, which has habits of its own.
    pub globus: bool,
    /// Who it says it is.
    pub issuer: String,
    /// The public client that s2uc is.
    pub client_id: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// For whom.
    pub resource: String,
}

/// The providers of a gateway, checked.
#[derive(Debug, Clone, Default)]
pub struct Providers(Vec<Checked>);

#[derive(Debug, Clone)]
struct Checked {
    name: String,
    kind: Kind,
    issuer: Option<String>,
    endpoint: Option<String>,
    client_id: String,
    client_secret: SecretString,
    demands: Demands,
    strict_type: bool,
    ca_file: Option<PathBuf>,
    login: Option<Login>,
}

const GLOBUS: &str = "https://auth.globus.org";
/// The public client of the deployed release's s2uc at Globus.
const GLOBUS_S2UC: &str = "4787c84e-9c55-4881-b941-cb6720cea11c";

impl ProviderSettings {
    /// What the deployed release's switches mean.
    #[must_use]
    pub fn globus(client_id: String) -> Self {
        Self { kind: Kind::Globus, client_id: Some(client_id), ..Self::default() }
    }
}

impl Providers {
    /// Checks them all; pushes a fault for each thing that is wrong, and a note for
    /// what the operator should know. `given` is the secret of the first, where it
    /// was said on the command line.
    pub fn check(
        settings: Vec<ProviderSettings>,
        given: Option<SecretString>,
        notes: &mut Vec<String>,
        faults: &mut Vec<String>,
    ) -> Self {
        let mut given = given;
        let mut checked: Vec<Checked> = Vec::new();
        for settings in settings {
            let one = Checked::new(settings, given.take(), notes, faults);
            if checked.iter().any(|other| other.name == one.name) {
                faults.push(format!("two providers are named {}; give one another name", one.name));
            }
            checked.push(one);
        }
        Self(checked)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|provider| provider.name.clone()).collect()
    }

    /// Their names, who they say they are, and what is trusted besides the system's.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, &str, Option<&Path>)> {
        let issued = self.0.iter().filter_map(|provider| provider.issuer.as_deref().map(|issuer| (provider, issuer)));
        issued.map(|(provider, issuer)| (provider.name.as_str(), issuer, provider.ca_file.as_deref()))
    }

    /// What tokens are for, in the words of the deployed release.
    #[must_use]
    pub fn scope(&self) -> String {
        self.0.first().map(|provider| provider.client_id.clone()).unwrap_or_default()
    }

    /// Where people log in.
    #[must_use]
    pub fn logins(&self) -> Vec<Login> {
        self.0.iter().filter_map(|provider| provider.login.clone()).collect()
    }

    /// Begins to judge tokens, in the runtime of the caller. `claims` are those that
    /// the policy asks about.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn authenticator(&self, claims: &BTreeSet<String>) -> Result<Authenticator, TlsError> {
        let providers = self.0.iter().map(|provider| provider.begin(claims));
        Ok(Authenticator::new(providers.collect::<Result<_, _>>()?))
    }
}

impl Checked {
    fn new(
        settings: ProviderSettings,
        given: Option<SecretString>,
        notes: &mut Vec<String>,
        faults: &mut Vec<String>,
    ) -> Self {
        let kind = settings.kind;
        let is_globus = kind == Kind::Globus;
        let name = settings.name.clone().unwrap_or_else(|| kind.word().into());
        let mut fault = |what: String| faults.push(format!("[[provider]] {name}: {what}"));
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !plain || name == CERTIFICATE {
            fault("name may hold letters, digits and - _ . only, and must not be certificate".into());
        }
        let issuer = settings.issuer.clone().or(is_globus.then(|| GLOBUS.into()));
        let endpoint = match kind {
            Kind::Globus => issuer.as_ref().map(|base| format!("{base}/v2/oauth2/token/introspect")),
            Kind::Introspection => settings.introspection_endpoint.clone(),
            Kind::Jwt => settings.jwks_uri.clone(),
        };
        if issuer.is_none() && (endpoint.is_none() || kind == Kind::Jwt) {
            fault("issuer is missing".into());
        }
        for (key, url) in [("issuer", &issuer), ("its endpoint", &endpoint)] {
            if let Some(url) = url
                && secure(key, url).is_err()
            {
                fault(format!("{key} must be an https:// address, not {url:?}"));
            }
        }
        let client_id = settings.client_id.clone().unwrap_or_default();
        let mut client_secret = SecretString::default();
        if kind != Kind::Jwt {
            if client_id.is_empty() {
                fault("client_id is missing: what the provider calls this gateway".into());
            }
            match (given, &settings.client_secret_file) {
                (Some(secret), _) => client_secret = secret,
                (None, Some(path)) => match read_secret(path) {
                    Ok((secret, is_open)) => {
                        client_secret = secret;
                        if is_open {
                            notes.push(format!("{} can be read by others; chmod 600 it", path.display()));
                        }
                    }
                    Err(why) => fault(format!("client_secret_file {}: {why}", path.display())),
                },
                (None, None) => fault("client_secret_file is missing: where the secret of client_id is".into()),
            }
        }
        let audience = settings.audience.unwrap_or_else(|| vec![client_id.clone()]);
        if kind == Kind::Jwt && audience.iter().all(String::is_empty) {
            fault("audience is missing: what tokens for this gateway are made for".into());
        }
        let globus_scope = || vec![format!("{GLOBUS}/scopes/{client_id}/scistream")];
        let scopes = settings.scopes.unwrap_or_else(|| if is_globus { globus_scope() } else { vec![] });
        let login_client = settings.login_client_id.or(is_globus.then(|| GLOBUS_S2UC.into()));
        let login = login_client.zip(issuer.clone()).map(|(client_id, issuer)| Login {
            provider: name.clone(),
            globus: is_globus,
            issuer,
            client_id,
            scopes: settings.login_scopes.unwrap_or_else(|| scopes.clone()),
            resource: settings.login_resource.unwrap_or_default(),
        });
        let demands = Demands {
            provider: name.clone(),
            audience,
            scopes,
            // Globus tokens are known by the endpoint that knows them; it names itself in several ways.
            issuer: issuer.clone().filter(|_| !is_globus),
            subject_claim: settings.subject_claim.unwrap_or_else(|| "sub".into()),
            name_claims: settings.name_claims.unwrap_or_else(|| vec!["username".into()]),
            groups_claim: settings.groups_claim.unwrap_or_else(|| "groups".into()),
            claims: BTreeSet::new(),
            linked: is_globus,
        };
        let (strict_type, ca_file) = (settings.strict_type.unwrap_or(true), settings.ca_file);
        Self { name, kind, issuer, endpoint, client_id, client_secret, demands, strict_type, ca_file, login }
    }

    fn begin(&self, claims: &BTreeSet<String>) -> Result<Provider, TlsError> {
        let http = HttpClient::new(self.ca_file.as_deref())?;
        let demands = Demands { claims: claims.clone(), ..self.demands.clone() };
        let endpoint = |name| Endpoint::new(name, self.endpoint.clone(), self.issuer.clone());
        let way = match self.kind {
            Kind::Jwt => {
                let keys = Keys::of(endpoint("jwks_uri"), http);
                Way::Jwt(Box::new(JwtTokens { keys, strict_type: self.strict_type, demands }))
            }
            Kind::Globus | Kind::Introspection => Way::Introspection(Box::new(Introspection {
                endpoint: endpoint("introspection_endpoint"),
                client_id: self.client_id.clone(),
                client_secret: self.client_secret.clone(),
                include: (self.kind == Kind::Globus).then_some("identity_set"),
                demands,
                http,
            })),
        };
        // What Globus makes are no JWTs, so none says that it comes from there.
        Ok(Provider { issuer: self.issuer.clone(), way })
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Globus => "globus",
            Self::Introspection => "introspection",
            Self::Jwt => "jwt",
        }
    }
}

/// Reads a secret, and tells whether others can, too.
fn read_secret(path: &Path) -> Result<(SecretString, bool), String> {
    let path = credentials::resolve(path);
    let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let mode = path.metadata().map_err(|e| e.to_string())?.permissions().mode();
    match text.trim() {
        "" => Err("it is empty".into()),
        secret => Ok((secret.into(), mode & 0o007 != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Providers, Vec<String>) {
        let settings: ProviderSettings = toml::from_str(text).expect("TOML");
        let (mut notes, mut faults) = (Vec::new(), Vec::new());
        let providers = Providers::check(vec![settings], Some("secret".into()), &mut notes, &mut faults);
        (providers, faults)
    }

    #[test]
    fn globus_needs_no_more_than_a_client() {
        let (providers, faults) = check("kind = \"globus\"\nclient_id = \"abc\"");
        assert_eq!(faults, Vec::<String>::new());
        let globus = &providers.0[0];
        assert_eq!(globus.endpoint.as_deref(), Some("https://auth.globus.org/v2/oauth2/token/introspect"));
        assert_eq!(globus.demands.scopes, ["https://auth.globus.org/scopes/abc/scistream"]);
        assert_eq!(globus.demands.audience, ["abc"]);
        assert_eq!(providers.logins()[0].client_id, GLOBUS_S2UC);
        assert_eq!(providers.scope(), "abc");
    }

    #[test]
    fn every_fault_is_told() {
        assert_eq!(check("kind = \"introspection\"").1.len(), 2, "no issuer, no client");
        assert_eq!(check("kind = \"jwt\"\nissuer = \"https://x.example\"").1.len(), 1, "no audience");
        assert_eq!(check("kind = \"jwt\"\nissuer = \"http://x.example\"\naudience = [\"a\"]").1.len(), 1, "no TLS");
        assert_eq!(check("kind = \"jwt\"\nissuer = \"http://127.0.0.1:9\"\naudience = [\"a\"]").1.len(), 0);
        assert!(toml::from_str::<ProviderSettings>("kind = \"other\"").is_err());
    }

    #[test]
    fn secrets_come_from_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs::write(&path, "the secret\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        assert!(read_secret(&path).expect("read").1, "others can read it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        let (secret, is_open) = read_secret(&path).expect("read");
        assert!(!is_open);
        assert_eq!(secrecy::ExposeSecret::expose_secret(&secret), "the secret");
        fs::write(&path, "\n").expect("written");
        assert!(read_secret(&path).is_err(), "an empty secret");
    }
}
