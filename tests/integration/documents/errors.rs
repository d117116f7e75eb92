//! The table of errors, made from the refusals themselves.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use scistream::auth::GuardError;
use scistream::backend::{ProgramError, RenderError};
use scistream::engine::Refusal;
use scistream::firewall::FirewallError;
use scistream::frontends::grpc::{no_longer_let_in, not_let_in, status};
use scistream::policy::{Denial, Forbidden, SourceError, TargetError};
use scistream::ports::PortError;
use scistream::session::{Endpoint, Rejection, ReleaseReason, Role, SessionId, Uid};
use scistream::supervisor::ServeError;
use tonic::Status;
use tonic_types::StatusExt;

use super::root;

const DOCUMENT: &str = "packaging/doc/errors.md";
const FROM: &str = "<!-- Made from the code, see contributing.md. -->\n";
const TO: &str = "<!-- End. -->\n";
/// Writes the table instead of comparing it.
const WRITE: &str = "SCISTREAM_WRITE_DOCUMENTS";
const REFUSALS: &str = include_str!("../../../src/engine/refusal.rs");
const STATUSES: &str = include_str!("../../../src/frontends/grpc/status.rs");

fn fault() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// One of each kind that has words of its own.
fn refusals() -> Vec<Refusal> {
    let uid = Uid::parse("6f9619ff-8b86-11d0-b42d-00cf4fc964ff").expect("a UUID").digest();
    let session = SessionId { uid, role: Role::Prod };
    let target = || "daq:5300".parse::<Endpoint>().expect("an endpoint");
    let waited = Duration::from_secs(180);
    let bound = "198.51.100.0/24".parse().expect("a network");
    let program = || ProgramError::Missing { program: "haproxy".into(), install: "apt install haproxy".into() };
    let backend = || "haproxy".to_owned();
    vec![
        Refusal::BadField { field: "prod_listeners", why: "\"daq\" has no port; write HOST:PORT".into() },
        Refusal::BadUid { why: Uid::parse("x").expect_err("too short").to_string() },
        Refusal::Unknown { uid, role: Some(Role::Cons) },
        Refusal::Exists(session),
        Refusal::Rejected { session, why: Rejection::NotAnnounced },
        Refusal::Rejected { session, why: Rejection::Busy },
        Refusal::Rejected { session, why: Rejection::Ending },
        Refusal::Denied(Denial::NoRule),
        Refusal::Quota { what: "sessions", limit: 10 },
        Refusal::Target(TargetError::Forbidden { target: target(), why: Forbidden::Loopback }),
        Refusal::Target(TargetError::ResolverSilent { target: target() }),
        Refusal::Target(TargetError::Unresolved { target: target(), why: "Name or service not known".into() }),
        Refusal::Source(SourceError {
            outside: "192.0.2.0/24".parse().expect("a network"),
            role: Role::Prod,
            bound: [bound].into_iter().collect(),
        }),
        Refusal::Port(PortError::NoneFree { ip: "192.0.2.1".parse().expect("an address"), range: 5100..=5200 }),
        Refusal::Port(PortError::NoDescriptors),
        Refusal::Port(PortError::Address { ip: "192.0.2.9".parse().expect("an address"), source: fault() }),
        Refusal::Program(program()),
        Refusal::Program(ProgramError::NoProcesses { program: PathBuf::from("/usr/sbin/haproxy") }),
        Refusal::Full { what: "sessions", limit: 1000 },
        Refusal::Short { what: "MiB of memory", left: 40, needed: 64 },
        Refusal::DataPath(ServeError::Program(program())),
        Refusal::DataPath(ServeError::NoProcesses { doing: "start the process", backend: backend() }),
        Refusal::DataPath(ServeError::NoShare),
        Refusal::DataPath(ServeError::Refused { backend: backend(), said: "unknown keyword 'bund'".into() }),
        Refusal::DataPath(ServeError::Silent {
            backend: backend(),
            within: Duration::from_secs(10),
            said: "it is starting".into(),
        }),
        Refusal::DataPath(ServeError::Firewall(FirewallError::Silent)),
        Refusal::DataPath(ServeError::Render(RenderError { backend: backend(), why: "there is no `x`".into() })),
        Refusal::SpoiltHello {
            code: scistream::engine::Code::BadFormat,
            why: "role: it is neither PROD nor CONS".into(),
        },
        Refusal::NoHello { session, waited },
        Refusal::NoRequest { uid, waited },
        Refusal::Ended { session, why: ReleaseReason::Asked },
        Refusal::ShuttingDown,
        Refusal::NoSuchSession,
        Refusal::EventsGone,
        Refusal::OnlyOperators,
        Refusal::Internal { doing: "write the session's journal", source: fault() },
    ]
}

