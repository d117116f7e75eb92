//! One rule: whom it is for, and what it lets them do.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::bandwidth::RuleBandwidth;
use super::network::Network;
use super::who::Who;
use super::{Ask, Denial, Grant};
use crate::auth::Caller;
use crate::session::{Bandwidth, Protection, Role, Sources, Weight, parse_network};

/// A rule as it is written, `[[allow]]` in the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// What it is called in explanations and in the audit log; a number by default.
    pub name: Option<String>,
    /// Whom it is for: anyone, user:NAME@DOMAIN, domain:DOMAIN, group:NAME, identity:ID or
    /// claim:NAME=VALUE.
    #[serde(default)]
    pub who: Vec<String>,
    /// Only those for whom this provider vouches.
    pub provider: Option<String>,
    /// PROD, CONS; both by default.
    pub roles: Option<Vec<String>>,
    /// Where PROD sessions may forward to; the site's networks by default.
    pub targets: Option<Vec<String>>,
    /// Where CONS sessions may forward to; any public or private host by default.
    pub remotes: Option<Vec<String>>,
    /// From where connections may come, within the site's bounds; from all of those by default.
    pub sources: Option<Vec<String>>,
    /// Backends that may be asked for besides the gateway's own.
    pub backends: Option<Vec<String>>,
    /// Protections that may be asked for, also weaker than the gateway's own.
    pub protections: Option<Vec<Protection>>,
    /// Sessions at once.
    pub max_sessions: Option<usize>,
    /// Listeners of one session.
    pub max_connections: Option<u16>,
    /// The longest lifetime in seconds; also of sessions that ask for none.
    pub max_lifetime: Option<f64>,
    /// What a session may move at most, in kB/s, all connections and both directions together.
    pub max_bandwidth: Option<u32>,
    /// What a session counts where all share what the gateway may move; 1 by default.
    pub weight: Option<u16>,
    /// Whose sessions they may say HELLO for, besides their own; in the words of `who`.
    #[serde(default)]
    pub hello_for: Vec<String>,
    /// Whether they may see, move and end everybody's sessions, and drain the gateway.
    #[serde(default)]
    pub operator: bool,
}

impl RuleSettings {
    /// The rule that lets one kind of caller use the gateway in the usual way.
    ///
    /// # Errors
    /// Never; what is wrong with it is told with all other faults.
    pub fn for_whom(who: &str) -> Result<Self, std::convert::Infallible> {
        Ok(Self { who: vec![who.to_owned()], ..Self::default() })
    }
}

/// A rule that has been understood.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) name: String,
    who: Vec<Who>,
    provider: Option<String>,
    roles: Vec<Role>,
    targets: Option<Vec<Network>>,
    remotes: Option<Vec<Network>>,
    sources: Option<Sources>,
    backends: Vec<String>,
    protections: Vec<Protection>,
    max_sessions: Option<usize>,
    max_connections: Option<u16>,
    max_lifetime: Option<Duration>,
    bandwidth: RuleBandwidth,
    hello_for: Vec<Who>,
    pub(super) operator: bool,
}

impl Rule {
    /// Understands a rule, or pushes a fault for each thing that is wrong with it.
    pub fn new(settings: RuleSettings, number: usize, faults: &mut Vec<String>) -> Self {
        let name = settings.name.unwrap_or_else(|| number.to_string());
        let rule = format!("[[allow]] {name}");
        if settings.who.is_empty() {
            faults.push(format!("{rule}: who says nobody; {}", super::who::WhoError));
        }
        let mut roles = Vec::new();
        for role in settings.roles.unwrap_or_else(|| vec!["PROD".into(), "CONS".into()]) {
            match Role::parse(&role) {
                Ok(role) => roles.push(role),
                Err(e) => faults.push(format!("{rule}: roles: {role:?}: {e}")),
            }
        }
        let max_lifetime = settings.max_lifetime.and_then(|seconds| {
            let length = Duration::try_from_secs_f64(seconds).ok();
            if length.is_none() {
                faults.push(format!("{rule}: max_lifetime must be a number of seconds, not {seconds}"));
            }
            length
        });
        let bandwidth = RuleBandwidth {
            most: settings.max_bandwidth.and_then(|most| {
                let most = Bandwidth::kilobytes(most);
                if most.is_none() {
                    faults.push(format!("{rule}: max_bandwidth must be at least 1 kB/s; leave it out for no bound"));
                }
                most
            }),
            weight: Weight::new(settings.weight.unwrap_or(1)).unwrap_or_else(|| {
                faults.push(format!("{rule}: weight must be from 1 to {}, not 0", u16::MAX));
                Weight::default()
            }),
        };
        if settings.sources.as_ref().is_some_and(Vec::is_empty) {
            faults.push(format!("{rule}: sources names no network; leave it out where any may be"));
        }
        let sources = settings.sources.map(|texts| {
            let mut networks = Vec::new();
            for text in texts {
                match parse_network(&text) {
                    Ok(network) => networks.push(network),
                    Err(e) => faults.push(format!("{rule}: sources: {text:?}: {e}")),
                }
            }
            networks.into_iter().collect()
        });
        let mut nets = |key: &str, texts: Option<Vec<String>>| {
            texts.map(|texts| parse_all::<Network>(&format!("{rule}: {key}"), &texts, faults))
        };
        let (targets, remotes) = (nets("targets", settings.targets), nets("remotes", settings.remotes));
        Self {
            who: parse_all(&format!("{rule}: who"), &settings.who, faults),
            hello_for: parse_all(&format!("{rule}: hello_for"), &settings.hello_for, faults),
            name,
            provider: settings.provider,
            roles,
            targets,
            remotes,
            sources,
            backends: settings.backends.unwrap_or_default(),
            protections: settings.protections.unwrap_or_default(),
            max_sessions: settings.max_sessions,
            max_connections: settings.max_connections,
            max_lifetime,
            bandwidth,
            operator: settings.operator,
        }
    }

