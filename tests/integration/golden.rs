//! What the templates make of a plan: compared with golden files, and shown to the real programs.
//!
//! The golden files in `tests/golden` are rendered with made-up paths and
//! addresses. After a wanted change they are written anew with
//! `INSTA_UPDATE=always`; the difference is then for people to read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use scistream::backend::{Address, Catalog, Circumstances, Duty, Folder, Manifest, Program, Programs};
use scistream::backend::{Sockets, Stage, render};
use scistream::session::{
    Bandwidth, Capacity, ListenAddr, Plan, Protection, Role, Route, SessionId, Sources, TargetAddr, Tcp, TcpWishes,
    Uid, parse_network,
};
use scistream::supervisor::{Launch, Reach};
use tempfile::TempDir;

use crate::promises::rendered::{DESIGNS, assert_says_what_was_asked, stages};
use crate::support::gateway::S2CS;

const ROLES: [Role; 2] = [Role::Prod, Role::Cons];
const PROTECTIONS: [Protection; 3] = [Protection::None, Protection::Integrity, Protection::Confidentiality];
const UUID: &str = "6f9619ff-8b86-11d0-b42d-00cf4fc964ff";

fn catalog() -> Catalog {
    Catalog::load(None).expect("the built-in backends load")
}

fn session(role: Role) -> SessionId {
    SessionId { uid: Uid::parse(UUID).expect("a UUID").digest(), role }
}

fn text(catalog: &Catalog, stage: &Stage, program: &Program, folder: &Folder, plan: &Plan, root: bool) -> String {
    let template = catalog.template(&stage.manifest).expect("it has one");
    let circumstances = Circumstances {
        protection: plan.protection,
        connections: 4096,
        bandwidth: plan.capacity.limit,
        memory_mib: plan.capacity.limit.map(|_| 256),
        tcp: if plan.capacity.is_bounded() { all_of_tcp().with(&plan.tcp) } else { Tcp::default().with(&plan.tcp) },
        root,
    };
    let text = render(&template, stage, program, folder, session(plan.role), circumstances).expect("it renders");
    let limit = plan.capacity.limit.filter(|_| stage.limits);
    let line = limit.map(|limit| format!("bandwidth = {}", limit.bytes_per_second()));
    assert_eq!(text.lines().find(|line| line.starts_with("bandwidth")), line.as_deref(), "{}", stage.name());
    text
}

/// What a site may say of TCP.
fn all_of_tcp() -> Tcp {
    Tcp {
        nodelay: Some(false),
        keepalive_seconds: Some(0),
        send_buffer: Some(4_194_304),
        receive_buffer: Some(2_097_152),
        congestion: Some("reno".parse().expect("a name")),
    }
}

fn limited(kilobytes: u32) -> Capacity {
    Capacity { limit: Bandwidth::kilobytes(kilobytes), ..Capacity::default() }
}

fn plan(role: Role, protection: Protection, routes: &[(SocketAddr, SocketAddr)]) -> Plan {
    let route = |(listen, target): &(SocketAddr, SocketAddr)| Route {
        listen: ListenAddr(*listen),
        target: TargetAddr(*target),
    };
    let routes = routes.iter().map(route).collect();
    let (sources, capacity, tcp) = (Sources::default(), Capacity::default(), TcpWishes::default());
    Plan { role, protection, sources, capacity, tcp, routes }
}

/// Addresses for documentation (RFC 5737, RFC 3849).
fn made_up_routes(listeners: u16, v6: bool) -> Vec<(SocketAddr, SocketAddr)> {
    let (listen, target) = if v6 { ("2001:db8:1::10", "2001:db8:2::9") } else { ("192.0.2.10", "198.51.100.9") };
    let address = |ip: &str, port| SocketAddr::new(ip.parse().expect("an address"), port);
    (0..listeners).map(|i| (address(listen, 5100 + i), address(target, 5300 + i))).collect()
}

/// What the sections with sources have: everyone, both families, and each alone.
const SOURCES: [&[&str]; 4] = [
    &[],
    &["198.51.100.0/24", "203.0.113.7", "2001:db8:3::/48"],
    &["198.51.100.0/24", "203.0.113.7"],
    &["2001:db8:3::/48", "2001:db8:4::7"],
];

