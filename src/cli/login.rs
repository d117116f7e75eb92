//! `s2uc login`: gets a token for a gateway, and keeps it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use scistream_proto::gateway::Login as Offer;
use serde_json::json;

use super::browser;
use super::gateway::{Failure, Protection, print_json};
use super::logins::{entry_json, place, until};
use crate::causes::causes;
use crate::client::{ClientError, Gateway};
use crate::http::HttpClient;
use crate::login::{
    Authorization, Book, DEPLOYED_STORE, Device, Entry, Keeping, Kind, LoginError, Loopback, Provider, Purpose, Store,
    Tokens, fresh_token, import, look_for_keyring,
};
use crate::session::Endpoint;

/// How a person logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flow {
    /// In a browser on this host
    Loopback,
    /// In a browser anywhere, by typing a short code there
    Device,
    /// In a browser anywhere, by copying what it shows at the end
    Paste,
}

/// Where tokens are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// As they are; at first sealed where a keyring answers, else in the file
    Auto,
    /// In a file that you alone can read
    File,
    /// In that file, sealed with a key that the desktop's keyring has, or not at all
    Keyring,
}

/// Says where for every login, so that batch jobs and desktops need no flag.
const WHERE: &str = "SCISTREAM_TOKEN_STORE";

#[derive(Args)]
#[command(after_help = "The gateway tells where to log in:\n  s2uc login --s2cs gw1:5000\n\
    Gateways of the deployed release do not; their site tells the ID of their Globus client:\n  \
    s2uc login --scope ID --s2cs gw1:5000\n\
    Tokens are kept in $XDG_DATA_HOME/scistream/tokens.json (~/.local/share), for you alone, and renewed\n\
    before they expire; on a desktop they are sealed with a key in its keyring (--store). Each command sends its gateway the token that was got for it, and no other.\n\
    A second gateway with the same provider needs a login too, which then opens no browser.")]
pub(super) struct Login {
    /// The gateway [default: localhost:5000]
    #[arg(long, value_name = "HOST:PORT")]
    s2cs: Option<Endpoint>,
    /// Where to log in, of the providers that the gateway names
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// How [default: loopback where a browser can be opened, else device where the provider has it, else paste]
    #[arg(long, value_enum)]
    flow: Option<Flow>,
    /// Open no browser here
    #[arg(long)]
    no_browser: bool,
    /// Seconds that the login may take
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    wait: u64,
    /// Take over the tokens of the deployed release, from its .storage.db, instead
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// The Globus client of a gateway that does not tell where to log in: the deployed release's
    #[arg(long, value_name = "ID")]
    scope: Option<String>,
    /// Where tokens are kept from now on, also those that are there [default: what the variable
    /// SCISTREAM_TOKEN_STORE says, else auto]
    #[arg(long, value_enum, value_name = "WHERE")]
    store: Option<Where>,
    #[command(flatten)]
    protection: Protection,
}

impl Login {
    fn keeping(&self) -> Result<Keeping, Failure> {
        let said = match (self.store, std::env::var(WHERE)) {
            (Some(said), _) => Some(said),
            (None, Ok(word)) if !word.is_empty() => Some(Where::from_str(&word, true).map_err(|_| {
                Failure::usage(format!("the variable {WHERE} must be auto, file or keyring, not {word:?}"))
            })?),
            (None, _) => None,
        };
        Ok(match said {
            None | Some(Where::Auto) => Keeping::Auto,
            Some(Where::File) => Keeping::File,
            Some(Where::Keyring) => Keeping::Keyring,
        })
    }
}

/// Changes what is kept, where the person wants it kept.
async fn keep(store: &Store, how: Keeping, change: impl FnOnce(&mut Book)) -> Result<Book, Failure> {
    let mut locked = store.lock().await?;
    let mut book = locked.read().await?;
    if let Some(why) = locked.keep(how).await? {
        eprintln!("s2uc: the keyring is of no use ({}); the tokens are kept in the file alone", causes(&why));
    }
    change(&mut book);
    locked.write(&book).await?;
    Ok(book)
}

