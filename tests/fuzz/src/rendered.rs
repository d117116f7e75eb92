//! A rendered configuration, read back: it holds just the listeners and targets that were asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use scistream::backend::{Address, Catalog, Chosen, Folder, Hop, Program, Stage};
use scistream::session::Plan;

/// What may serve a session: a proxy, and the end of the tunnel for one without PSK.
pub const DESIGNS: [(&str, &str); 6] = [
    ("native", "native"),
    ("stunnel", "native"),
    ("haproxy", "native"),
    ("haproxy", "stunnel"),
    ("nginx", "native"),
    ("nginx", "stunnel"),
];

/// The stages of a design; none where it cannot give the protection.
#[must_use]
pub fn stages(catalog: &Catalog, design: (&str, &str), plan: &Plan, folder: &Path) -> Vec<Stage> {
    let find = |name| catalog.get(name).expect("it is built in");
    let (backend, terminator, gate) = (find(design.0), find(design.1), find("native"));
    let end = if backend.speaks_psk() { &backend } else { &terminator };
    if !end.abilities.psk.contains(&plan.protection) {
        return vec![];
    }
    Chosen { backend: &backend, terminator: &terminator, gate: &gate }.stages(plan, folder)
}

/// Each listener, target and source stands in its place, and nowhere is another address or path.
pub fn assert_says_what_was_asked(stage: &Stage, text: &str, program: &Program, folder: &Folder) {
    let name = stage.manifest.name.as_str();
    let asked = |accept: bool| -> Vec<String> {
        let address =
            |(index, hop): (usize, &Hop)| written(name, index, if accept { &hop.accept } else { &hop.target }, accept);
        stage.hops.iter().enumerate().map(address).collect()
    };
    assert_eq!(read_back(name, text), (asked(true), asked(false)), "{name}:\n{text}");
    let networks: Vec<_> = stage.hops.iter().flat_map(|hop| hop.sources.networks().to_vec()).collect();
    assert_eq!(sources_read_back(name, text), networks, "{name}:\n{text}");

    let mut known: BTreeSet<String> = asked(true).into_iter().chain(asked(false)).collect();
    // Comments tell the address of an inherited socket.
    known.extend(stage.hops.iter().map(|hop| hop.accept.to_string()));
    known.extend(program.files.values().map(|path| path.display().to_string()));
    known.extend(networks.iter().map(|network| network.addr().to_string()));
    known.insert(folder.path.join("scratch/nginx.pid").display().to_string());
    known.extend([folder.key_file(), folder.nobody()].map(|path| path.display().to_string()));
    known.insert("/dev/stderr".into());
    let words = text.split(|c: char| c.is_whitespace() || "\";=".contains(c)).filter(|word| leads_somewhere(word));
    for word in words {
        assert!(known.contains(word), "{name} holds {word}, which nobody asked for:\n{text}");
    }
}

fn leads_somewhere(word: &str) -> bool {
    let prefixes = ["/", "unix:", "unix@", "fd@"];
    prefixes.iter().any(|prefix| word.starts_with(prefix))
        || word.parse::<SocketAddr>().is_ok()
        || word.parse::<IpAddr>().is_ok()
}

/// Where connections come in and where they go, read line by line.
fn read_back(backend: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines.filter_map(|line| line.strip_prefix(key)).map(|rest| rest.trim_matches(['"', ';']).to_owned()).collect()
    };
    let first_words = |key: &str| -> Vec<String> {
        let first = |value: &String| value.split([' ', ';']).next().unwrap_or_default().to_owned();
        values(key).iter().map(first).collect()
    };
    match backend {
        "native" => (values("accept = "), values("target = ")),
        "stunnel" => (values("accept = "), values("connect = ")),
        "haproxy" => (first_words("bind "), first_words("server target ")),
        "nginx" => (first_words("listen "), first_words("proxy_pass ")),
        other => panic!("nobody has said how to read {other}"),
    }
}

/// The networks that may connect, one listener after the other, read back line by line.
fn sources_read_back(backend: &str, text: &str) -> Vec<IpNet> {
    let lines = |key: &'static str| text.lines().map(str::trim).filter_map(move |line| line.strip_prefix(key));
    let network = |text: &str| text.trim_end_matches(';').parse().expect("a network");
    match backend {
        "native" => lines("sources = ").flat_map(|list| list.split('"').skip(1).step_by(2)).map(network).collect(),
        "nginx" => {
            let rules: Vec<_> = lines("allow ").map(network).collect();
            assert_eq!(lines("deny all;").count() > 0, !rules.is_empty(), "nobody is denied");
            rules
        }
        "haproxy" => {
            let rules = lines("acl from_v").map(|rule| {
                let (family, rest) = rule.split_once(" src ").expect("a rule");
                let network: IpNet = network(rest);
                assert_eq!(family, if matches!(network, IpNet::V4(_)) { "4" } else { "6" });
                network
            });
            let rules: Vec<_> = rules.collect();
            assert_eq!(lines("tcp-request connection reject unless ").count() > 0, !rules.is_empty());
            rules
        }
        // It is never the one that looks.
        "stunnel" => vec![],
        other => panic!("nobody has said how to read {other}"),
    }
}

/// How each program writes an address.
fn written(backend: &str, index: usize, address: &Address, accept: bool) -> String {
    match (backend, address) {
        // The socket is inherited, so its number is all there is.
        ("haproxy", _) if accept => format!("fd@{}", 3 + index),
        ("haproxy", Address::Unix(path)) => format!("unix@{}", path.display()),
        ("nginx", Address::Unix(path)) => format!("unix:{}", path.display()),
        ("stunnel", Address::Unix(_)) if accept => format!("/proc/self/fd/{}", 3 + index),
        ("stunnel", Address::Tcp(tcp)) => format!("{}:{}", tcp.ip(), tcp.port()),
        _ => address.to_string(),
    }
}