fn sources(texts: &[&str]) -> Sources {
    texts.iter().map(|text| parse_network(text).expect("a network")).collect()
}

/// Shapes of a session: how many listeners, whether over IPv6, for whom, and how much it may move.
fn shapes() -> Vec<(u16, bool, Sources, Capacity)> {
    let any = Capacity::default();
    let open =
        [(1, false), (1, true), (3, false), (3, true)].map(|(listeners, v6)| (listeners, v6, Sources::default(), any));
    let [_, both, v4, v6] = SOURCES.map(sources);
    let guarded =
        [(1, false, both.clone(), any), (3, false, v4.clone(), any), (1, true, v6, any), (3, true, both, any)];
    let bounded = [(1, false, Sources::default(), limited(5000)), (3, true, v4, limited(1_250_000))];
    open.into_iter().chain(guarded).chain(bounded).collect()
}

/// The file that a stage's sections go into: what it is, and what stands beside it.
fn golden_file(stages: &[Stage], stage: &Stage, role: Role) -> String {
    let me = &stage.manifest.name;
    let mut others = stages.iter().filter(|other| other.duty == Duty::Carry).map(|other| &other.manifest.name);
    let place = match stage.duty {
        Duty::Gate => format!("gate-before-{}", others.next_back().expect("a gate stands before something")),
        Duty::Carry => others.find(|name| *name != me).map_or("alone".into(), |other| format!("with-{other}")),
    };
    format!("{me}-{place}-{}", role.as_str().to_lowercase())
}

fn made_up_program(manifest: &Manifest) -> Program {
    let files = manifest.files.iter().map(|needed| (needed.name.clone(), needed.paths[0].clone())).collect();
    Program { path: Path::new("/usr/sbin").join(&manifest.program), version: "1.2.3".into(), files }
}

/// One file for each template in each neighbourhood and role; in it, a section
/// for each protection that changes the text, and for each shape of a session.
#[test]
fn every_configuration_is_what_it_was() {
    let catalog = catalog();
    let folder = Folder { path: "/run/scistream/sessions/0123456789ab".into() };
    let mut files: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for design in DESIGNS {
        for role in ROLES {
            for (listeners, v6, sources, capacity) in shapes() {
                for protection in PROTECTIONS {
                    let plan = plan(role, protection, &made_up_routes(listeners, v6)).only_from(sources.clone());
                    let plan = plan.bounded_by(capacity);
                    let stages = stages(&catalog, design, &plan, &folder.path);
                    for stage in &stages {
                        let program = made_up_program(&stage.manifest);
                        let text = text(&catalog, stage, &program, &folder, &plan, false);
                        let family = if v6 { "IPv6" } else { "IPv4" };
                        let whom = if sources.are_anywhere() { String::new() } else { format!(", from {sources}") };
                        let limit = capacity.limit.map(|limit| format!(", kept to {limit}")).unwrap_or_default();
                        let section = (format!("{listeners} over {family}, floor {protection}{whom}{limit}"), text);
                        let sections = files.entry(golden_file(&stages, stage, role)).or_default();
                        if !sections.contains(&section) {
                            sections.push(section);
                        }
                    }
                }
            }
        }
    }
    assert_eq!(files.len(), 24);
    for (name, sections) in files {
        insta::with_settings!({
            snapshot_path => "../golden",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, in_sections(&sections));
        });
    }
}

/// Sections one after the other; those with the same text have one together.
fn in_sections(sections: &[(String, String)]) -> String {
    let mut merged: Vec<(Vec<&str>, &str)> = Vec::new();
    for (heading, text) in sections {
        match merged.iter_mut().find(|(_, other)| other == text) {
            Some((headings, _)) => headings.push(heading),
            None => merged.push((vec![heading], text)),
        }
    }
    merged.iter().fold(String::new(), |mut all, (headings, text)| {
        writeln!(all, "===== {}\n{text}", headings.join("; ")).expect("writing to a String cannot fail");
        all
    })
}

#[test]
fn a_program_that_starts_as_root_stays_root_where_it_must_reach_the_folder() {
    let catalog = catalog();
    let folder = Folder { path: "/run/x".into() };
    let plan = plan(Role::Prod, Protection::Confidentiality, &made_up_routes(1, false));
    let stages = stages(&catalog, ("nginx", "native"), &plan, &folder.path);
    let nginx = stages.iter().find(|stage| stage.manifest.name == "nginx").expect("a stage");
    let program = made_up_program(&nginx.manifest);
    assert!(text(&catalog, nginx, &program, &folder, &plan, true).contains("\nuser root;\n"));
    assert!(!text(&catalog, nginx, &program, &folder, &plan, false).contains("user root"));
}

