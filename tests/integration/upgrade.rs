//! Journals that earlier releases wrote, as they wrote them, are read for ever.
//! They stand in tests/upgrade, a folder a format; none is ever changed.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use scistream::auth::{Caller, Identity};
use scistream::session::{Protection, TcpWishes, Weight};
use scistream::store::{Live, Record};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade")
}

fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
    ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect()
}

fn serving(targets: &[u16]) -> Option<Live> {
    Some(Live { protection: Protection::Confidentiality, targets: addresses(targets) })
}

#[test]
fn every_journal_that_was_ever_written_loads() {
    let mut read = 0;
    for format in fs::read_dir(folder()).expect("the folder").flatten() {
        for session in fs::read_dir(format.path()).expect("a folder").flatten() {
            let record =
                Record::read(&session.path()).unwrap_or_else(|e| panic!("{}: {e:?}", session.path().display()));
            assert!(format.file_name().to_str().is_some_and(|name| name == format!("format-{}", record.format)));
            read += 1;
        }
    }
    println!("{read} journals of earlier releases read");
    assert!(read >= 5);
}

#[test]
fn journals_of_format_1_say_what_they_said() {
    let read = |name: &str| Record::read(&folder().join("format-1").join(name)).expect("it loads");
    let announced = Record {
        format: 1,
        session: "c3ba69a92e42-prod".into(),
        listeners: addresses(&[27_005, 27_006, 27_007]),
        announced: vec!["127.0.0.1:43335".into(), "localhost:5074".into()],
        announced_targets: addresses(&[43_335, 5074]),
        live: None,
        changing: false,
        revision: 0,
        created_ms: 1_795_241_757_452,
        expires_ms: Some(1_795_245_357_452),
        max_idle_ms: None,
        sources: vec![],
        // What format 1 did not have from the start.
        owner: Caller::Anyone,
        weakness: None,
        backend: None,
        backend_is_asked_for: None,
        protection: None,
        max_lifetime_ms: None,
        rate: None,
        bandwidth: None,
        weight: Weight::default(),
        shared: false,
        tcp: TcpWishes::default(),
    };
    let cons = Record {
        session: "7bfd46a345ce-cons".into(),
        listeners: addresses(&[27_003, 27_004]),
        announced: vec![],
        announced_targets: vec![],
        live: serving(&[27_001, 27_002]),
        revision: 1,
        created_ms: 1_795_241_757_387,
        expires_ms: Some(1_795_328_157_387),
        max_idle_ms: None,
        ..announced.clone()
    };
    let prod = Record {
        session: "7bfd46a345ce-prod".into(),
        listeners: addresses(&[27_001, 27_002]),
        announced: vec!["127.0.0.1:43335".into()],
        announced_targets: addresses(&[43_335]),
        live: serving(&[44_915, 44_915]),
        revision: 2,
        created_ms: 1_795_241_757_326,
        expires_ms: Some(1_795_328_157_326),
        max_idle_ms: None,
        ..announced.clone()
    };
    for (name, expected) in [("announced", announced), ("cons-active", cons), ("prod-active", prod)] {
        assert_eq!(read(name), expected, "{name}");
    }
    println!("3 journals of format 1 say what they said");
}

#[test]
fn journals_of_format_2_say_what_they_said() {
    let read = |name: &str| Record::read(&folder().join("format-2").join(name)).expect("it loads");
    let lasting = BTreeSet::from(["CN=alice,O=facility".to_owned()]);
    let owner = Identity {
        provider: "certificate".into(),
        subject: "CN=alice,O=facility".into(),
        identities: lasting,
        names: BTreeSet::from(["alice@facility.example".to_owned()]),
        ..Identity::default()
    };
    let chosen = Record {
        format: 2,
        session: "bf0a9dcafc20-prod".into(),
        listeners: addresses(&[28_001, 28_002]),
        announced: vec!["127.0.0.1:28500".into()],
        announced_targets: addresses(&[28_500]),
        live: serving(&[28_500, 28_500]),
        changing: false,
        revision: 1,
        created_ms: 1_795_726_530_404,
        expires_ms: Some(1_795_812_930_404),
        max_idle_ms: None,
        sources: vec![],
        owner: Caller::Known(Arc::new(owner)),
        weakness: None,
        backend: Some("native".into()),
        backend_is_asked_for: Some(false),
        protection: Some(Protection::Confidentiality),
        max_lifetime_ms: Some(86_400_000),
        rate: None,
        bandwidth: None,
        weight: Weight::default(),
        shared: false,
        tcp: TcpWishes::default(),
    };
    let asked_for = Record {
        session: "4a4463867bde-prod".into(),
        listeners: addresses(&[28_003]),
        live: serving(&[28_500]),
        created_ms: 1_795_726_530_905,
        expires_ms: Some(1_795_812_930_905),
        sources: vec!["127.0.0.1/32".parse().expect("a network")],
        backend: Some("nginx".into()),
        backend_is_asked_for: Some(true),
        ..chosen.clone()
    };
    assert_eq!(read("chosen"), chosen);
    assert_eq!(read("asked-for"), asked_for);
    println!("2 journals of format 2 say what they said");
}
