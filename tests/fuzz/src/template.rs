//! A template, as a site writes it, filled in for a session of two listeners.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use scistream::backend::{Catalog, Circumstances, Folder, Program, Stage, Template, render};
use scistream::session::{ListenAddr, Plan, Protection, Role, SessionId, TargetAddr, Uid};

const UID: &str = "6f9619ff-8b86-11d0-b42d-00cf4fc964ff";

struct Fixed {
    stages: Vec<Stage>,
    program: Program,
    folder: Folder,
    session: SessionId,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let catalog = Catalog::load(None).expect("the built-in backends load");
    let address = |text: &str| text.parse().expect("an address");
    let listeners = [ListenAddr(address("192.0.2.10:5100")), ListenAddr(address("[2001:db8::10]:5101"))];
    let targets = [TargetAddr(address("198.51.100.9:5300"))];
    let plan = Plan::new(Role::Prod, Protection::Confidentiality, &listeners, &targets).expect("targets");
    let folder = Folder { path: "/run/scistream/sessions/0123456789ab-prod".into() };
    let files = BTreeMap::from([("stream_module".to_owned(), "/usr/lib/module.so".into())]);
    Fixed {
        stages: super::rendered::stages(&catalog, ("haproxy", "native"), &plan, &folder.path),
        program: Program { path: "/usr/sbin/proxy".into(), version: "1.2.3".into(), files },
        folder,
        session: SessionId { uid: Uid::parse(UID).expect("a UUID").digest(), role: Role::Prod },
    }
});

/// The same template makes the same text (else a session would be reloaded for
/// nothing), of a bounded length, and there is no way from it to the key.
pub fn check(data: &[u8]) {
    let Ok(template) = std::str::from_utf8(data) else { return };
    let Ok(parsed) = Template::parse(template) else { return };
    let Fixed { stages, program, folder, session } = &*FIXED;
    let circumstances = Circumstances {
        protection: Protection::Confidentiality,
        connections: 4096,
        root: false,
        ..Circumstances::default()
    };
    for stage in stages {
        let fill = || render(&parsed, stage, program, folder, *session, circumstances.clone());
        let text = match fill() {
            Ok(text) => text,
            Err(fault) => return super::assert_one_line(&fault.to_string()),
        };
        assert!(text.len() <= 4 << 20, "{} bytes", text.len());
        assert_eq!(fill().ok().as_ref(), Some(&text), "the second time it is another text");
        let bare = UID.replace('-', "");
        let shows = |key: &str| text.contains(key) && !template.contains(key);
        assert!(!shows(UID) && !shows(&bare), "the key is in it");
    }
}
