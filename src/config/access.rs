//! Who may use the gateway, and how much: providers, rules and limits.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use secrecy::SecretString;

use super::Settings;
use crate::auth::{CERTIFICATE, Kind, Limits, ProviderSettings, Providers};
use crate::policy::{Ground, Network, Policy, Rule};

/// Networks inside a facility, unless the operator names them: private addresses
/// (RFC 1918, RFC 4193).
const USUALLY_INSIDE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
/// And where nobody else can reach the control server, this host.
const ALONE: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// What was said of it, checked.
pub(super) struct Access {
    pub(super) providers: Providers,
    pub(super) policy: Policy,
    pub(super) limits: Limits,
}

/// Pushes a fault for each thing that is wrong.
pub(super) fn check(
    settings: &mut Settings,
    listen: SocketAddr,
    ground: Ground,
    notes: &mut Vec<String>,
    faults: &mut Vec<String>,
) -> Access {
    let inside = inside(settings.site_networks.as_deref(), ground.alone, faults);
    let ground = Ground { inside, inside_is_said: settings.site_networks.is_some(), ..ground };
    let providers = providers(settings, notes, faults);
    let rules = settings.allow.take().unwrap_or_default();
    let knows_callers = !providers.is_empty() || settings.client_ca.is_some();
    let policy = if knows_callers {
        if settings.no_auth == Some(true) {
            faults.push(
                "no_auth says that anyone may use this gateway, and a provider or client_ca that they may not".into(),
            );
        }
        if rules.is_empty() {
            faults.push(
                "no rule says who may use this gateway, so nobody could; write [[allow]] rules, or begin with \
                 --allow domain:YOUR.DOMAIN (--allow anyone lets in whomever the provider knows, as the deployed \
                 release does)"
                    .into(),
            );
        }
        let rules = rules.into_iter().enumerate().map(|(index, rule)| Rule::new(rule, index + 1, faults));
        let rules: Vec<Rule> = rules.collect();
        let mut known = providers.names();
        known.extend(settings.client_ca.as_ref().map(|_| CERTIFICATE.to_owned()));
        rules.iter().for_each(|rule| rule.check_provider(&known, faults));
        Policy::by_rules(rules, known, ground)
    } else {
        if !rules.is_empty() {
            faults.push("there are rules, but no provider or client_ca that would tell who calls".into());
        }
        if !listen.ip().is_loopback() && settings.no_auth != Some(true) {
            faults.push(format!(
                "nothing says who may use this gateway, and {listen} is not loopback; name a [[provider]] or \
                 client_ca, listen on loopback, or say with no_auth that whoever can connect may use it"
            ));
        }
        Policy::open(ground)
    };
    Access { providers, policy, limits: limits(settings, faults) }
}

fn inside(given: Option<&[String]>, alone: bool, faults: &mut Vec<String>) -> Vec<Network> {
    let Some(given) = given else {
        let here = if alone { ALONE.as_slice() } else { &[] };
        let usual = USUALLY_INSIDE.iter().chain(here);
        return usual.map(|text| text.parse().expect("a network")).collect();
    };
    let mut networks = Vec::new();
    for text in given {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(e) => faults.push(format!("site_networks: {text:?}: {e}")),
        }
    }
    networks
}

/// The providers of the file, and the one that the deployed release's flags mean.
fn providers(settings: &mut Settings, notes: &mut Vec<String>, faults: &mut Vec<String>) -> Providers {
    let mut all = settings.provider.take().unwrap_or_default();
    let given = settings.client_secret.take().map(|secret| {
        notes.push(
            "--client-secret can be read by everybody on this host, in the list of processes; \
             write it into a file of mode 0600 and name that with --client-secret-file"
                .into(),
        );
        SecretString::from(secret)
    });
    let mut for_globus = None;
    if let Some(client_id) = settings.client_id.take() {
        if all.iter().any(|provider| provider.kind == Kind::Globus) {
            faults.push("client_id asks for Globus, which the file has as a [[provider]] already".into());
        }
        let client_secret_file = settings.client_secret_file.take();
        all.insert(0, ProviderSettings { client_secret_file, ..ProviderSettings::globus(client_id) });
        for_globus = given;
    } else if given.is_some() || settings.client_secret_file.is_some() {
        faults.push("there is a client_secret without a client_id".into());
    }
    Providers::check(all, for_globus, notes, faults)
}

fn limits(settings: &Settings, faults: &mut Vec<String>) -> Limits {
    let mut number = |name: &str, given: Option<u32>, default: u32| {
        let number = given.unwrap_or(default);
        NonZeroU32::new(number).unwrap_or_else(|| {
            faults.push(format!("{name} must be at least 1"));
            NonZeroU32::MIN
        })
    };
    Limits {
        calls: number("max_calls", settings.max_calls, 50),
        calls_from_address: number("max_calls_from_address", settings.max_calls_from_address, 1000),
        failures_from_address: number("max_bad_tokens", settings.max_bad_tokens, 20),
    }
}
