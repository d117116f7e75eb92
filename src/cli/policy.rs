//! `s2cs policy explain`: what the rules say, without anybody having to ask for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::json;

use super::gateway::network;
use crate::auth::{Caller, Identity};
use crate::config::{Config, Settings};
use crate::policy::{Ask, Denial, Forbidden, Opinion};
use crate::session::{Bandwidth, Capacity, Protection, Role};

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Tell whether somebody might have a session, and what each rule says of it
    Explain(Box<Explain>),
}

#[derive(Args)]
#[command(after_help = "Example:\n  \
    s2cs policy explain --config /etc/scistream/s2cs.toml --as alice@facility.example \\\n    \
    --role PROD --target 10.0.0.9:5300\n\n\
    The exit status is 0 when the answer is yes, and 1 when it is no.")]
pub(super) struct Explain {
    /// The name that people know: NAME@DOMAIN
    #[arg(long, value_name = "NAME")]
    r#as: Option<String>,
    /// The provider's lasting name, as the audit log has it
    #[arg(long, value_name = "ID")]
    identity: Vec<String>,
    /// The provider that vouches for them [default: any]
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// A group that they are in; may be given several times
    #[arg(long)]
    group: Vec<String>,
    /// A claim that the provider makes of them, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
    /// PROD or CONS
    #[arg(long, value_parser = role)]
    role: Role,
    /// Where the session is to forward to; names are for the gateway to resolve
    #[arg(long, value_name = "IP:PORT")]
    target: Option<SocketAddr>,
    /// From where it is to take connections
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    source: Vec<IpNet>,
    /// How many listeners
    #[arg(long, default_value_t = 1, value_name = "N")]
    connections: u16,
    /// The protection that is asked for [default: the gateway's]
    #[arg(long = "ask-protection", value_name = "FLOOR")]
    ask_protection: Option<Protection>,
    /// The backend that is asked for [default: the gateway's]
    #[arg(long = "ask-backend", value_name = "NAME")]
    ask_backend: Option<String>,
    /// The rate that is asked for, in kB/s
    #[arg(long, default_value_t = 0, value_name = "KBPS")]
    rate: u32,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(&text.to_ascii_uppercase()).map_err(|e| e.to_string())
}

pub(super) fn explain(command: &Explain) -> ExitCode {
    let caller = match command.caller() {
        Ok(caller) => caller,
        Err(why) => {
            eprintln!("s2cs: {why}");
            return ExitCode::from(2);
        }
    };
    let config = match Config::load(command.settings.clone()) {
        Ok(config) => config,
        Err(faults) => return super::s2cs::faulty(&faults),
    };
    let policy = &config.engine.policy;
    if policy.is_open() && !command.json {
        say!("this gateway has no rules: whoever can connect may use it");
    }
    let ask = Ask {
        role: command.role,
        connections: command.connections,
        protection: command.ask_protection,
        floor: config.engine.protection,
        backend: command.ask_backend.clone().filter(|name| *name != config.backend.name),
        sources: command.source.iter().copied().collect(),
    };
    let caller = if policy.is_open() { Caller::Anyone } else { caller };
    let admitted = policy.admit(&caller, &ask);
    let target = command.target.map(|target| policy.target(&caller, ask.role, target));
    let opinions = policy.explain(&caller, &ask, command.target);
    let why = match (&admitted, &target) {
        (Err(denial), _) => Some(denial_story(denial)),
        (Ok(_), Some(Err(forbidden))) => Some(forbidden_story(forbidden)),
        _ => None,
    };
    let site = &config.engine.bandwidth;
    let capacity = admitted.as_ref().map(|grant| site.grant(Bandwidth::kilobytes(command.rate), grant.bandwidth));
    let capacity = capacity.unwrap_or_default();
    let rule = admitted.ok().and_then(|grant| grant.rule);
    if command.json {
        let opinions: Vec<_> = opinions.iter().map(opinion_json).collect();
        let bandwidth = capacity.limit.filter(|_| why.is_none());
        let weight = why.is_none().then_some(capacity.weight);
        say!(
            "{}",
            json!({
                "allowed": why.is_none(), "why": why, "rule": rule, "rules": opinions,
                "bandwidth": bandwidth, "weight": weight,
            })
        );
    } else {
        opinions.iter().for_each(|opinion| say!("rule {:<16} {}", opinion.rule, opinion_story(opinion)));
        match (&why, rule) {
            (Some(why), _) => say!("no: {why}"),
            (None, Some(rule)) => say!("yes, by rule {rule}{}", capacity_story(&capacity)),
            (None, None) => say!("yes{}", capacity_story(&capacity)),
        }
    }
    if why.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Explain {
    fn caller(&self) -> Result<Caller, String> {
        if self.r#as.is_none() && self.identity.is_empty() && self.group.is_empty() && self.claim.is_empty() {
            return Err("say who: --as NAME@DOMAIN, --identity ID, --group NAME or --claim NAME=VALUE".into());
        }
        let mut claims: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for claim in &self.claim {
            let (name, value) = claim.split_once('=').ok_or_else(|| format!("--claim {claim:?} is not NAME=VALUE"))?;
            claims.entry(name.into()).or_default().insert(value.into());
        }
        let subject = self.identity.first().or(self.r#as.as_ref()).cloned().unwrap_or_default();
        Ok(Caller::Known(Arc::new(Identity {
            provider: self.provider.clone().unwrap_or_default(),
            identities: self.identity.iter().cloned().collect(),
            subject,
            names: self.r#as.iter().cloned().collect(),
            groups: self.group.iter().cloned().collect(),
            claims,
        })))
    }
}

/// How much they get, where that is bounded.
fn capacity_story(capacity: &Capacity) -> String {
    let limit = capacity.limit.map(|limit| format!(", kept to {limit}")).unwrap_or_default();
    let share =
        capacity.shared.then(|| format!(", with the weight {} in the gateway's bandwidth", capacity.weight.get()));
    limit + &share.unwrap_or_default()
}

fn denial_story(denial: &Denial) -> String {
    format!("the rules do not let them {denial}")
}

fn forbidden_story(forbidden: &Forbidden) -> String {
    format!("the target is not allowed: {forbidden}")
}

fn opinion_story(opinion: &Opinion) -> String {
    match &opinion.verdict {
        None => "is not for them".into(),
        Some(Ok(())) => "lets it be".into(),
        Some(Err(why)) => why.clone(),
    }
}

fn opinion_json(opinion: &Opinion) -> serde_json::Value {
    json!({
        "rule": opinion.rule,
        "is_for_them": opinion.verdict.is_some(),
        "allows": opinion.verdict.as_ref().is_some_and(Result::is_ok),
        "why": opinion.verdict.as_ref().and_then(|verdict| verdict.as_ref().err()),
    })
}