fn statuses() -> Vec<Status> {
    let guards = [
        GuardError::Missing { scope: "scistream".into() },
        GuardError::Invalid { scope: "scistream".into(), why: String::new() },
        GuardError::Silent { provider: "facility".into(), why: String::new() },
        GuardError::TooOften { what: "calls", wait: Duration::from_secs(1) },
    ];
    let guards = guards.iter().map(not_let_in).chain([no_longer_let_in()]);
    refusals().iter().map(status).chain(guards).collect()
}

/// Code, gRPC code, what is wrong, what to do.
fn row(status: &Status) -> [String; 4] {
    let info = status.get_error_details().error_info().cloned().expect("every status has it");
    let remedy = info.metadata["remedy"].clone();
    let said = status.message();
    let said =
        said.strip_prefix(&format!("{}: ", info.reason)).and_then(|said| said.strip_suffix(&format!("; {remedy}")));
    let said = said.unwrap_or_else(|| panic!("{status:?} does not tell the whole story")).to_owned();
    [info.reason, format!("{:?}", status.code()), said, remedy]
}

fn table() -> String {
    let rows: BTreeSet<_> = statuses().iter().map(row).collect();
    let lines = rows.iter().map(|row| format!("| {} |\n", row.join(" | ").replace('`', "'")));
    format!(
        "\n| code | gRPC status | says, for example | what to do |\n|---|---|---|---|\n{}\n",
        lines.collect::<String>()
    )
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let path = root().join(DOCUMENT);
    let text = fs::read_to_string(&path).expect("the document");
    let (before, rest) = text.split_once(FROM).expect("the table begins");
    let (told, after) = rest.split_once(TO).expect("the table ends");
    let made = table();
    if std::env::var_os(WRITE).is_some() {
        fs::write(path, format!("{before}{FROM}{made}{TO}{after}")).expect("written");
        return;
    }
    assert_eq!(told, made, "{DOCUMENT} is not what the code says; {WRITE}=1 writes it anew");
}

/// All strings of a function, as they stand in the source.
fn strings<'a>(source: &'a str, function: &str) -> BTreeSet<&'a str> {
    let string = Regex::new(r#""([^"]+)""#).expect("a pattern");
    let (_, body) = source.split_once(&format!("fn {function}(")).expect("the function is there");
    let body = body.split_once("\n    }\n").or_else(|| body.split_once("\n}\n")).expect("it ends").0;
    string.captures_iter(body).map(|found| found.get(1).expect("a group").as_str()).collect()
}

/// A refusal that the table has no example of would be told of nowhere.
#[test]
fn no_remedy_and_no_code_is_missing_in_the_table() {
    let rows: Vec<_> = statuses().iter().map(row).collect();
    let codes: BTreeSet<_> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(strings(REFUSALS, "as_str"), codes);
    let remedies: BTreeSet<_> = rows.iter().map(|row| row[3].as_str()).collect();
    let mut in_the_code = strings(REFUSALS, "remedy");
    in_the_code.extend(strings(STATUSES, "not_let_in").into_iter().filter(|text| text.contains(' ')));
    in_the_code.extend(strings(STATUSES, "no_longer_let_in").into_iter().filter(|text| text.contains(',')));
    in_the_code.retain(|text| !text.contains('{'));
    assert_eq!(in_the_code, remedies);
}

/// What the commands say of themselves, with `--json`.
#[test]
fn the_codes_of_the_commands_are_told() {
    let text = fs::read_to_string(root().join(DOCUMENT)).expect("the document");
    let (_, own) = text.split_once("## Of the commands themselves").expect("a heading");
    let row = Regex::new(r"(?m)^\| ([A-Z_]+) \|").expect("a pattern");
    let told: BTreeSet<_> = row.captures_iter(own).map(|found| found[1].to_owned()).collect();
    let code = Regex::new(r#"(?:code: |\()"([A-Z_]+)"(?:,|\.to_owned\(\), "interrupted)|=> "([A-Z_]+)"\.into\(\)"#)
        .expect("a pattern");
    let mut said = BTreeSet::new();
    for file in ["cli/gateway.rs", "cli/drain.rs", "client/error.rs"] {
        let source = fs::read_to_string(root().join("src").join(file)).expect("a file");
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        said.extend(
            code.captures_iter(source).map(|found| found.get(1).or(found.get(2)).expect("either").as_str().to_owned()),
        );
    }
    assert_eq!(told, said);
}
