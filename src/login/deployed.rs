//! Reads the tokens that the deployed release keeps: an SQLite database of the
//! Globus SDK in the folder where its s2uc was called.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};
use secrecy::SecretString;
use serde::Deserialize;

use super::exchange::Tokens;
use super::{Entry, LoginError, Provider};
use crate::http::HttpClient;

/// What it is called there.
pub const DEPLOYED_STORE: &str = ".storage.db";

/// A row's JSON, as either format of the SDK has it.
#[derive(Deserialize)]
struct Row {
    resource_server: String,
    scope: String,
    access_token: String,
    refresh_token: Option<String>,
    expires_at_seconds: u64,
}

/// The logins in such a database that are for gateways; the others are the SDK's own.
///
/// # Errors
/// [`LoginError`]
pub async fn import(path: &Path) -> Result<Vec<Entry>, LoginError> {
    let rows = rows(path).map_err(|source| LoginError::Deployed { path: path.to_owned(), source })?;
    // Never asked: what is known of Globus is known by heart.
    let http = HttpClient::new(None)?;
    let mut entries = Vec::new();
    for text in rows {
        // serde_json may quote what it does not understand.
        let row: Row = serde_json::from_str(&text).map_err(|_| LoginError::Format {
            path: path.to_owned(),
            why: "a row of token_storage holds no token".into(),
        })?;
        let login = Provider::globus_login(&row.resource_server);
        if !row.scope.split_whitespace().any(|scope| login.scopes.iter().any(|wanted| wanted == scope)) {
            continue;
        }
        let provider = Provider::find(&login, &http).await?;
        let tokens = Tokens {
            access: SecretString::from(row.access_token),
            refresh: row.refresh_token.map(SecretString::from),
            scopes: Some(row.scope.split_whitespace().map(str::to_owned).collect()),
            expires: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(row.expires_at_seconds)),
            who: None,
        };
        entries.push(Entry::new(&provider, tokens));
    }
    Ok(entries)
}

fn rows(path: &Path) -> Result<Vec<String>, rusqlite::Error> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut query = database.prepare("SELECT token_data_json FROM token_storage ORDER BY rowid")?;
    query.query_map([], |row| row.get(0))?.collect()
}
