//! Proxies are boxed in: what one that is broken into can do, and what each is started with.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use scistream::backend::{Catalog, Programs};
use scistream::session::Role;
use scistream::supervisor::kernel_has_landlock;
use serde::Deserialize;
use tempfile::TempDir;

use crate::support::app::First;
use crate::support::command::{Running, run};
use crate::support::gateway::{S2CS, S2UC};
use crate::support::program::PYTHON;
use crate::support::session::{event, folder, id, leaders_and_workers};
use crate::support::{App, BACKENDS, TestGateway, Tunnel, eventually, exchange};

const ROLES: [Role; 2] = [Role::Prod, Role::Cons];
/// CAP_DAC_OVERRIDE, CAP_SETGID and CAP_SETUID: what is left of root.
const KEPT: u64 = 1 << 1 | 1 << 6 | 1 << 7;

fn am_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// How a try must come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// In a box and without.
    Work,
    /// Refused in a box, by kernels with this Landlock or a newer one; and by nothing else.
    BeShut(u32),
    /// Whatever the box, for want of a privilege.
    Fail,
}

/// A try as `boxed.py` tells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    kind: String,
    what: String,
    outcome: String,
}

/// What a proxy that was broken into would look for, and what it needs.
struct Burglary {
    tries: Vec<(&'static str, String, Must)>,
    /// What is tried to be reached is there for as long.
    _home: TempDir,
    _doors: [UnixListener; 2],
}

impl Burglary {
    /// Into another session and the gateway that runs it.
    fn plan(gateway: &TestGateway, victim: &Tunnel, app: &App) -> Self {
        let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        let home = TempDir::with_prefix_in("scistream-", home).expect("a folder");
        fs::write(home.path().join("secret"), "x").expect("written");
        fs::write(gateway.folder().join("secret"), "x").expect("written");
        let door = gateway.folder().join("door");
        let abstract_door = format!("scistream-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_door).expect("a name");
        let doors =
            [UnixListener::bind(&door).expect("a socket"), UnixListener::bind_addr(&address).expect("a socket")];

        let (theirs, s2cs) = (folder(gateway, &victim.uid, Role::Prod), gateway.pid().to_string());
        let (leaders, _) = leaders_and_workers(gateway, &victim.uid, Role::Prod);
        let text = |path: PathBuf| path.display().to_string();
        let mut tries = Vec::new();
        let mut add = |must, kind, whats: Vec<String>| tries.extend(whats.into_iter().map(|what| (kind, what, must)));
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();

        // What it is there for.
        add(Must::Work, "read", own(&["psk", "session.json", "/etc/passwd", "/dev/urandom", "/dev/null"]));
        add(Must::Work, "change", own(&["/dev/null", "boxed.log"]));
        add(Must::Work, "create", own(&["scratch/new"]));
        add(Must::Work, "connect", vec![app.address.port().to_string()]);
        // Another session.
        let files = ["psk", "session.json", "processes.json", "boxed.log"].map(|name| text(theirs.join(name)));
        add(Must::BeShut(1), "read", files.to_vec());
        add(Must::BeShut(1), "change", files.to_vec());
        add(Must::BeShut(1), "list", vec![text(theirs.clone())]);
        add(Must::BeShut(1), "create", vec![text(theirs.join("scratch/new"))]);
        for victim in &leaders {
            let proc = ["environ", "maps", "status"].map(|name| format!("/proc/{}/{name}", victim.pid));
            add(Must::BeShut(1), "read", proc.to_vec());
            add(Must::BeShut(1), "memory", vec![victim.pid.to_string()]);
            add(Must::BeShut(6), "signal", vec![victim.pid.to_string()]);
        }
        // The site, its people, its host.
        let site = ["server.key", "secret", "backends/boxed/backend.toml", "state/lock", "state/control.word"];
        add(Must::BeShut(1), "read", site.map(|name| text(gateway.folder().join(name))).to_vec());
        add(Must::BeShut(1), "read", vec![text(home.path().join("secret")), format!("/proc/{s2cs}/status")]);
        add(Must::BeShut(1), "list", vec![text(gateway.sessions_dir()), text(gateway.folder().to_owned())]);
        add(Must::BeShut(1), "list", vec![text(home.path().to_owned()), "/tmp".into(), "/proc".into(), "/etc".into()]);
        add(Must::BeShut(1), "create", vec![text(gateway.folder().join("new")), "/tmp/scistream-new".into()]);
        add(Must::BeShut(6), "signal", vec![s2cs.clone()]);
        add(Must::BeShut(6), "abstract", vec![abstract_door]);
        add(Must::BeShut(9), "unix", vec![text(door)]);
        // What the controller believes of this session, and ways out of the folder.
        add(Must::BeShut(1), "change", own(&["session.json", "psk"]));
        add(Must::BeShut(1), "create", own(&["new"]));
        add(Must::BeShut(1), "link", own(&["scratch/link"]));
        add(Must::BeShut(1), "execute", own(&["scratch/true"]));
        add(Must::BeShut(4), "bind", own(&["0"]));
        // What not even root may any more; s2cs hides its memory by itself.
        add(Must::Fail, "memory", vec![s2cs.clone()]);
        add(Must::Fail, "read", vec![format!("/proc/{s2cs}/environ")]);
        add(Must::Fail, "packet", own(&[""]));
        add(Must::Fail, "mount", own(&["scratch"]));
        Self { tries, _home: home, _doors: doors }
    }

    /// Checks what a session's log tells; answers with how many tries were refused.
    fn judge(&self, log: &str, boxed: bool, who: &str) -> usize {
        let tried: Vec<Tried> = log
            .lines()
            .filter_map(|line| line.strip_prefix("tried "))
            .map(|json| serde_json::from_str(json).expect("a line of boxed.py"))
            .collect();
        assert!(tried.len() > self.tries.len(), "{who}: not all was tried:\n{log}");
        // The last time: a configuration may be checked by the program itself before.
        let (landlock, tried) = tried.split_last().expect("some");
        assert_eq!(landlock.kind, "landlock");
        let kernel: u32 = landlock.what.parse().expect("a kernel with Landlock, which this test needs");
        let tried = &tried[tried.len() - self.tries.len()..];
        for ((kind, what, must), tried) in self.tries.iter().zip(tried) {
            assert_eq!((*kind, what), (tried.kind.as_str(), &tried.what));
            let shut = matches!(tried.outcome.as_str(), "EACCES" | "EPERM");
            let right = match must {
                Must::Work => tried.outcome == "done",
                Must::BeShut(version) if boxed && kernel >= *version => shut,
                // Outside a box, root may; nobody else can be sure of it.
                Must::BeShut(_) => tried.outcome == "done" || !am_root(),
                Must::Fail => shut,
            };
            assert!(right, "{who}: {kind} {what} must {must:?}, and was {}", tried.outcome);
        }
        let refused = tried.iter().filter(|tried| tried.outcome != "done").count();
        println!("{who}: {} tries, {refused} refused, by Landlock {kernel}", tried.len());
        refused
    }
}

/// The program of a built-in backend as it is installed.
fn installed(backend: &str) -> PathBuf {
    let mut manifest = (*Catalog::load(None).expect("built in").get(backend).expect("known")).clone();
    if manifest.program == "s2ds" {
        manifest.program = Path::new(S2CS).with_file_name("s2ds").display().to_string();
    }
    Programs::default().find(&manifest).unwrap_or_else(|e| panic!("{e}")).path
}

/// Puts a burglar in the place of a backend's program, which it becomes in the end.
fn hire(place: &Path, program: &Path, tries: &[(&str, String, Must)]) {
    let tries: Vec<_> = tries.iter().map(|(kind, what, _)| (kind, what)).collect();
    let text = include_str!("boxed.py")
        .replace("@PROGRAM@", &format!("{:?}", program.display().to_string()))
        .replace("@TRIES@", &serde_json::to_string(&tries).expect("text"));
    let next = place.with_extension("next");
    fs::write(&next, text).expect("written");
    fs::set_permissions(&next, Permissions::from_mode(0o755)).expect("our file");
    fs::rename(next, place).expect("in place");
}

/// A backend like a built-in one whose program tries to get out before it begins.
/// Answers with what was refused to it.
async fn burgled(backend: &str, sandbox: &str) -> Vec<usize> {
    let (app, other) = (App::start().await, App::start().await);
    let plan = TestGateway::plan(&["--backend", "boxed", "--sandbox", sandbox]);
    let (place, program) = (plan.folder().join("boxed.py"), installed(backend));
    hire(&place, &program, &[]);
    let manifest = |text: String| {
        let line = text.lines().find(|line| line.starts_with("program = ")).expect("it has one").to_owned();
        let text = text.replace(&line, &format!("program = {:?}", place.display().to_string()));
        format!("{text}\n[sandbox]\nread = [{:?}, \"/not/there\"]\n", program.display().to_string())
    };
    let gateway = plan.backend("boxed", backend, manifest, |template| template).start().await;
    let victim = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let burglary = Burglary::plan(&gateway, &victim, &app);
    hire(&place, &program, &burglary.tries);
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;

    let log = |role| fs::read_to_string(folder(&gateway, &tunnel.uid, role).join("boxed.log")).expect("its log");
    let mut refused = Vec::new();
    for role in ROLES {
        let who = format!("{backend} as {role}, sandbox {sandbox}");
        refused.push(burglary.judge(&log(role), sandbox != "off", &who));
    }
    // All the same it serves, is moved, and comes back.
    let client = gateway.client().await;
    client.update(&tunnel.uid, Role::Prod, vec![other.endpoint()]).await.unwrap_or_else(|e| panic!("{}", e.story()));
    exchange(&tunnel.cons.listeners[0], First::Producer).await;
    assert_eq!(other.connections(), 1, "{backend}: it was not moved");
    for role in ROLES {
        let mut events = client.watch(0, &id(&tunnel.uid, role)).await.expect("watched");
        let before = log(role).matches("tried ").count();
        leaders_and_workers(&gateway, &tunnel.uid, role).0.iter().for_each(|leader| leader.kill());
        event(&client, &mut events, |event| event.what == "healthy again").await;
        assert!(log(role).matches("tried ").count() > before, "{backend}: it was not started again");
    }
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    exchange(&victim.cons.listeners[0], First::Consumer).await;
    for tunnel in [&tunnel, &victim] {
        tunnel.release(&gateway, &gateway).await;
    }
    gateway.assert_nothing_left();
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_broken_into_reaches_its_own_session_alone() {
    for backend in BACKENDS {
        burgled(backend, "required").await;
    }
}

/// So that what is refused in the box is refused by the box.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_box_the_same_tries_work() {
    for refused in burgled("haproxy", "off").await {
        assert!(refused < 10 || !am_root(), "{refused}");
    }
}

/// A gateway in surroundings that proxies must not inherit.
fn surrounded(flags: &[&str], options: &[&str]) -> crate::support::gateway::GatewayPlan {
    let plan = TestGateway::plan(flags);
    let script = plan.folder().join("surroundings.py").display().to_string();
    let command = [&[PYTHON, script.as_str()], options].concat();
    plan.file("surroundings.py", include_str!("surroundings.py")).through(&command)
}

/// What `/proc/PID/NAME` tells, by the word in front of each line.
fn told(pid: i32, name: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/{name}")).expect("it runs");
    let pair = |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The soft and the hard limit of a process.
fn limit(pid: i32, name: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

/// The port of each TCP socket that listens, by its inode.
fn listeners() -> BTreeMap<String, u16> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel tells it");
    let entry = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields[1].rsplit_once(':')?.1, 16).ok()?;
        (fields[3] == "0A").then(|| (format!("socket:[{}]", fields[9]), port))
    };
    table.lines().skip(1).filter_map(entry).collect()
}

/// Looks at everything that a proxy was started with. Answers with its name and how many descriptors it has.
fn inspect(pid: i32, name: &str, tunnel: &Tunnel) -> String {
    let status = told(pid, "status");
    assert_eq!(status["NoNewPrivs"], "1", "{name}");
    assert_eq!(status["Umask"], "0077", "{name}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"] {
        let held = u64::from_str_radix(&status[set], 16).expect("hexadecimal");
        assert!(held & !KEPT == 0 || set == "CapBnd" && !am_root(), "{name}: {set} {held:x}");
    }
    assert_eq!(limit(pid, "Max core file size"), ["0", "0"], "{name}");
    let files = limit(pid, "Max open files");
    let most: u64 = files[1].parse().expect("it is limited");
    assert!(most <= 6 * 100 + 1000, "{name}: {most} descriptors for 100 connections");
    let filter = fs::read_to_string(format!("/proc/{pid}/coredump_filter")).expect("it runs");
    assert_eq!(filter.trim(), "00000000", "{name}");

    let environment = fs::read(format!("/proc/{pid}/environ")).expect("ours");
    let words: Vec<_> = environment.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
    for variable in words.iter().filter_map(|word| word.split_once('=')).map(|(key, _)| key) {
        let ours = ["PATH", "LANG", "LISTEN_FDS", "LISTEN_PID", "NGINX"].contains(&variable);
        assert!(ours || variable.starts_with("HAPROXY_"), "{name}: {variable} is in its environment");
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).expect("ours");
    let key = tunnel.uid.wire().replace('-', "");
    for (what, bytes) in [("environment", &environment), ("command line", &command)] {
        assert!(!String::from_utf8_lossy(bytes).replace('-', "").contains(&key), "{name}: its {what} has the key");
    }

    let place = fs::read_link(format!("/proc/{pid}/cwd")).expect("ours");
    let all = [&tunnel.prod.listeners[..], &tunnel.cons.listeners[..]].concat();
    let ports: Vec<u16> = all.iter().map(|l| l.rsplit_once(':').expect("a port").1.parse().expect("one")).collect();
    let listening = listeners();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("ours").flatten();
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    for file in &open {
        let text = file.display().to_string();
        let harmless = text == "/dev/null" || file.starts_with(&place);
        let nameless = ["socket:[", "pipe:[", "anon_inode:"].iter().any(|kind| text.starts_with(kind));
        assert!(harmless || nameless, "{name} has {text} open");
        if let Some(port) = listening.get(&text) {
            assert!(ports.contains(port), "{name} holds port {port}, which is not its session's");
        }
    }
    format!("{name} {}", open.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_are_started_with_nothing_but_what_they_need() {
    let designs = BACKENDS.map(|backend| (backend, "native")).into_iter().chain([("haproxy", "stunnel")]);
    for (backend, terminator) in designs {
        let app = App::start().await;
        let flags = ["--backend", backend, "--terminator", terminator, "--max-connections", "100"];
        let gateway = surrounded(&flags, &[]).start().await;
        let s2cs = gateway.pid().as_raw();
        if am_root() {
            let leaked = |entry: fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|file| file.ends_with("leaked"));
            assert!(fs::read_dir(format!("/proc/{s2cs}/fd")).expect("root may").flatten().any(leaked));
            let environment = fs::read_to_string(format!("/proc/{s2cs}/environ")).expect("root may");
            assert!(environment.contains("SCISTREAM_CANARY"));
        }
        assert_eq!(limit(s2cs, "Max core file size"), ["0", "0"]);
        let neighbour = Tunnel::open(&gateway, &gateway, &app.endpoint(), 2).await;
        let known = gateway.processes();
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 2).await;
        exchange(&tunnel.cons.listeners[1], First::Consumer).await;
        let mut seen = Vec::new();
        for (pid, name) in gateway.processes().into_iter().filter(|process| !known.contains(process)) {
            seen.push(inspect(pid, &name, &tunnel));
        }
        assert!(seen.len() >= 2, "{seen:?}");
        println!("{backend} with {terminator}: processes and their descriptors: {}", seen.join(", "));
        for tunnel in [&tunnel, &neighbour] {
            tunnel.release(&gateway, &gateway).await;
        }
        gateway.assert_nothing_left();
    }
}

/// How many cores lie in a folder.
fn cores(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with("core")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_know_keys_leave_no_core() {
    use std::os::unix::process::ExitStatusExt;
    let app = App::start().await;
    let mut gateway = surrounded(&[], &[]).start().await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let script = gateway.folder().join("surroundings.py").display().to_string();
    let place = TempDir::new().expect("a folder");

    let mut other = Running::start(PYTHON, &[&script, "/bin/sh", "-c", "echo here; exec sleep 60"], place.path());
    other.says("here").await;
    other.signal(Signal::SIGABRT);
    assert_eq!(other.end().await.code, None);
    let control = cores(place.path());
    println!("another program leaves {control} core here; the kernel puts them into {:?}", pattern());
    assert!(control == 1 || pattern() != "core", "the surroundings let a program leave a core");

    let (address, certificate) = (gateway.address().to_string(), gateway.certificate().display().to_string());
    let target = app.endpoint().to_string();
    let words = ["tunnel", "--prod", &address, "--prod-cert", &certificate, "--prod-target", &target];
    let words = [&[script.as_str(), S2UC], &words[..], &["--cons", &address, "--cons-cert", &certificate]].concat();
    let mut user = Running::start(PYTHON, &words, place.path());
    user.says("connects to").await;
    user.signal(Signal::SIGABRT);
    assert_eq!(user.end().await.code, None);
    assert_eq!(cores(place.path()), control, "s2uc left a core");

    let (leaders, _) = leaders_and_workers(&gateway, &tunnel.uid, Role::Prod);
    nix::sys::signal::kill(leaders[0].pid(), Signal::SIGABRT).expect("a process of ours");
    eventually("a proxy was ended by SIGABRT", || gateway.stderr().contains("SIGABRT")).await;
    assert_eq!(cores(&folder(&gateway, &tunnel.uid, Role::Prod)), 0, "a proxy left a core");

    let status = gateway.end(Signal::SIGABRT).await;
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(!status.core_dumped() && cores(gateway.folder()) == 0, "s2cs left a core");
    // The next one finds what it left.
    gateway.run().await;
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    gateway.client().await.drain(std::time::Duration::from_secs(5)).await.expect("drained");
    gateway.assert_nothing_left();
}

fn pattern() -> String {
    fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_without_landlock_is_told_once_and_stops_nothing_that_does_not_require_it() {
    let warning = "this kernel has no Landlock";
    for backend in BACKENDS {
        let app = App::start().await;
        let gateway = surrounded(&["--backend", backend], &["--no-landlock"]).start().await;
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
        exchange(&tunnel.cons.listeners[0], First::Consumer).await;
        assert_eq!(gateway.stdout().matches(warning).count(), 1, "{}", gateway.stdout());
        assert!(!gateway.stderr().contains("Landlock"), "{}", gateway.stderr());
        for (pid, name) in gateway.processes() {
            assert_eq!(told(pid, "status")["NoNewPrivs"], "1", "{name}");
        }
        tunnel.release(&gateway, &gateway).await;
        gateway.assert_nothing_left();
    }
    let place = TempDir::new().expect("a folder");
    fs::write(place.path().join("s.py"), include_str!("surroundings.py")).expect("written");
    let without = |words: &'static [&str]| {
        let words = [&["s.py", "--no-landlock", S2CS], words].concat();
        let place = place.path();
        async move { run(PYTHON, &words, place).await }
    };
    let settings = without(&["check", "--ssl=False", "--state-dir", "s"]).await;
    assert!(settings.succeeded().contains(warning), "{settings:?}");
    assert_eq!(without(&["check", "--ssl=False", "--state-dir", "s", "--json"]).await.json()["landlock"], false);
    let required = without(&["--ssl=False", "--state-dir", "s", "--sandbox", "required"]).await;
    assert!(required.failed(78).contains("sandbox is required, and this kernel has no Landlock"), "{required:?}");
    // Nor does what is asked for in between.
    let launched = without(&["launch", "--sandbox", "required", "--", "/bin/true"]).await;
    assert!(launched.failed(1).contains("this kernel has no Landlock"), "{launched:?}");
    assert_eq!(without(&["launch", "--", "/bin/true"]).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_setting_is_checked() {
    assert!(kernel_has_landlock(), "these tests need a kernel with Landlock");
    let place = TempDir::new().expect("a folder");
    let check = |words: &'static [&str]| {
        let words = [&["check", "--ssl=False"], words].concat();
        let place = place.path();
        async move { run(S2CS, &words, place).await }
    };
    assert!(check(&["--sandbox", "sometimes"]).await.failed(78).contains("auto, required or off"));
    let readable = &["--state-dir", "/usr/local/scistream"];
    assert!(check(readable).await.failed(78).contains("lies in /usr, which all proxies may read"));
    assert_eq!(check(&["--state-dir", "/usr/local/scistream", "--sandbox", "off"]).await.code, Some(0));
    // A box that something is missing for is no box.
    let launched = run(S2CS, &["launch", "--read", "/not/there", "--", "/bin/true"], place.path()).await;
    assert!(launched.failed(1).contains("box it in with /not/there"), "{launched:?}");
}
