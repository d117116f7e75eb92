//! Elements of two sets of the operator's, one for each address family, by `nft -j`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::bounds::Element;
use super::helper::Invocation;
use super::wire::Seen;

/// The sets, and the program that changes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nftables {
    /// The table that they are in, of the family inet.
    pub table: String,
    /// Their names without the 4 and the 6 at the end.
    pub set: String,
}

const READ_FROM_STDIN: [&str; 3] = ["-j", "-f", "-"];
const PROTOCOL: &str = "tcp";

impl Nftables {
    /// Has the elements be there for so long from now on, whether they were there or not.
    pub(super) fn open(&self, elements: &[Element], seconds: u32) -> Invocation {
        // Before Linux 6.12, adding what is there leaves its timeout as it was. Removing
        // what is not there fails. In one transaction there is no moment without them.
        self.transaction(elements, &[("add", Some(seconds)), ("delete", None), ("add", Some(seconds))])
    }

    /// Removes elements that are there.
    pub(super) fn close(&self, elements: &[Element]) -> Invocation {
        self.transaction(elements, &[("delete", None)])
    }

    /// Asks for all elements of one family.
    pub(super) fn list(&self, family: char) -> Invocation {
        let argv = ["-j", "list", "set", "inet", &self.table, &self.name(family)];
        Invocation { argv: argv.map(str::to_owned).to_vec(), input: String::new() }
    }

    /// What the operator's ruleset must hold.
    #[must_use]
    pub fn ruleset(&self) -> String {
        let (table, four, six) = (&self.table, self.name('4'), self.name('6'));
        format!(
            "table inet {table} {{\n\
             \x20   set {four} {{ type inet_proto . ipv4_addr . ipv4_addr . inet_service; flags interval, timeout; }}\n\
             \x20   set {six} {{ type inet_proto . ipv6_addr . ipv6_addr . inet_service; flags interval, timeout; }}\n\
             \x20   chain input {{\n\
             \x20       # Before whatever refuses the rest, and beside \"ct state established accept\".\n\
             \x20       meta l4proto . ip saddr . ip daddr . th dport @{four} accept\n\
             \x20       meta l4proto . ip6 saddr . ip6 daddr . th dport @{six} accept\n\
             \x20   }}\n\
             }}\n"
        )
    }

    fn transaction(&self, elements: &[Element], steps: &[(&str, Option<u32>)]) -> Invocation {
        let mut commands = Vec::new();
        for family in ['4', '6'] {
            let ours: Vec<_> = elements.iter().filter(|e| e.source.addr().is_ipv4() == (family == '4')).collect();
            if ours.is_empty() {
                continue;
            }
            for (verb, timeout) in steps {
                let elem: Vec<_> = ours.iter().map(|element| written(element, *timeout)).collect();
                let name = self.name(family);
                commands.push(json!({
                    *verb: { "element": { "family": "inet", "table": self.table, "name": name, "elem": elem } }
                }));
            }
        }
        let argv = READ_FROM_STDIN.map(str::to_owned).to_vec();
        Invocation { argv, input: json!({ "nftables": commands }).to_string() }
    }

    fn name(&self, family: char) -> String {
        format!("{}{family}", self.set)
    }
}

fn written(element: &Element, timeout: Option<u32>) -> Value {
    let Element { source, destination, port } = element;
    let network = |network: &IpNet| json!({ "prefix": { "addr": network.addr(), "len": network.prefix_len() } });
    let concat = json!({ "concat": [PROTOCOL, network(source), network(destination), port] });
    match timeout {
        Some(seconds) => json!({ "elem": { "val": concat, "timeout": seconds } }),
        None => concat,
    }
}

/// Reads what `nft -j list set` prints, as far as the elements are of our form.
pub(super) fn listed(output: &str) -> Result<Vec<(Element, Seen)>, String> {
    let all: Value = serde_json::from_str(output).map_err(|e| format!("nft did not print JSON: {e}"))?;
    let sets = all["nftables"].as_array().into_iter().flatten().filter_map(|item| item["set"]["elem"].as_array());
    Ok(sets.flatten().filter_map(|item| read(&item["elem"])).collect())
}

fn read(elem: &Value) -> Option<(Element, Seen)> {
    let [_, source, destination, port] = elem["val"]["concat"].as_array()?.as_slice() else { return None };
    // An address alone is written without its prefix.
    let network = |value: &Value| match value.as_str() {
        Some(ip) => ip.parse::<IpAddr>().ok().map(IpNet::from),
        None => {
            let prefix = &value["prefix"];
            let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
            IpNet::new(prefix["addr"].as_str()?.parse().ok()?, length).ok()
        }
    };
    let port = u16::try_from(port.as_u64()?).ok()?;
    let element = Element { source: network(source)?, destination: network(destination)?, port };
    // One that the operator has put there himself may stay for ever.
    let expires = elem["expires"].as_u64()?;
    Some((element, seen(&element, expires)))
}

fn seen(element: &Element, expires: u64) -> Seen {
    let Element { source, destination, port } = element;
    let listener = SocketAddr::new(destination.addr(), *port).to_string();
    Seen { source: source.to_string(), listener, expires: Some(expires) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Nftables {
        Nftables { table: "filter".into(), set: "scistream".into() }
    }

    fn element(source: &str, destination: &str) -> Element {
        let network = |text: &str| text.parse().expect("a network");
        Element { source: network(source), destination: network(destination), port: 5100 }
    }

    #[test]
    fn opening_is_one_transaction_that_sets_the_timeout_anew() {
        let both = [element("10.0.0.0/8", "192.0.2.1/32"), element("::/0", "::/0")];
        let Invocation { argv, input } = ours().open(&both, 60);
        assert_eq!(argv, ["-j", "-f", "-"]);
        let read: Value = serde_json::from_str(&input).expect("JSON");
        let steps: Vec<_> = read["nftables"]
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|step| step.as_object().expect("an object").iter())
            .map(|(verb, what)| format!("{verb} {}", what["element"]["name"].as_str().expect("a name")))
            .collect();
        let each = |set: &str| ["add", "delete", "add"].map(|verb| format!("{verb} {set}"));
        assert_eq!(steps, [each("scistream4"), each("scistream6")].concat());
        let first = &read["nftables"][0]["add"]["element"]["elem"][0]["elem"];
        assert_eq!(first["timeout"], 60);
        assert_eq!(first["val"]["concat"][1]["prefix"], json!({ "addr": "10.0.0.0", "len": 8 }));
    }

    #[test]
    fn what_nft_lists_is_read() {
        // As nft 1.0.6 prints it, and one that the operator has put there for ever.
        let output = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "inet", "name": "scistream4",
            "elem": [{"elem": {"val": {"concat": ["tcp", {"prefix": {"addr": "10.0.0.0", "len": 8}}, "192.0.2.1", 5100]},
            "timeout": 60, "expires": 59}}, {"concat": ["tcp", "10.9.9.9", "192.0.2.1", 22]}]}}]}"#;
        let found = listed(output).expect("read");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, element("10.0.0.0/8", "192.0.2.1/32"));
        assert_eq!(
            found[0].1,
            Seen { source: "10.0.0.0/8".into(), listener: "192.0.2.1:5100".into(), expires: Some(59) }
        );
        assert!(listed("nonsense").is_err());
    }
}
