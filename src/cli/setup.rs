//! `s2cs setup`: asks what a gateway needs to know, or takes it from flags, and writes the
//! configuration.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::backend::{Catalog, Programs};
use crate::causes::causes;
use crate::session::Host;
use crate::setup::{Answers, Callers, Certificate, SetupError, Written, guess_lan, guess_wan, set_up};

/// What the packages' unit runs s2cs with.
const USUAL: &str = "/etc/scistream/s2cs.toml";

#[derive(Args)]
#[command(after_help = "What is not said is asked, or, with --yes, taken to be as it mostly is. Nothing runs after \
                        this, and nothing is left when the answers do not make a gateway.\n\n\
                        Examples:\n  \
                        s2cs setup\n  \
                        s2cs setup --yes --wan-ip 192.0.2.1 --lan-ip 10.0.0.1 --backend haproxy \\\n    \
                        --callers globus --client-id ID --client-secret-file /etc/scistream/secret --allow domain:example.org\n  \
                        s2cs setup --yes --callers unknown --config s2cs.toml")]
pub(super) struct Setup {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = USUAL)]
    config: PathBuf,
    /// This host's address towards the WAN: users and the other gateway connect there
    #[arg(long, value_name = "IP")]
    wan_ip: Option<IpAddr>,
    /// Its address towards the facility, where consumers connect
    #[arg(long, value_name = "IP")]
    lan_ip: Option<IpAddr>,
    /// Port of the control server
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Ports for streams
    #[arg(long, value_name = "A-B")]
    port_range: Option<String>,
    /// What carries the bytes
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Who knows the gateway's users
    #[arg(long, value_enum)]
    callers: Option<Knows>,
    /// What the provider calls this gateway (globus, introspection)
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The file with the secret that goes with it (globus, introspection)
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// The provider's address, as it stands in its tokens (introspection, jwt)
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// What tokens for this gateway are made for (jwt)
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// Certificates of the authorities of users (certificates)
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Whom of them it serves: anyone, user:NAME@DOMAIN, domain:DOMAIN, group:NAME …
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    allow: Vec<String>,
    /// Names that users reach the gateway by, for the certificate that is made
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    host: Vec<Host>,
    /// A certificate that is there already, instead of one that is made
    #[arg(long, value_name = "FILE", requires = "server_key")]
    server_crt: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "server_crt")]
    server_key: Option<PathBuf>,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
    /// Replace a configuration that is there
    #[arg(long)]
    force: bool,
}

/// Who knows users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Knows {
    /// Nobody: whoever can connect is served
    Unknown,
    /// Globus Auth
    Globus,
    /// An OAuth 2.0 server that is asked about each token
    Introspection,
    /// An OAuth 2.0 server that signs its tokens
    Jwt,
    /// Authorities whose certificates users have
    Certificates,
}

/// Writes a configuration.
pub(super) fn setup(command: Setup) -> Result<(), String> {
    let asker = Asker { asks: !command.yes && io::stdin().is_terminal() };
    let answers = answers(&command, asker)?;
    let written = set_up(&command.config, &answers, command.force);
    let Written { certificate, made, notes } = written.map_err(|e| match e {
        SetupError::Taken(_) | SetupError::Faults(_) => e.to_string(),
        e => format!("failed to {}", causes(&e)),
    })?;
    let config = command.config.display();
    say!("wrote {config}, and s2cs would start with it");
    if made {
        say!("made {} and its key; users need the certificate, and never the key", certificate.display());
    }
    for note in notes {
        say!("{note}");
    }
    let name = match &answers.certificate {
        Certificate::Made { hosts } => hosts.first().map_or_else(|| answers.wan.to_string(), shown),
        Certificate::Given { .. } => answers.wan.to_string(),
    };
    say!("Try, here and then as a user:");
    if command.config == Path::new(USUAL) && Path::new("/run/systemd/system").is_dir() {
        say!("  systemctl enable --now s2cs");
    } else {
        say!("  s2cs --config {config}");
    }
    say!("  s2uc doctor --s2cs {name}:{} --server-cert {}", answers.port, certificate.display());
    Ok(())
}

fn shown(host: &Host) -> String {
    match host {
        Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    }
}

fn answers(command: &Setup, asker: Asker) -> Result<Answers, String> {
    let wan = asker.answer(
        command.wan_ip,
        "--wan-ip",
        "Address towards the WAN, for users and the other gateway",
        Some(guess_wan()),
    )?;
    let lan = asker.answer(
        command.lan_ip,
        "--lan-ip",
        "Address towards the facility, for its applications",
        Some(guess_lan(wan)),
    )?;
    let port = asker.answer(command.port, "--port", "Port of the control server", Some(5000))?;
    let range = Some("5100-5200".to_owned());
    let port_range = asker.answer(command.port_range.clone(), "--port-range", "Ports for streams", range)?;
    let backend = format!("What carries the bytes: {}", backends());
    let backend = asker.answer(command.backend.clone(), "--backend", &backend, Some("native".to_owned()))?;
    let callers = callers(command, asker)?;
    let allow = match (&callers, command.allow.as_slice()) {
        (Callers::Unknown, []) => vec![],
        (_, []) => {
            let question =
                "Whom of its users the gateway serves (anyone, domain:DOMAIN, user:NAME@DOMAIN, group:NAME …)";
            let said: String = asker.answer(None, "--allow", question, None)?;
            said.split(',').map(|who| who.trim().to_owned()).filter(|who| !who.is_empty()).collect()
        }
        (_, said) => said.to_vec(),
    };
    let certificate = match (&command.server_crt, &command.server_key) {
        (Some(certificate), Some(key)) => {
            Certificate::Given { certificate: absolute(certificate)?, key: absolute(key)? }
        }
        _ => Certificate::Made { hosts: hosts(command, asker, wan)? },
    };
    Ok(Answers { wan, lan, port, port_range, backend, callers, allow, certificate })
}

