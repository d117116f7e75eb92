//! A second authorization server that none of us wrote: django-oauth-toolkit, as
//! `authorization_server/django/server.py` sets it up. Of a token it tells little:
//! whether it is active, its scope, its end and its client; no audience, no issuer.

use std::path::Path;

use tempfile::TempDir;

use super::service::{Client, Service, access_token, parsed};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/authorization_server/django/server.py");
/// Where packaging/install-authorization-servers puts it.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/django-oauth-toolkit/bin/python");

/// The resource server: it may introspect everybody's tokens.
pub const GATEWAY: Client = Client { id: "gateway", secret: "the-secret-of-the-gateway" };
const TESTS: Client = Client { id: "tests", secret: "the-secret-of-the-tests" };

/// The running server. Ends with the test.
#[derive(Debug)]
pub struct DjangoServer {
    service: Service,
    // Its database.
    _folder: TempDir,
}

impl DjangoServer {
    /// Starts it on a port that is free, and waits until it answers.
    pub async fn start() -> Self {
        let folder = TempDir::with_prefix("django-").expect("a folder");
        let arguments = [SERVER, folder.path().to_str().expect("a plain path")];
        Self { service: Service::start(Path::new(PYTHON), &arguments).await, _folder: folder }
    }

    /// Where tokens are introspected (RFC 7662).
    pub fn introspection(&self) -> String {
        format!("{}/o/introspect/", self.service.base())
    }

    /// A program's access token.
    pub async fn token(&self, scope: &str) -> String {
        let fields = [("grant_type", "client_credentials"), ("scope", scope)];
        access_token(&parsed(&self.service.form("o/token/", Some(TESTS), &fields).await))
    }

    /// Revokes a token.
    pub async fn revoke(&self, token: &str) {
        let answer = self.service.form("o/revoke_token/", Some(TESTS), &[("token", token)]).await;
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// What it says of a token to the gateway.
    pub async fn introspect(&self, token: &str) -> serde_json::Value {
        parsed(&self.service.form("o/introspect/", Some(GATEWAY), &[("token", token)]).await)
    }
}