    /// Pushes a fault if it is not clear whose word it takes. A name, a group or a
    /// claim is one provider's; another that says the same means somebody else.
    pub fn check_provider(&self, known: &[String], faults: &mut Vec<String>) {
        let (rule, all) = (&self.name, known.join(", "));
        let for_all = self.who == [Who::Anyone] && self.hello_for.is_empty();
        match &self.provider {
            Some(provider) if !known.contains(provider) => {
                faults.push(format!("[[allow]] {rule}: provider: there is no {provider:?}, but {all}"));
            }
            None if known.len() > 1 && !for_all => {
                faults.push(format!("[[allow]] {rule}: provider is missing: whose word counts, of {all}?"));
            }
            _ => {}
        }
    }

    /// Whether it is for this caller.
    #[must_use]
    pub fn is_for(&self, caller: &Caller) -> bool {
        self.takes_the_word_for(caller) && self.who.iter().any(|who| who.means(caller))
    }

    /// Whether whom it is for may say HELLO for sessions of `owner`.
    pub(super) fn speaks_for(&self, owner: &Caller) -> bool {
        self.takes_the_word_for(owner) && self.hello_for.iter().any(|who| who.means(owner))
    }

    fn takes_the_word_for(&self, caller: &Caller) -> bool {
        match (&self.provider, caller) {
            (Some(provider), Caller::Known(identity)) => *provider == identity.provider,
            _ => true,
        }
    }

    /// The networks that targets of this role must lie in; `None`: the usual ones.
    pub(super) fn networks(&self, role: Role) -> Option<&[Network]> {
        match role {
            Role::Prod => self.targets.as_deref(),
            Role::Cons => self.remotes.as_deref(),
        }
    }

    pub(super) fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The claims that it asks about.
    pub(super) fn claims(&self) -> BTreeSet<String> {
        let claim = |who: &Who| match who {
            Who::Claim { name, .. } => Some(name.clone()),
            _ => None,
        };
        self.who.iter().chain(&self.hello_for).filter_map(claim).collect()
    }

    /// Whether it lets a session be that is asked for so.
    ///
    /// # Errors
    /// The first thing that it does not let be.
    pub(super) fn permits(&self, ask: &Ask) -> Result<(), Denial> {
        if !self.has_role(ask.role) {
            return Err(Denial::Role { role: ask.role });
        }
        if let Some(most) = self.max_connections
            && ask.connections > most
        {
            return Err(Denial::Connections { asked: ask.connections, most });
        }
        if let Some(protection) = ask.protection
            && protection < ask.floor
            && !self.protections.contains(&protection)
        {
            return Err(Denial::Protection { asked: protection });
        }
        if let Some(backend) = &ask.backend
            && !self.backends.contains(backend)
        {
            return Err(Denial::Backend { asked: backend.clone() });
        }
        match &self.sources {
            // Who asks for none gets the bound.
            Some(bound) if !ask.sources.are_anywhere() => {
                ask.sources.within(bound).map_err(|asked| Denial::Source { asked })
            }
            _ => Ok(()),
        }
    }

    /// Whether it lets a session be that is so, not one that is asked for and could
    /// be made to fit.
    ///
    /// # Errors
    /// The first thing that it does not let be.
    pub(super) fn still_permits(&self, ask: &Ask) -> Result<(), Denial> {
        self.permits(ask)?;
        let bound = self.sources.as_ref();
        bound.map_or(Ok(()), |bound| ask.sources.within(bound).map_err(|asked| Denial::Source { asked }))
    }

    /// What it grants to whom it lets have a session.
    pub(super) fn grant(&self) -> Grant {
        Grant {
            rule: Some(self.name.clone()),
            max_sessions: self.max_sessions,
            max_lifetime: self.max_lifetime,
            sources: Sources::default(),
            bandwidth: self.bandwidth,
        }
    }

    /// The sources of a session that asks for none.
    pub(super) fn sources(&self) -> Option<&Sources> {
        self.sources.as_ref()
    }
}

fn parse_all<T: FromStr<Err: std::fmt::Display>>(what: &str, texts: &[String], faults: &mut Vec<String>) -> Vec<T> {
    let mut parsed = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(value) => parsed.push(value),
            Err(e) => faults.push(format!("{what}: {text:?}: {e}")),
        }
    }
    parsed
}