fn callers(command: &Setup, asker: Asker) -> Result<Callers, String> {
    let question = "Who knows the gateway's users: globus, introspection, jwt, certificates, or unknown (whoever can \
                    connect is served)";
    let knows: Knows = asker.answer(command.callers, "--callers", question, None)?;
    let text = |given: &Option<String>, flag, question| asker.answer(given.clone(), flag, question, None);
    let file = |given: &Option<PathBuf>, flag, question: &str| {
        absolute(&asker.answer::<PathBuf>(given.clone(), flag, question, None)?)
    };
    let client_id = || text(&command.client_id, "--client-id", "What the provider calls this gateway (client id)");
    let issuer = || text(&command.issuer, "--issuer", "The provider's address, as it stands in its tokens (issuer)");
    let secret_file = || file(&command.client_secret_file, "--client-secret-file", "The file with the client's secret");
    Ok(match knows {
        Knows::Unknown => Callers::Unknown,
        Knows::Globus => Callers::Globus { client_id: client_id()?, secret_file: secret_file()? },
        Knows::Introspection => {
            Callers::Introspection { issuer: issuer()?, client_id: client_id()?, secret_file: secret_file()? }
        }
        Knows::Jwt => {
            let audience = "What tokens for this gateway are made for (audience)";
            Callers::Jwt { issuer: issuer()?, audience: text(&command.audience, "--audience", audience)? }
        }
        Knows::Certificates => {
            let authorities = file(&command.client_ca, "--client-ca", "The certificates of users' authorities")?;
            Callers::Certificates { authorities }
        }
    })
}

/// Wherever s2cs is started from.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// What the certificate is for: names, and the address.
fn hosts(command: &Setup, asker: Asker, wan: IpAddr) -> Result<Vec<Host>, String> {
    let mut hosts = command.host.clone();
    if hosts.is_empty() {
        let own = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let own = own.filter(|name| name.parse::<Host>().is_ok()).unwrap_or_else(|| wan.to_string());
        let said: String = asker.answer(None, "--host", "Names that users reach the gateway by", Some(own))?;
        for name in said.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            hosts.push(name.parse().map_err(|_| format!("{name:?} is no host name"))?);
        }
    }
    if !wan.is_unspecified() && !hosts.contains(&Host::Ip(wan)) {
        hosts.push(Host::Ip(wan));
    }
    Ok(hosts)
}

/// The backends, and which of them are here.
fn backends() -> String {
    let programs = Programs::default();
    let Ok(catalog) = Catalog::load(None) else { return "native".into() };
    let one = |manifest: &std::sync::Arc<crate::backend::Manifest>| match programs.find(manifest) {
        Ok(_) => manifest.name.to_string(),
        Err(_) => format!("{} (not installed)", manifest.name),
    };
    catalog.all().map(one).collect::<Vec<_>>().join(", ")
}

/// Gets what was not said.
#[derive(Clone, Copy)]
struct Asker {
    asks: bool,
}

impl Asker {
    /// What was said, or is answered, or is likely.
    fn answer<T: FromAnswer>(
        self,
        said: Option<T>,
        flag: &str,
        question: &str,
        likely: Option<T>,
    ) -> Result<T, String> {
        match (said, likely) {
            (Some(said), _) => Ok(said),
            (None, likely) if self.asks => self.ask(question, likely),
            (None, Some(likely)) => Ok(likely),
            (None, None) => Err(format!("say {flag}, or run this at a terminal: {question}?")),
        }
    }

    fn ask<T: FromAnswer>(self, question: &str, likely: Option<T>) -> Result<T, String> {
        loop {
            let hint = likely.as_ref().map(|likely| format!(" [{}]", likely.shown())).unwrap_or_default();
            print!("{question}{hint}: ");
            io::stdout().flush().map_err(|e| e.to_string())?;
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line).map_err(|e| format!("failed to read an answer: {e}"))?;
            match (line.trim(), likely.as_ref()) {
                _ if read == 0 => return Err("there was no answer; nothing was written".into()),
                ("", Some(likely)) => return Ok(likely.clone()),
                ("", None) => {}
                (text, _) => match T::understood(text) {
                    Some(answer) => return Ok(answer),
                    None => say!("that cannot be used here"),
                },
            }
        }
    }
}

/// What may be an answer.
trait FromAnswer: Clone {
    fn understood(text: &str) -> Option<Self>;
    fn shown(&self) -> String;
}

macro_rules! from_answer {
    ($($kind:ty),*) => {
        $(
            impl FromAnswer for $kind {
                fn understood(text: &str) -> Option<Self> {
                    Self::from_str(text).ok()
                }

                fn shown(&self) -> String {
                    self.to_string()
                }
            }
        )*
    };
}

from_answer!(IpAddr, u16, String);

impl FromAnswer for PathBuf {
    fn understood(text: &str) -> Option<Self> {
        Some(text.into())
    }

    fn shown(&self) -> String {
        self.display().to_string()
    }
}

impl FromAnswer for Knows {
    fn understood(text: &str) -> Option<Self> {
        <Self as ValueEnum>::from_str(text, true).ok()
    }

    fn shown(&self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
