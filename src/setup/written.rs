//! A configuration file as it is written: what was answered, and what the file that was
//! there has besides.

use std::fmt::Write as _;
use std::path::Path;

use toml::Value;

use super::{Answers, Callers};
use crate::config::Settings;

/// What stands in the packages' file for the choice that is to be made.
const UNCHOSEN: &str = "0.0.0.0";

/// Whether somebody has made a gateway's configuration of a file: it sets something, and
/// where the gateway listens among it, unless it sets nothing else either.
pub(super) fn is_made(text: &str) -> bool {
    if !text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#')) {
        return false;
    }
    // What cannot be read has been written by somebody.
    let mut faults = Vec::new();
    let said = Settings::parse("", text, &mut faults);
    let is_elsewhere = said.wan_ip.is_some() || said.lan_ip.is_some() || said.listen.is_some();
    !faults.is_empty() || is_elsewhere || said.listener_ip.is_none_or(|ip| ip != UNCHOSEN)
}

/// The whole file: the answers in place of what `before` has of them, and the rest of it.
/// Tables come last: whatever follows one belongs to it.
pub(super) fn text(answers: &Answers, certificate: &Path, key: &Path, before: &str) -> String {
    let mut top = vec![
        ("listener_ip", answers.wan.to_string().into()),
        ("port", i64::from(answers.port).into()),
        ("port_range", Value::from(answers.port_range.clone())),
        ("backend", answers.backend.clone().into()),
        ("server_crt", shown(certificate)),
        ("server_key", shown(key)),
    ];
    if answers.lan != answers.wan {
        top.push(("lan_ip", answers.lan.to_string().into()));
    }
    let mut provider = Vec::new();
    match &answers.callers {
        Callers::Unknown => top.push(("no_auth", true.into())),
        Callers::Certificates { authorities } => top.push(("client_ca", shown(authorities))),
        Callers::Globus { client_id, secret_file } => {
            provider.extend([("kind", "globus".into()), ("client_id", client_id.clone().into())]);
            provider.push(("client_secret_file", shown(secret_file)));
        }
        Callers::Introspection { issuer, client_id, secret_file } => {
            provider.extend([("kind", "introspection".into()), ("issuer", issuer.clone().into())]);
            provider.push(("client_id", client_id.clone().into()));
            provider.push(("client_secret_file", shown(secret_file)));
        }
        Callers::Jwt { issuer, audience } => {
            provider.extend([("kind", "jwt".into()), ("issuer", issuer.clone().into())]);
            provider.push(("audience", vec![audience.clone()].into()));
        }
    }
    let mut text =
        String::from("# Written by s2cs setup. man s2cs.toml tells of every setting; s2cs check looks at the file.\n");
    write_all(&mut text, &top);
    let is_answered =
        |line: &&str| top.iter().any(|(name, _)| line.split('=').next().is_some_and(|key| key.trim() == *name));
    let rest: Vec<_> = before.trim().lines().filter(|line| !is_answered(line)).collect();
    if !rest.is_empty() {
        write!(text, "\n{}\n", rest.join("\n")).expect("a string takes all");
    }
    if !provider.is_empty() {
        text.push_str("\n[[provider]]\n");
        write_all(&mut text, &provider);
    }
    if !answers.allow.is_empty() {
        text.push_str("\n[[allow]]\n");
        write_all(&mut text, &[("who", answers.allow.clone().into())]);
    }
    text
}

fn write_all(text: &mut String, settings: &[(&str, Value)]) {
    for (name, value) in settings {
        writeln!(text, "{name} = {value}").expect("a string takes all");
    }
}

fn shown(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}
