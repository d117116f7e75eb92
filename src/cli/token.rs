//! Which token a command sends to which gateway.

use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::gateway::Failure;
use crate::client::{Gateway, NO_TOKEN, Security};
use crate::login::{LoginError, Provider, Purpose, Store, fresh_token};
use crate::session::{Endpoint, Host};

/// The variable that holds a token, for batch jobs.
const VARIABLE: &str = "SCISTREAM_TOKEN";

/// Whose token is sent.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenChoice {
    /// A file with the access token to send [default: what the variable SCISTREAM_TOKEN holds,
    /// else the token that s2uc login got for this gateway]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The Globus client of a gateway that does not tell where to log in: the deployed release's
    #[arg(long, value_name = "ID")]
    scope: Option<String>,
}

/// A token, and how sure we are of whom it goes to.
enum Found {
    /// The gateway is known to take it as RFC 6750 has it, and who made it is known.
    ForIt(SecretString, String),
    /// The user says so; the gateway may run any release.
    Given(SecretString),
}

impl TokenChoice {
    /// The gateway, with the token that is there for it.
    pub(super) async fn attached(
        &self,
        gateway: Gateway,
        address: &Endpoint,
        security: &Security,
    ) -> Result<Gateway, Failure> {
        let Some(found) = self.found(address).await? else { return Ok(gateway) };
        if matches!(security, Security::Plain) && !is_this_host(&address.host) {
            return Err(Failure::usage(format!("no token is sent to {address} without TLS; leave out --ssl=False")));
        }
        match found {
            Found::ForIt(token, issuer) => {
                let gateway = gateway.with_token(token.expose_secret()).map_err(|_| unsendable())?;
                gateway.with_issuer(&issuer).map_err(|_| unsendable())
            }
            Found::Given(token) => given(gateway, token.expose_secret()).await,
        }
    }

    async fn found(&self, address: &Endpoint) -> Result<Option<Found>, Failure> {
        if let Some(token) = self.explicit()? {
            return Ok(Some(Found::Given(token)));
        }
        let store = match Store::of_user() {
            Ok(store) => store,
            Err(e @ LoginError::NoFolder) => {
                tracing::debug!("no token is looked for: failed to {e}");
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        if let Some(id) = &self.scope
            && let Some(token) = fresh_token(&store, &Purpose::of(&Provider::globus_login(id))).await?
        {
            return Ok(Some(Found::Given(token)));
        }
        // Only one for which somebody has said so: what a gateway asks for, another may have the right to.
        match store.read().await?.login_for(&address.to_string()) {
            Some(entry) => {
                let issuer = entry.purpose.issuer.clone();
                Ok(fresh_token(&store, &entry.purpose).await?.map(|token| Found::ForIt(token, issuer)))
            }
            None => Ok(None),
        }
    }

    fn explicit(&self) -> Result<Option<SecretString>, Failure> {
        let text = match &self.token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| Failure::usage(format!("--token-file: failed to read {}: {e}", path.display())))?,
            None => match std::env::var(VARIABLE) {
                Ok(text) => text,
                Err(_) => return Ok(None),
            },
        };
        match text.trim() {
            "" => Err(Failure::usage("the token is empty: --token-file, or the variable SCISTREAM_TOKEN")),
            token => Ok(Some(SecretString::from(token))),
        }
    }
}

/// The gateway with a token that the user has for it, in the form that its release takes.
pub(super) async fn given(gateway: Gateway, token: &str) -> Result<Gateway, Failure> {
    if token == NO_TOKEN {
        return Ok(gateway);
    }
    let with = if gateway.is_deployed_release().await? { Gateway::with_bare_token } else { Gateway::with_token };
    with(gateway, token).map_err(|_| unsendable())
}

fn unsendable() -> Failure {
    Failure::usage("the token holds characters that cannot be sent")
}

fn is_this_host(host: &Host) -> bool {
    match host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => name == "localhost",
    }
}
