//! Any plan at all, written by the templates that come with the program.
//!
//! ```text
//! PROD integrity /run/scistream
//! 192.0.2.10:5100 198.51.100.9:5300
//! [2001:db8::10]:5101 [2001:db8:2::9]:5300
//! from 203.0.113.0/24
//! at most 5000
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::LazyLock;

use scistream::backend::{Catalog, Circumstances, Folder, Program, render};
use scistream::config::{Config, Settings};
use scistream::session::{
    Bandwidth, Capacity, ListenAddr, Plan, Protection, Role, Route, SessionId, Sources, TargetAddr, TcpWishes, Uid,
    parse_network,
};

use super::rendered::{DESIGNS, assert_says_what_was_asked, stages};

/// As many as a session may have listeners.
const MOST_LINES: usize = 64;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::load(None).expect("the built-in backends load"));

/// Whatever the addresses, each configuration holds them and no others.
pub fn check(data: &[u8]) {
    let Some((plan, folder)) = std::str::from_utf8(data).ok().and_then(read) else { return };
    let files = BTreeMap::from([("stream_module".to_owned(), "/usr/lib/module.so".into())]);
    let program = Program { path: "/usr/sbin/proxy".into(), version: "1.2.3".into(), files };
    let uid = Uid::parse("6f9619ff-8b86-11d0-b42d-00cf4fc964ff").expect("a UUID").digest();
    let session = SessionId { uid, role: plan.role };
    for design in DESIGNS {
        for stage in stages(&CATALOG, design, &plan, &folder.path) {
            let template = CATALOG.template(&stage.manifest).expect("it has one");
            for root in [true, false] {
                let (protection, bandwidth) = (plan.protection, plan.capacity.limit);
                let circumstances =
                    Circumstances { protection, connections: 4096, bandwidth, root, ..Circumstances::default() };
                let text = render(&template, &stage, &program, &folder, session, circumstances).expect("it renders");
                assert_says_what_was_asked(&stage, &text, &program, &folder);
            }
        }
    }
}

fn read(text: &str) -> Option<(Plan, Folder)> {
    let (head, rest) = text.split_once('\n')?;
    let [role, protection, state_dir] = words(head)?;
    let role = Role::parse(role).ok()?;
    let protection = [Protection::None, Protection::Integrity, Protection::Confidentiality]
        .into_iter()
        .find(|known| known.as_str() == protection)?;
    let (sources, routes): (Vec<_>, Vec<_>) = rest.lines().take(MOST_LINES).partition(|line| line.starts_with("from "));
    let (limits, routes): (Vec<_>, Vec<_>) = routes.into_iter().partition(|line| line.starts_with("at most "));
    let limit = limits.iter().map(|line| line[8..].parse().ok().and_then(Bandwidth::kilobytes)).next().flatten();
    let capacity = Capacity { limit, ..Capacity::default() };
    let routes: Vec<_> = routes.into_iter().map(route).collect::<Option<_>>()?;
    let sources: Sources = sources.iter().map(|line| parse_network(&line[5..]).ok()).collect::<Option<_>>()?;
    let path = legal(state_dir)?.join("sessions").join("0123456789ab-prod");
    let plan = Plan { role, protection, sources, capacity, tcp: TcpWishes::default(), routes };
    (!plan.routes.is_empty()).then_some((plan, Folder { path }))
}

fn words<const N: usize>(line: &str) -> Option<[&str; N]> {
    line.split(' ').collect::<Vec<_>>().try_into().ok()
}

fn route(line: &str) -> Option<Route> {
    let [listen, target] = words(line)?;
    // No scope: addresses that need one are not allowed.
    let address = |text: &str| text.parse().ok().map(|all: SocketAddr| SocketAddr::new(all.ip(), all.port()));
    Some(Route { listen: ListenAddr(address(listen)?), target: TargetAddr(address(target)?) })
}

/// A state folder that the configuration takes.
fn legal(state_dir: &str) -> Option<std::path::PathBuf> {
    let loopback = Settings {
        ssl: Some(false),
        state_dir: Some(state_dir.into()),
        site_dir: Some(super::config::NO_SITE.into()),
        ..Settings::default()
    };
    Config::check(loopback, vec![]).ok().map(|config| config.state_dir)
}