/// A session's folder and sockets without a session.
struct Stand {
    folder: PathBuf,
    _base: TempDir,
    sockets: BTreeMap<String, OwnedFd>,
}

impl Stand {
    /// A folder with a key.
    fn new() -> Self {
        Self::below("")
    }

    /// The same, with more of a path before it.
    fn below(path: &str) -> Self {
        let base = TempDir::with_prefix("golden-").expect("a folder");
        let folder = base.path().join(path);
        fs::create_dir_all(&folder).expect("a folder");
        let key = folder.join("psk");
        fs::write(&key, format!("client1:{}\n", UUID.replace('-', ""))).expect("written");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("our file");
        Self { folder, _base: base, sockets: BTreeMap::new() }
    }

    fn folder(&self) -> Folder {
        Folder { path: self.folder.clone() }
    }

    /// Takes ports of the system's choice; each goes to its target.
    fn routes(&mut self, ips: &[IpAddr], targets: &[SocketAddr]) -> Vec<(SocketAddr, SocketAddr)> {
        let mut take = |(ip, target): (&IpAddr, &SocketAddr)| {
            let listener = TcpListener::bind((*ip, 0)).expect("a port");
            let address = listener.local_addr().expect("bound");
            self.sockets.insert(address.to_string(), listener.into());
            (address, *target)
        };
        ips.iter().zip(targets).map(&mut take).collect()
    }

    /// Copies of the sockets that a stage accepts on.
    fn inherited(&mut self, stage: &Stage) -> Vec<OwnedFd> {
        let copy = |hop: &scistream::backend::Hop| {
            if let Address::Unix(path) = &hop.accept {
                let make = || UnixListener::bind(path).expect("a socket").into();
                self.sockets.entry(path.display().to_string()).or_insert_with(make);
            }
            self.sockets[&hop.accept.to_string()].try_clone().expect("a descriptor")
        };
        stage.hops.iter().map(copy).collect()
    }

