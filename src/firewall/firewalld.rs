//! Rich rules of firewalld with a timeout, by `firewall-cmd`; at run time only.

use std::net::SocketAddr;

use super::bounds::Element;
use super::helper::Invocation;

/// Where the rules go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewalld {
    /// The zone; without one, the default.
    pub zone: Option<String>,
}

/// A rule that is there does not get a new timeout, and one that is taken away and
/// added again leaves a gap. So each renewal makes another rule, by its priority,
/// beside the one before, which closes by itself.
const SLOTS: u64 = 4;
/// A call takes a third of a second, however many rules it has.
const RULES_IN_A_CALL: usize = 256;

impl Firewalld {
    /// Has rules for the elements be there for so long from `now` on, in seconds of any clock.
    pub(super) fn open(&self, elements: &[Element], seconds: u32, now: u64) -> Vec<Invocation> {
        // One comes round again only when what it held before is over.
        let slot = now / u64::from(seconds).div_ceil(SLOTS - 1).max(1) % SLOTS;
        let add = |element| format!("--add-rich-rule={}", rule(element, slot));
        let timeout = || std::iter::once(format!("--timeout={seconds}"));
        let calls = elements.chunks(RULES_IN_A_CALL);
        calls.map(|elements| self.call(elements.iter().map(add).chain(timeout()).collect())).collect()
    }

    /// Removes the rules for the elements.
    pub(super) fn close(&self, elements: &[Element]) -> Vec<Invocation> {
        let remove = |element, slot| format!("--remove-rich-rule={}", rule(element, slot));
        let all: Vec<_> =
            elements.iter().flat_map(|element| (0..SLOTS).map(move |slot| remove(element, slot))).collect();
        all.chunks(RULES_IN_A_CALL).map(|words| self.call(words.to_vec())).collect()
    }

    /// Asks for all rich rules.
    pub(super) fn list(&self) -> Invocation {
        self.call(vec!["--list-rich-rules".into()])
    }

    fn call(&self, words: Vec<String>) -> Invocation {
        let zone = self.zone.iter().map(|zone| format!("--zone={zone}"));
        Invocation { argv: zone.chain(words).collect(), input: String::new() }
    }
}

fn rule(element: &Element, slot: u64) -> String {
    let Element { source, destination, port } = element;
    let family = if source.addr().is_ipv4() { "ipv4" } else { "ipv6" };
    format!(
        "rule priority=\"-{}\" family=\"{family}\" source address=\"{source}\" \
         destination address=\"{destination}\" port port=\"{port}\" protocol=\"tcp\" accept",
        slot + 1
    )
}

/// What went wrong with some of the rules of a call that has succeeded as a whole, by
/// what it wrote on standard error.
pub(super) fn fault(said: &str) -> Option<&str> {
    let as_asked = |line: &&str| line.contains("ALREADY_ENABLED") || line.contains("NOT_ENABLED");
    said.lines().find(|line| (line.starts_with("Warning:") || line.starts_with("Error:")) && !as_asked(line))
}

/// The rules of our form among those that are listed: from where, and to where.
pub(super) fn listed(output: &str) -> Vec<(String, String)> {
    let value = |line: &str, key: &str| {
        let rest = line.split_once(&format!("{key}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let read = |line: &str| {
        let destination = value(line, "destination address")?.parse::<ipnet::IpNet>().ok()?;
        let port = value(line, "port port")?.parse().ok()?;
        Some((value(line, "source address")?, SocketAddr::new(destination.addr(), port).to_string()))
    };
    let mut found: Vec<_> = output.lines().filter_map(read).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element() -> Element {
        let network = |text: &str| text.parse().expect("a network");
        Element { source: network("10.0.0.0/8"), destination: network("192.0.2.1/32"), port: 5100 }
    }

    #[test]
    fn each_rule_is_one_word_with_a_timeout_and_nothing_is_permanent() {
        let wall = Firewalld { zone: Some("external".into()) };
        let calls = wall.open(&[element()], 60, 0);
        assert_eq!(
            calls[0].argv,
            [
                "--zone=external",
                "--add-rich-rule=rule priority=\"-1\" family=\"ipv4\" source address=\"10.0.0.0/8\" \
                 destination address=\"192.0.2.1/32\" port port=\"5100\" protocol=\"tcp\" accept",
                "--timeout=60",
            ]
        );
        let all = [calls, wall.close(&[element()]), vec![wall.list()]].concat();
        assert!(all.iter().flat_map(|call| &call.argv).all(|word| !word.contains("permanent")));
        assert_eq!(Firewalld { zone: None }.list().argv, ["--list-rich-rules"]);
    }

    #[test]
    fn a_renewal_stands_beside_the_rule_before_and_all_are_removed() {
        let wall = Firewalld { zone: None };
        let at = |now| wall.open(&[element()], 60, now).remove(0).argv.remove(0);
        assert_ne!(at(1000), at(1020));
        // Another rule, or the same within a third of its time: else it would end before its renewal counts.
        for (before, later) in (1000..1080).flat_map(|now| (0..60).map(move |later| (now, later))) {
            assert!(at(before) != at(before + later) || later < 20, "{before} {later}");
        }
        let removed = wall.close(&[element()]).remove(0).argv;
        for now in [1000, 1020, 1040, 1060] {
            assert!(removed.contains(&at(now).replace("--add", "--remove")), "{now}");
        }
    }

    #[test]
    fn rules_go_together_and_each_counts() {
        let many = vec![element(); 300];
        let wall = Firewalld { zone: None };
        let words: Vec<_> = wall.open(&many, 60, 0).iter().map(|call| call.argv.len()).collect();
        assert_eq!(words, [257, 45]);
        assert_eq!(wall.close(&many).iter().map(|call| call.argv.len()).sum::<usize>(), 1200);
        assert_eq!(fault("Warning: ALREADY_ENABLED: x\nWarning: NOT_ENABLED: y\n"), None);
        let bad = "Warning: INVALID_ADDR: z";
        assert_eq!(fault(&format!("Warning: NOT_ENABLED: y\n{bad}")), Some(bad));
    }

    #[test]
    fn what_is_listed_is_read_once() {
        let lines: Vec<_> = (0..2).map(|slot| rule(&element(), slot)).collect();
        let others = "rule family=\"ipv4\" source address=\"192.0.2.9\" service name=\"ssh\" accept";
        let found = listed(&format!("{}\n{others}", lines.join("\n")));
        assert_eq!(found, [("10.0.0.0/8".to_owned(), "192.0.2.1:5100".to_owned())]);
    }
}
