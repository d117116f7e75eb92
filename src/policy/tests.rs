//! The rules at work.

use std::sync::Arc;

use super::*;
use crate::auth::Identity;

fn ground() -> Ground {
    let inside = vec!["10.0.0.0/8".parse().expect("a network")];
    Ground {
        alone: false,
        inside,
        inside_is_said: true,
        own: vec!["192.0.2.1".parse().expect("an address")],
        ports: 5100..=5200,
    }
}

fn known(subject: &str, name: &str) -> Caller {
    let identity = Identity {
        provider: "globus".into(),
        subject: subject.into(),
        identities: [subject.to_owned()].into(),
        names: [name.to_owned()].into(),
        ..Identity::default()
    };
    Caller::Known(Arc::new(identity))
}

fn policy(text: &str) -> Policy {
    #[derive(serde::Deserialize)]
    struct File {
        allow: Vec<RuleSettings>,
    }
    let file: File = toml::from_str(text).expect("rules");
    let mut faults = Vec::new();
    let rules = file.allow.into_iter().enumerate().map(|(n, rule)| Rule::new(rule, n + 1, &mut faults)).collect();
    assert_eq!(faults, Vec::<String>::new());
    Policy::by_rules(rules, vec!["globus".into()], ground())
}

fn ask(role: Role) -> Ask {
    let floor = Protection::Confidentiality;
    Ask { role, connections: 1, protection: None, floor, backend: None, sources: Sources::default() }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

const RULES: &str = r#"
[[allow]]
name = "beamline"
who = ["user:alice@facility.example"]
roles = ["PROD"]
targets = ["10.7.0.0/16:5000-5999"]
max_connections = 4
max_sessions = 2
max_lifetime = 3600

[[allow]]
name = "partners"
who = ["domain:partner.example"]
roles = ["CONS"]
sources = ["10.0.0.0/8"]
protections = ["integrity"]
backends = ["nginx"]

[[allow]]
name = "controllers"
who = ["user:daq@facility.example"]
roles = []
hello_for = ["user:alice@facility.example"]

[[allow]]
name = "operators"
who = ["user:root@facility.example"]
operator = true
"#;

#[test]
fn nothing_is_allowed_but_by_a_rule() {
    let policy = policy(RULES);
    let (alice, mallory) = (known("1", "alice@facility.example"), known("2", "mallory@facility.example"));
    let grant = policy.admit(&alice, &ask(Role::Prod)).expect("her rule");
    assert_eq!((grant.rule.as_deref(), grant.max_sessions), (Some("beamline"), Some(2)));
    assert_eq!(grant.max_lifetime, Some(Duration::from_secs(3600)));
    assert_eq!(policy.admit(&alice, &ask(Role::Cons)), Err(Denial::Role { role: Role::Cons }));
    assert_eq!(policy.admit(&mallory, &ask(Role::Prod)), Err(Denial::NoRule));
    assert_eq!(policy.admit(&Caller::Anyone, &ask(Role::Prod)), Err(Denial::NoRule));
    let many = Ask { connections: 5, ..ask(Role::Prod) };
    assert_eq!(policy.admit(&alice, &many), Err(Denial::Connections { asked: 5, most: 4 }));
}

#[test]
fn what_is_asked_for_must_be_permitted_by_one_rule() {
    let policy = policy(RULES);
    let bob = known("3", "bob@partner.example");
    let source =
        |net: &str| Ask { sources: [net.parse().expect("a network")].into_iter().collect(), ..ask(Role::Cons) };
    assert_eq!(
        policy.admit(&bob, &ask(Role::Cons)).expect("his rule").sources.networks().len(),
        1,
        "the bound of the rule"
    );
    assert!(policy.admit(&bob, &source("10.1.0.0/16")).is_ok());
    assert!(matches!(policy.admit(&bob, &source("0.0.0.0/0")), Err(Denial::Source { .. })));
    let weaker = |protection| Ask { protection: Some(protection), ..ask(Role::Cons) };
    assert!(policy.admit(&bob, &weaker(Protection::Integrity)).is_ok());
    assert!(policy.admit(&bob, &weaker(Protection::Confidentiality)).is_ok());
    assert!(matches!(policy.admit(&bob, &weaker(Protection::None)), Err(Denial::Protection { .. })));
    let with = |name: &str| Ask { backend: Some(name.into()), ..ask(Role::Cons) };
    assert!(policy.admit(&bob, &with("nginx")).is_ok());
    assert!(matches!(policy.admit(&bob, &with("haproxy")), Err(Denial::Backend { .. })));
    let open = Policy::open(ground());
    assert!(matches!(open.admit(&Caller::Anyone, &weaker(Protection::None)), Err(Denial::Protection { .. })));
    assert!(matches!(open.admit(&Caller::Anyone, &with("nginx")), Err(Denial::Backend { .. })));
}

#[test]
fn targets_are_those_of_the_owners_rules() {
    let policy = policy(RULES);
    let (alice, bob) = (known("1", "alice@facility.example"), known("3", "bob@partner.example"));
    let target = |who: &Caller, role, to: &str| policy.target(who, role, address(to));
    assert_eq!(target(&alice, Role::Prod, "10.7.1.2:5300"), Ok(()));
    for outside in ["10.7.1.2:22", "10.8.1.2:5300", "198.51.100.7:5300"] {
        assert!(matches!(target(&alice, Role::Prod, outside), Err(Forbidden::Outside { .. })), "{outside}");
    }
    assert!(target(&alice, Role::Cons, "198.51.100.7:5100").is_err(), "not her role");
    assert_eq!(target(&bob, Role::Cons, "198.51.100.7:5100"), Ok(()), "the other facility");
    assert_eq!(target(&bob, Role::Cons, "127.0.0.1:5100"), Err(Forbidden::Loopback));
    assert_eq!(target(&bob, Role::Cons, "192.0.2.1:22"), Err(Forbidden::Own));
    assert!(target(&Caller::Anyone, Role::Prod, "10.7.1.2:5300").is_err());
}

#[test]
fn the_sites_networks_bound_an_open_gateway_too_if_they_are_named() {
    let target = |said: bool, role, to: &str| {
        let ground = Ground { inside_is_said: said, ..ground() };
        Policy::open(ground).target(&Caller::Anyone, role, address(to))
    };
    assert_eq!(target(false, Role::Prod, "198.51.100.7:5300"), Ok(()));
    assert!(matches!(target(true, Role::Prod, "198.51.100.7:5300"), Err(Forbidden::Outside { .. })));
    assert_eq!(target(true, Role::Prod, "10.1.2.3:5300"), Ok(()));
    assert_eq!(target(true, Role::Cons, "198.51.100.7:5100"), Ok(()), "the other facility");
    let listed = Ground { inside: vec!["192.0.2.1".parse().expect("a network")], ..ground() };
    assert_eq!(Policy::open(listed).target(&Caller::Anyone, Role::Prod, address("192.0.2.1:5300")), Ok(()));
}

#[test]
fn a_session_is_its_owners() {
    let policy = policy(RULES);
    let (alice, bob) = (known("1", "alice@facility.example"), known("3", "bob@partner.example"));
    let (controller, root) = (known("4", "daq@facility.example"), known("5", "root@facility.example"));
    assert!(policy.may_control(&alice, &alice) && policy.may_announce(&alice, &alice));
    assert!(!policy.may_control(&bob, &alice) && !policy.may_announce(&bob, &alice));
    assert!(!policy.may_control(&controller, &alice) && policy.may_announce(&controller, &alice));
    assert!(!policy.may_announce(&controller, &bob));
    assert!(policy.may_control(&root, &alice) && policy.is_operator(&root) && !policy.is_operator(&alice));
    assert!(policy.may_control(&Caller::Operator, &alice));
    assert!(!policy.may_control(&Caller::Anyone, &Caller::Anyone), "a session from before there were rules");
    assert!(Policy::open(ground()).may_control(&Caller::Anyone, &Caller::Anyone));
}

#[test]
fn every_fault_of_a_rule_is_told() {
    let settings = RuleSettings {
        who: vec!["everybody".into()],
        roles: Some(vec!["prod".into()]),
        targets: Some(vec!["10.0.0.1/8".into()]),
        max_lifetime: Some(-1.0),
        ..RuleSettings::default()
    };
    let mut faults = Vec::new();
    Rule::new(settings, 3, &mut faults);
    assert_eq!(faults.len(), 4, "{faults:#?}");
    assert!(faults.iter().all(|fault| fault.starts_with("[[allow]] 3: ")), "{faults:#?}");
}

#[test]
fn explanations_name_each_rule() {
    let policy = policy(RULES);
    let alice = known("1", "alice@facility.example");
    let opinions = policy.explain(&alice, &ask(Role::Prod), Some(address("10.9.0.1:5300")));
    assert_eq!(opinions.len(), 4);
    assert!(matches!(&opinions[0].verdict, Some(Err(why)) if why.contains("forward")), "{opinions:#?}");
    assert_eq!(opinions[1].verdict, None);
}

#[test]
fn what_was_let_in_is_judged_as_it_is() {
    let policy = policy(RULES);
    let (alice, bob) = (known("1", "alice@facility.example"), known("3", "bob@partner.example"));
    let at = |text: &str| [TargetAddr(address(text))];
    let inside = at("10.7.1.2:5300");
    let held = |role, protection| Ask { protection: Some(protection), ..ask(role) };
    let prod = held(Role::Prod, Protection::Confidentiality);
    let grant = policy.review(&alice, &prod, &inside).expect("her rule has it still");
    assert_eq!((grant.rule.as_deref(), grant.max_lifetime), (Some("beamline"), Some(Duration::from_secs(3600))));
    let lapse = |who: &Caller, ask: &Ask, targets: &[TargetAddr]| {
        policy.review(who, ask, targets).expect_err("it would be refused today")
    };
    assert_eq!(lapse(&known("2", "mallory@facility.example"), &prod, &inside), Lapse::NoRule);
    assert_eq!(lapse(&Caller::Anyone, &prod, &inside), Lapse::Nobody);
    assert!(matches!(lapse(&alice, &prod, &at("10.8.1.2:5300")), Lapse::Target { .. }));
    let role = held(Role::Cons, Protection::Confidentiality);
    assert_eq!(lapse(&alice, &role, &[]), Lapse::Denied(Denial::Role { role: Role::Cons }));
    let weaker = Denial::Protection { asked: Protection::Integrity };
    assert_eq!(lapse(&alice, &held(Role::Prod, Protection::Integrity), &inside), Lapse::Denied(weaker));
    let backend = Denial::Backend { asked: "nginx".into() };
    assert_eq!(lapse(&alice, &Ask { backend: Some("nginx".into()), ..prod.clone() }, &inside), Lapse::Denied(backend));
    assert!(matches!(lapse(&alice, &Ask { connections: 5, ..prod.clone() }, &inside), Lapse::Denied(_)));

    // Who asks for no sources gets the bound; who takes connections from anywhere is beyond it.
    let from = |networks: &[&str]| Ask {
        sources: networks.iter().map(|net| net.parse::<IpNet>().expect("a network")).collect(),
        ..held(Role::Cons, Protection::Integrity)
    };
    assert!(policy.review(&bob, &from(&["10.1.0.0/16"]), &at("198.51.100.7:5100")).is_ok());
    assert!(matches!(lapse(&bob, &from(&[]), &[]), Lapse::Denied(Denial::Source { .. })));

    // What the same rule says of the same name at another provider is about somebody else.
    let elsewhere = Caller::Known(Arc::new(Identity {
        provider: "partner".into(),
        names: ["alice@facility.example".to_owned()].into(),
        ..Identity::default()
    }));
    assert_eq!(lapse(&elsewhere, &prod, &inside), Lapse::Provider { provider: "partner".into() });
    assert!(policy.review(&Caller::Operator, &prod, &at("198.51.100.7:1")).is_ok());
    let open = Policy::open(ground());
    assert!(open.review(&elsewhere, &held(Role::Prod, Protection::None), &at("198.51.100.7:1")).is_ok());
}