pub(super) async fn login(command: Login, json: bool) -> Result<ExitCode, Failure> {
    let store = Store::of_user()?;
    let how = command.keeping()?;
    if how == Keeping::Keyring {
        // Nobody is to log in for nothing.
        look_for_keyring().map_err(LoginError::Unkept)?;
    }
    if let Some(path) = &command.import {
        return import_all(&store, how, path, json).await;
    }
    hint_at_deployed_store();
    let Some(offer) = offer(&command).await? else {
        if json {
            print_json(&json!({ "needed": false }));
        } else {
            say!("{} needs no login: whoever can connect is served", address(&command));
        }
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(entry) = adopted(&store, how, &command, &Purpose::of(&offer)).await? {
        if json {
            print_json(&entry_json(&store.read().await?, &entry));
        } else {
            say!("logged in already at {}; {} is sent that token from now on", entry.purpose, address(&command));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let http = HttpClient::new(None).map_err(LoginError::from)?;
    let provider = Provider::find(&offer, &http).await?;
    let entry = Entry::new(&provider, tokens(&command, &provider, &http).await?);
    let book = keep(&store, how, |book| {
        // With --scope alone no gateway is meant.
        if command.s2cs.is_some() || command.scope.is_none() {
            book.gateways.insert(address(&command).to_string(), Purpose::of(&offer));
        }
        book.put(entry.clone());
    });
    let book = book.await?;
    if json {
        print_json(&entry_json(&book, &entry));
    } else {
        let who = entry.who.as_ref().map_or(String::new(), |who| format!(" as {who}"));
        say!("logged in at {}{who}; {}", provider.issuer(), until(&entry));
    }
    Ok(ExitCode::SUCCESS)
}

/// The login that there is for another gateway, if this one takes it; nobody need log
/// in twice. At a gateway that has it, a person logs in anew.
async fn adopted(store: &Store, how: Keeping, command: &Login, purpose: &Purpose) -> Result<Option<Entry>, Failure> {
    let gateway = address(command).to_string();
    let known = store.read().await?;
    if known.login(purpose).is_none() || known.gateways.contains_key(&gateway) || command.scope.is_some() {
        return Ok(None);
    }
    // One that has expired for good is no login.
    if !matches!(fresh_token(store, purpose).await, Ok(Some(_))) {
        return Ok(None);
    }
    let book = keep(store, how, |book| {
        book.gateways.insert(gateway, purpose.clone());
    });
    Ok(book.await?.login(purpose).cloned())
}

fn address(command: &Login) -> Endpoint {
    command.s2cs.clone().unwrap_or_else(|| "localhost:5000".parse().expect("an endpoint"))
}

/// Where to log in; `None`: nowhere, and no need.
async fn offer(command: &Login) -> Result<Option<Offer>, Failure> {
    if let Some(id) = &command.scope {
        return Ok(Some(Provider::globus_login(id)));
    }
    let address = address(command);
    let gateway: Gateway = command.protection.connect_as_nobody(&address).await?;
    let told = match gateway.capabilities().await {
        Ok(told) => told,
        Err(ClientError::Refused { status, .. }) if status.code() == tonic::Code::Unimplemented => {
            let why = "runs a release that does not tell where to log in; its site tells the ID for --scope";
            return Err(Failure::local(format!("{address} {why}")));
        }
        Err(e) => return Err(e.into()),
    };
    let names = || told.logins.iter().map(|login| login.provider.as_str()).collect::<Vec<_>>().join(", ");
    match (&command.provider, told.logins.as_slice()) {
        (_, []) if told.authentication.is_empty() => Ok(None),
        (_, []) => {
            let ways = told.authentication.join(", ");
            Err(Failure::local(format!("{address} takes {ways}, and names no provider to log in at")))
        }
        (None, [only]) => Ok(Some(only.clone())),
        (None, _) => Err(Failure::usage(format!("{address} takes several; choose one with --provider: {}", names()))),
        (Some(name), logins) => match logins.iter().find(|login| login.provider == *name) {
            Some(login) => Ok(Some(login.clone())),
            None => Err(Failure::usage(format!("--provider: {address} has no {name}, but: {}", names()))),
        },
    }
}

async fn tokens(command: &Login, provider: &Provider, http: &HttpClient) -> Result<Tokens, Failure> {
    let program = if command.no_browser { None } else { browser::browser() };
    let flow = command.flow.unwrap_or(match (&program, provider.kind, &provider.device) {
        // Its pages lead to no port of ours.
        (_, Kind::Globus, _) if provider.paste.is_some() => Flow::Paste,
        (Some(_), ..) => Flow::Loopback,
        (None, _, Some(_)) => Flow::Device,
        (None, _, None) => Flow::Paste,
    });
    let within = Duration::from_secs(command.wait);
    // All of this goes to standard error: what scripts read is the outcome.
    let show = |address: &str| {
        eprintln!("\n    {address}\n");
        if let Some(program) = &program {
            browser::open(program, address);
        }
    };
    match flow {
        Flow::Device => {
            let device = Device::begin(provider, http).await?;
            eprintln!("To log in, open this page and confirm the code {}:", device.code());
            show(&device.whole_address().unwrap_or_else(|| device.address()));
            Ok(device.wait(http, within).await?)
        }
        Flow::Loopback => {
            let loopback = Loopback::listen().await?;
            let login = Authorization::begin(provider, loopback.redirect().clone())?;
            eprintln!("To log in, open this page in a browser on this host:");
            show(login.address().as_str());
            let code = loopback.code(&login, within).await?;
            Ok(login.redeem(http, &code).await?)
        }
        Flow::Paste => {
            let (redirect, what) = match &provider.paste {
                Some(page) => (page.clone(), "paste the code that it shows at the end"),
                // Nobody listens there, and the browser says so.
                None => (
                    Loopback::listen().await?.redirect().clone(),
                    "paste the address of the page at the end, which cannot be reached",
                ),
            };
            let login = Authorization::begin(provider, redirect)?;
            eprintln!("To log in, open this page in any browser, and {what}:");
            show(login.address().as_str());
            eprint!("> ");
            let mut text = String::new();
            std::io::stdin()
                .read_line(&mut text)
                .map_err(|e| Failure::local(format!("failed to read the code from standard input: {e}")))?;
            let code = login.code_of_pasted(&text)?;
            Ok(login.redeem(http, &code).await?)
        }
    }
}

async fn import_all(store: &Store, how: Keeping, path: &Path, json: bool) -> Result<ExitCode, Failure> {
    let entries = import(path).await?;
    let book = keep(store, how, |book| entries.iter().cloned().for_each(|entry| book.put(entry))).await?;
    if json {
        let imported: Vec<_> = entries.iter().map(|entry| entry_json(&book, entry)).collect();
        print_json(&json!({ "imported": imported }));
    } else {
        say!("{} logins imported into {}", entries.len(), place(store)?);
        eprintln!("s2uc: {} still holds the tokens; remove it when no older release needs it", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Says so when the deployed release's tokens lie here.
pub(super) fn hint_at_deployed_store() {
    if Path::new(DEPLOYED_STORE).is_file() {
        eprintln!(
            "s2uc: the deployed release's tokens lie here; take them over with: s2uc login --import {DEPLOYED_STORE}"
        );
    }
}
