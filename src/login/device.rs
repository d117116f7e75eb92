//! A login on another device, by a short code (RFC 8628).

use std::time::Duration;

use oauth2::{DeviceAuthorizationUrl, Scope, StandardDeviceAuthorizationResponse};
use tokio::time::sleep;

use super::exchange::{Tokens, client, refused, send};
use super::{LoginError, Provider};
use crate::http::HttpClient;
use crate::shown::printable;

/// A login that waits for somebody to confirm it.
#[derive(Debug)]
pub struct Device {
    provider: Provider,
    answer: StandardDeviceAuthorizationResponse,
}

impl Device {
    /// Begins one.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn begin(provider: &Provider, http: &HttpClient) -> Result<Self, LoginError> {
        let missing = || LoginError::Missing { issuer: provider.issuer().into(), what: "login for devices" };
        let endpoint = DeviceAuthorizationUrl::from_url(provider.device.clone().ok_or_else(missing)?);
        let client = client(provider).set_device_authorization_url(endpoint);
        let mut request =
            client.exchange_device_code().add_scopes(provider.purpose.scopes.iter().cloned().map(Scope::new));
        if !provider.purpose.resource.is_empty() {
            request = request.add_extra_param("resource", provider.purpose.resource.as_str());
        }
        let answer = request.request_async(&|request| send(http.clone(), request)).await;
        let answer = answer.map_err(|e| refused("begin a login", provider.issuer(), e))?;
        Ok(Self { provider: provider.clone(), answer })
    }

    /// Where the person goes.
    #[must_use]
    pub fn address(&self) -> String {
        printable(self.answer.verification_uri())
    }

    /// What the person types there.
    #[must_use]
    pub fn code(&self) -> String {
        printable(self.answer.user_code().secret())
    }

    /// The address with the code in it, where there is one.
    #[must_use]
    pub fn whole_address(&self) -> Option<String> {
        self.answer.verification_uri_complete().map(|address| printable(address.secret()))
    }

    /// Asks, as often as the provider allows, until the person has decided or the code expires.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn wait(self, http: &HttpClient, within: Duration) -> Result<Tokens, LoginError> {
        let client = client(&self.provider);
        let purpose = &self.provider.purpose;
        let mut request = client.exchange_device_access_token(&self.answer);
        if !purpose.resource.is_empty() {
            request = request.add_extra_param("resource", purpose.resource.as_str());
        }
        let answer = request.request_async(&|request| send(http.clone(), request), sleep, Some(within)).await;
        let answer = answer.map_err(|e| refused("log in", &purpose.issuer, e))?;
        Tokens::of(&answer, self.provider.kind, purpose)
    }
}
