//! `s2uc check-auth` and `s2uc logout`: what is there of logins, and its end.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::gateway::{Failure, Protection, print_json};
use super::login::hint_at_deployed_store;
use super::sessions::duration;
use crate::causes::causes;
use crate::http::HttpClient;
use crate::login::{Book, Entry, Kept, LoginError, Provider, Purpose, Revoked, Store, fresh_token, revoke};
use crate::session::{Endpoint, Host};

/// Which logins; none named: all.
#[derive(Args)]
pub(super) struct Which {
    /// That for this gateway
    #[arg(long, value_name = "HOST:PORT")]
    s2cs: Option<Endpoint>,
    /// Those for the gateways of a host
    #[arg(long, value_name = "HOST", conflicts_with = "s2cs")]
    ip: Option<Host>,
    /// That for the Globus client of a gateway that does not tell where to log in
    #[arg(long, value_name = "ID", conflicts_with_all = ["s2cs", "ip"])]
    scope: Option<String>,
    #[command(flatten)]
    protection: Protection,
}

#[derive(Args)]
pub(super) struct CheckAuth {
    /// Print the access token, renewed if need be, and nothing else
    #[arg(long)]
    print_token: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct Logout {
    #[command(flatten)]
    which: Which,
}

impl Which {
    async fn purposes(&self, store: &Store) -> Result<Vec<Purpose>, Failure> {
        let book = store.read().await?;
        if let Some(id) = &self.scope {
            return Ok(vec![Purpose::of(&Provider::globus_login(id))]);
        }
        if let Some(host) = &self.ip {
            let of_host = |gateway: &str| gateway.parse::<Endpoint>().is_ok_and(|endpoint| endpoint.host == *host);
            let mut purposes: Vec<Purpose> = Vec::new();
            for (_, purpose) in book.gateways.iter().filter(|(gateway, _)| of_host(gateway)) {
                if !purposes.contains(purpose) {
                    purposes.push(purpose.clone());
                }
            }
            return Ok(purposes);
        }
        let Some(address) = &self.s2cs else {
            return Ok(book.logins.iter().map(|entry| entry.purpose.clone()).collect());
        };
        Ok(book.login_for(&address.to_string()).map(|entry| entry.purpose.clone()).into_iter().collect())
    }
}

pub(super) async fn check_auth(command: CheckAuth, json: bool) -> Result<ExitCode, Failure> {
    let store = Store::of_user()?;
    let purposes = command.which.purposes(&store).await?;
    let book = store.read().await?;
    let entries: Vec<_> = purposes.iter().filter_map(|purpose| book.login(purpose)).collect();
    if command.print_token {
        return print_token(&store, &entries, json).await;
    }
    let usable = entries.iter().any(|entry| is_usable(entry));
    if json {
        let logins: Vec<_> = entries.iter().map(|entry| entry_json(&book, entry)).collect();
        let sealed = store.kept()? == Some(Kept::Sealed);
        print_json(&json!({ "authenticated": usable, "logins": logins, "store": store.path(), "sealed": sealed }));
    } else if entries.is_empty() {
        eprintln!("s2uc: nobody has logged in; s2uc login --s2cs HOST:PORT does");
        hint_at_deployed_store();
    } else {
        entries.iter().for_each(|entry| show(&book, entry));
        say!("kept in   {}", place(&store)?);
    }
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn print_token(store: &Store, entries: &[&Entry], json: bool) -> Result<ExitCode, Failure> {
    let entry = match entries {
        [] => return Err(Failure::local("nobody has logged in; s2uc login --s2cs HOST:PORT does")),
        [entry] => entry,
        _ => return Err(Failure::usage("there are several tokens; choose one with --s2cs or --scope")),
    };
    let token = fresh_token(store, &entry.purpose).await?;
    let token = token.ok_or_else(|| Failure::local("it was logged out meanwhile"))?;
    if json {
        print_json(&json!({ "access_token": token.expose_secret() }));
    } else {
        say!("{}", token.expose_secret());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn logout(command: Logout, json: bool) -> Result<ExitCode, Failure> {
    let store = Store::of_user()?;
    let purposes = command.which.purposes(&store).await?;
    let http = HttpClient::new(None).map_err(LoginError::from)?;
    let (mut told, mut faults) = (Vec::new(), 0);
    for purpose in &purposes {
        let mut locked = store.lock().await?;
        let mut book = locked.read().await?;
        let Some(entry) = book.login(purpose).cloned() else { continue };
        let outcome = revoke(&entry, &http).await;
        // What could not be revoked is not kept either.
        book.remove(purpose);
        locked.write(&book).await?;
        let fate = match &outcome {
            Ok(Revoked::AtOnce) => "its tokens hold no more".to_owned(),
            Ok(Revoked::WhenItExpires) => format!("its access token cannot be revoked; {}", until(&entry)),
            Err(e) => format!("failed to {}; {}", causes(e), until(&entry)),
        };
        if !json {
            say!("logged out of {purpose}: {fate}");
        }
        faults += usize::from(outcome.is_err());
        told.push(json!({
            "issuer": purpose.issuer, "resource": purpose.resource, "scopes": purpose.scopes,
            "revoked": matches!(outcome, Ok(Revoked::AtOnce)), "fate": fate,
        }));
    }
    if json {
        print_json(&json!({ "logged_out": told }));
    } else if told.is_empty() {
        say!("nobody has logged in");
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where tokens are, in words.
pub(super) fn place(store: &Store) -> Result<String, LoginError> {
    let seal = if store.kept()? == Some(Kept::Sealed) { ", sealed with a key in the keyring" } else { "" };
    Ok(format!("{}{seal}", store.path().display()))
}

fn is_usable(entry: &Entry) -> bool {
    entry.holds_for(Duration::ZERO) || entry.is_refreshable()
}

fn show(book: &Book, entry: &Entry) {
    let Purpose { issuer, resource, .. } = &entry.purpose;
    say!("issuer    {issuer}");
    say!("who       {}", entry.who.as_deref().unwrap_or("the provider does not tell"));
    say!("scopes    {}", entry.scopes.join(" "));
    if !resource.is_empty() {
        say!("resource  {resource}");
    }
    say!("token     {}", until(entry));
    say!("gateways  {}", gateways(book, entry).join(" "));
    say!("");
}

fn gateways<'a>(book: &'a Book, entry: &Entry) -> Vec<&'a str> {
    let mine = book.gateways.iter().filter(|(_, purpose)| **purpose == entry.purpose);
    mine.map(|(gateway, _)| gateway.as_str()).collect()
}

/// How long a login lasts, in words.
pub(super) fn until(entry: &Entry) -> String {
    let renewed = if entry.is_refreshable() { ", and is then renewed by itself" } else { "" };
    let Some(end) = entry.expires() else { return "its provider does not tell how long it holds".into() };
    match end.duration_since(SystemTime::now()) {
        Ok(left) => format!("it holds for {}{renewed}", duration(left)),
        Err(_) if entry.is_refreshable() => "it has expired, and is renewed when it is needed".into(),
        Err(_) => "it has expired; log in again".into(),
    }
}

pub(super) fn entry_json(book: &Book, entry: &Entry) -> Value {
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "issuer": entry.purpose.issuer, "client_id": entry.purpose.client_id, "resource": entry.purpose.resource,
        "scopes": entry.scopes, "who": entry.who, "expires": entry.expires().map(seconds),
        "valid": entry.holds_for(Duration::ZERO), "refreshable": entry.is_refreshable(),
        "gateways": gateways(book, entry),
    })
}