    /// Whether the real program takes this text.
    fn accepts(&mut self, stage: &Stage, program: &Program, text: &str) -> Result<(), String> {
        let config = self.folder().config_file(stage);
        fs::write(&config, text).expect("written");
        let fill = |argv: &[String]| -> Vec<String> {
            let (config, folder) = (config.display().to_string(), self.folder.display().to_string());
            argv.iter().map(|word| word.replace("{config}", &config).replace("{folder}", &folder)).collect()
        };
        let argv = match &stage.manifest.check {
            Some(check) => fill(&check.argv),
            None => fill(&stage.manifest.start.argv),
        };
        // As in a session: by way of the command that becomes the program, and boxed in.
        let mut command = Command::new(S2CS);
        let inherited = self.inherited(stage);
        let log = self.folder.join("said");
        let out = File::create(&log).expect("a file");
        let folder = self.folder();
        folder.make_nobody().expect("a certificate");
        let launch = Launch {
            reach: Reach {
                read: std::iter::once(folder.path.clone()).chain(program.files.values().cloned()).collect(),
                write: vec![folder.make_scratch().expect("a folder"), log.clone()],
                ..Reach::default()
            },
            sockets: inherited.len(),
            argv: std::iter::once(program.path.clone().into()).chain(argv.into_iter().map(Into::into)).collect(),
            ..Launch::default()
        };
        command.args(launch.arguments()).current_dir(&self.folder);
        match stage.manifest.sockets {
            Sockets::Systemd => {
                command.env("LISTEN_FDS", inherited.len().to_string());
            }
            Sockets::Nginx => {
                command.env("NGINX", (3..).take(inherited.len()).map(|fd: usize| format!("{fd};")).collect::<String>());
            }
            Sockets::Config => {}
        }
        let mapping = |(parent_fd, child_fd)| FdMapping { parent_fd, child_fd };
        command.fd_mappings(inherited.into_iter().zip(3..).map(mapping).collect()).expect("descriptors");
        let err = out.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("it starts");
        let mut child = Ended(child);
        let said = || fs::read_to_string(&log).unwrap_or_default();
        if stage.manifest.check.is_some() {
            let status = child.0.wait().expect("our child");
            return if status.success() { Ok(()) } else { Err(format!("{status}: {}", said())) };
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while !said().lines().any(|line| stage.manifest.start.ready.is_match(line)) {
            if let Some(status) = child.0.try_wait().expect("our child") {
                return Err(format!("{status}: {}", said()));
            }
            assert!(Instant::now() < deadline, "it says neither yes nor no: {}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// A child that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The program of a manifest as it is installed; our own is beside s2cs.
fn installed(programs: &Programs, manifest: &Manifest) -> Program {
    let mut manifest = manifest.clone();
    if manifest.program == "s2ds" {
        manifest.program = Path::new(S2CS).with_file_name("s2ds").display().to_string();
    }
    programs.find(&manifest).unwrap_or_else(|e| panic!("{e}"))
}

fn am_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn accepted_by_the_program(design: (&str, &str)) {
    let (catalog, programs) = (catalog(), Programs::default());
    let v4 = ["127.0.0.1".parse().expect("an address"); 3];
    let v6 = ["::1".parse().expect("an address"); 3];
    let mut seen = 0;
    for role in ROLES {
        for protection in PROTECTIONS {
            for (listeners, far, sources, capacity) in shapes() {
                let ips = if far { &v6[..listeners.into()] } else { &v4[..listeners.into()] };
                let mut stand = Stand::new();
                let targets: Vec<_> = made_up_routes(3, far).into_iter().map(|(_, target)| target).collect();
                let plan = plan(role, protection, &stand.routes(ips, &targets)).only_from(sources);
                let plan = plan.bounded_by(capacity);
                let folder = stand.folder();
                for stage in stages(&catalog, design, &plan, &folder.path) {
                    let program = installed(&programs, &stage.manifest);
                    let text = text(&catalog, &stage, &program, &folder, &plan, am_root());
                    let outcome = stand.accepts(&stage, &program, &text);
                    assert!(outcome.is_ok(), "{} as {role}, {protection}:\n{outcome:?}\n{text}", stage.name());
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 32, "{seen}");
}

macro_rules! accepted {
    ($($name:ident: $design:expr;)*) => {
        $(
            #[test]
            fn $name() {
                accepted_by_the_program($design);
            }
        )*
    };
}

accepted! {
    s2ds_takes_every_configuration: DESIGNS[0];
    stunnel_takes_every_configuration: DESIGNS[1];
    haproxy_and_s2ds_take_every_configuration: DESIGNS[2];
    haproxy_and_stunnel_take_every_configuration: DESIGNS[3];
    nginx_and_s2ds_take_every_configuration: DESIGNS[4];
    nginx_and_stunnel_take_every_configuration: DESIGNS[5];
}

/// So that a yes of the programs means something.
#[test]
fn each_program_refuses_a_spoilt_configuration() {
    let (catalog, programs) = (catalog(), Programs::default());
    for manifest in catalog.all() {
        let mut stand = Stand::new();
        let routes = stand.routes(&["127.0.0.1".parse().expect("an address")], &["192.0.2.1:1".parse().expect("one")]);
        let plan = plan(Role::Prod, Protection::Confidentiality, &routes);
        let folder = stand.folder();
        let stages = stages(&catalog, (&manifest.name, "native"), &plan, &folder.path);
        let stage = stages.iter().find(|stage| stage.manifest.name == manifest.name).expect("a stage");
        let program = installed(&programs, manifest);
        let good = text(&catalog, stage, &program, &folder, &plan, am_root());
        assert_eq!(stand.accepts(stage, &program, &good), Ok(()));
        let refused = stand.accepts(stage, &program, &format!("bogus_word = 1\n{good}"));
        assert!(refused.as_ref().is_err_and(|said| said.contains("bogus_word")), "{}: {refused:?}", manifest.name);
    }
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

/// An address of this host, of which there are many.
fn local_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (any::<u8>(), any::<u8>(), 1..255_u8).prop_map(|(b, c, d)| IpAddr::from([127, b, c, d])),
        Just(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
    ]
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any_ip(), 1..=u16::MAX).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn any_network() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(ip, prefix)| (IpAddr::from(ip), prefix));
    let v6 = (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(ip, prefix)| (IpAddr::from(ip), prefix));
    prop_oneof![v4, v6].prop_map(|(ip, prefix)| IpNet::new(ip, prefix).expect("a prefix"))
}

fn any_sources() -> impl Strategy<Value = Sources> {
    proptest::collection::vec(any_network(), 0..=64).prop_map(|networks| networks.into_iter().collect())
}

fn any_capacity() -> impl Strategy<Value = Capacity> {
    (any::<u32>(), any::<bool>(), any::<bool>()).prop_map(|(kilobytes, bounded, shared)| {
        let limit = Bandwidth::kilobytes(kilobytes).filter(|_| bounded);
        Capacity { limit, shared, ..Capacity::default() }
    })
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Prod), Just(Role::Cons)]
}

fn any_protection() -> impl Strategy<Value = Protection> {
    (0..PROTECTIONS.len()).prop_map(|index| PROTECTIONS[index])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_plan_is_written_with_its_addresses_and_no_others(
        role in any_role(),
        protection in any_protection(),
        routes in proptest::collection::vec((any_address(), any_address()), 1..=6),
        sources in any_sources(),
        capacity in any_capacity(),
    ) {
        let catalog = catalog();
        let folder = Folder { path: "/run/scistream/sessions/0123456789ab".into() };
        let plan = plan(role, protection, &routes).only_from(sources).bounded_by(capacity);
        for design in DESIGNS {
            for stage in stages(&catalog, design, &plan, &folder.path) {
                let program = made_up_program(&stage.manifest);
                let text = text(&catalog, &stage, &program, &folder, &plan, false);
                assert_says_what_was_asked(&stage, &text, &program, &folder);
            }
        }
    }
}

/// A session's folder in a state folder that the configuration takes, however odd its name.
fn odd_folder() -> impl Strategy<Value = String> {
    let not_special = |name: &String| name != "." && name != "..";
    let name = "[A-Za-z0-9._+-]{1,12}".prop_filter("another folder", not_special);
    proptest::collection::vec(name, 1..=3).prop_map(|names| names.join("/"))
}

/// Listeners on this host, mostly few, and targets anywhere.
fn any_ends() -> impl Strategy<Value = Vec<(IpAddr, SocketAddr)>> {
    let ends = |count| proptest::collection::vec((local_ip(), any_address()), count);
    prop_oneof![4 => ends(1..=6), 1 => ends(30..=64)]
}

fn any_plan_is_taken_by_the_programs(design: (&str, &str)) {
    let (catalog, programs) = (catalog(), Programs::default());
    let taken = RefCell::new(BTreeMap::new());
    let plans = (any_role(), any_protection(), any_sources(), any_capacity(), odd_folder(), any_ends());
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&plans, |(role, protection, sources, capacity, folder, ends)| {
        let (ips, targets): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let mut stand = Stand::below(&folder);
        let plan = plan(role, protection, &stand.routes(&ips, &targets)).only_from(sources).bounded_by(capacity);
        let folder = stand.folder();
        for stage in stages(&catalog, design, &plan, &folder.path) {
            let program = installed(&programs, &stage.manifest);
            let text = text(&catalog, &stage, &program, &folder, &plan, am_root());
            assert_says_what_was_asked(&stage, &text, &program, &folder);
            prop_assert_eq!(stand.accepts(&stage, &program, &text), Ok(()), "{}", text);
            *taken.borrow_mut().entry(stage.manifest.name.clone()).or_insert(0) += 1;
        }
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
    let taken = taken.into_inner();
    println!("configurations of random plans that were taken: {taken:?}");
    assert!(taken.get(design.0).is_some_and(|count| *count > 1), "{taken:?}");
}

macro_rules! any_plan {
    ($($name:ident: $design:expr;)*) => {
        $(
            #[test]
            fn $name() {
                any_plan_is_taken_by_the_programs($design);
            }
        )*
    };
}

any_plan! {
    s2ds_takes_any_plan: DESIGNS[0];
    stunnel_takes_any_plan: DESIGNS[1];
    haproxy_and_s2ds_take_any_plan: DESIGNS[2];
    haproxy_and_stunnel_take_any_plan: DESIGNS[3];
    nginx_and_s2ds_take_any_plan: DESIGNS[4];
    nginx_and_stunnel_take_any_plan: DESIGNS[5];
}
