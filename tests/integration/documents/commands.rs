//! How each command of the documents is played.
//!
//! Commands of ours run for real, with names, addresses and UIDs as they are here; each gets
//! what it needs (a tunnel to release, a REQ that waits for its HELLO) for itself alone, so
//! that their order does not matter. `…` stands for what the first example of its kind has.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use scistream::client::announce;
use scistream::session::{Role, Uid};
use serde_json::Value;
use tokio::time::timeout;

use super::world::World;
use super::{applications, root};
use crate::support::TestGateway;
use crate::support::command::{Ran, Running, run};
use crate::support::gateway::{APPCTRL, S2CS, S2UC};
use crate::support::session;

/// What became of a command.
pub enum Play {
    /// It did what the document says.
    Done,
    /// It was not run here, for this reason. If it is ours, its words were understood.
    Left(&'static str),
    /// It did not.
    Failed(String),
}

/// Programs of ours, with their commands: all that `--help` is asked for.
pub const OURS: [(&str, &[&str]); 5] = [
    ("s2cs", &["", "check", "backends", "drain", "policy explain", "cert", "setup", "doctor"]),
    (
        "s2uc",
        &[
            "",
            "inbound-request",
            "outbound-request",
            "prod-req",
            "tunnel",
            "release",
            "list",
            "show",
            "top",
            "watch",
            "renew",
            "status",
            "drain",
            "login",
            "logout",
            "check-auth",
            "doctor",
        ],
    ),
    ("appctrl", &["", "hello", "run", "create-appctrl", "mock"]),
    ("s2ds", &[""]),
    ("s2fw", &[""]),
];

/// What cannot be run here, by how it begins, and why.
const LEFT: [(&str, &str); 8] = [
    ("apt install", "it changes the host; the tests of the packages install them in a root of their own"),
    ("dnf install", "there is no dnf on Debian; the tests of the packages look at the RPM"),
    ("systemctl", "there is no systemd here; the tests of the units boot one in a virtual machine"),
    (
        "podman build",
        "there is no registry to build from; a test of the packages does the steps of the Containerfile in a root",
    ),
    (
        "podman compose --file packaging/container/compose.yaml up",
        "the same; the test of the container looks at that file",
    ),
    ("kubectl", "there is no cluster; the test of the container looks at the manifests"),
    ("cargo fuzz", "it goes on for ever; the corpora are a test"),
    ("mkdir target/fuzz", "it is for the command that follows"),
];

/// Commands of ours that would leave this host, or change it.
const UNDERSTOOD: [(&str, &str); 2] = [
    ("s2uc login --scope", "it would go to Globus; the tests of login go to one of their own"),
    ("s2uc login --import", "it needs a store of the deployed release; the tests of login have one"),
];

/// What `…` stands for.
const TUNNEL: &str = "--prod gw-a.example.org:5000 --prod-cert a.crt --prod-target daq:5300 \
                      --cons gw-b.example.org:5000 --cons-cert b.crt";
const SERVER: &str = "--listener-ip 127.0.0.1";

/// Runs a program in another environment, and becomes it.
const ENV: &str = "/usr/bin/env";
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// The program's file.
pub fn path(program: &str) -> Option<String> {
    let file = |name| Path::new(S2CS).with_file_name(name).display().to_string();
    match program {
        "s2cs" => Some(S2CS.to_owned()),
        "s2uc" => Some(S2UC.to_owned()),
        "appctrl" => Some(APPCTRL.to_owned()),
        "s2ds" | "s2fw" => Some(file(program)),
        _ => None,
    }
}

/// Plays one.
pub async fn play(world: &mut World, command: &str) -> Play {
    if let Some((_, why)) = LEFT.iter().find(|(start, _)| command.starts_with(start)) {
        return Play::Left(why);
    }
    let played = match timeout(LONG_ENOUGH, try_to_play(world, command)).await {
        Ok(played) => played,
        Err(_) => Err("it does not end".into()),
    };
    match played {
        Ok(()) => UNDERSTOOD
            .iter()
            .find(|(start, _)| command.starts_with(start))
            .map_or(Play::Done, |(_, why)| Play::Left(why)),
        Err(why) => Play::Failed(why),
    }
}

pub type Outcome = Result<(), String>;

async fn try_to_play(world: &mut World, command: &str) -> Outcome {
    let filled = match command.split_once('…') {
        Some((before, after)) if command.starts_with("s2cs") => format!("{before}{SERVER}{after}"),
        Some((before, after)) => format!("{before}{TUNNEL}{after}"),
        None => command.to_owned(),
    };
    let words: Vec<&str> = filled.split_whitespace().collect();
    if UNDERSTOOD.iter().any(|(start, _)| command.starts_with(start)) {
        return understood(world, &words).await;
    }
    match words[0] {
        "s2uc" => user(world, &words).await,
        "appctrl" => controller(world, &words).await,
        "s2cs" => operator(world, &words).await,
        "s2fw" => helper(world, &words).await,
        "```python" => applications::python(world, command).await,
        program if applications::KNOWN.contains(&program) => applications::play(world, &words).await,
        script_of_ours if script_of_ours.starts_with("packaging/") => script(&words).await,
        "install" => install(world, &words).await,
        "podman" => contained(world, &words).await,
        other => Err(format!("these tests do not know how to run {other}")),
    }
}

/// Flags are looked at one after the other, and `--help` ends that: an unknown one before it is told.
async fn understood(world: &World, words: &[&str]) -> Outcome {
    let program = path(words[0]).ok_or("it is none of ours")?;
    expect(&run(&program, &[&words[1..], &["--help"]].concat(), world.folder.path()).await, 0).map(drop)
}

/// The same for the words of a container, which must be ours.
pub async fn is_understood(world: &World, words: &[&str]) {
    understood(world, words).await.unwrap_or_else(|why| panic!("{words:?}: {why}"));
}

/// What a container runs: played as if it were typed on the host. Of compose, whose names and
/// networks there are not, the words alone.
async fn contained(world: &World, words: &[&str]) -> Outcome {
    if let [_, "compose", "--file", file, "--profile", "user", "run", "user", rest @ ..] = words {
        assert!(root().join(file).is_file(), "there is no {file}");
        return understood(world, &[&["s2uc"], rest].concat()).await;
    }
    let image = words.iter().position(|word| *word == "scistream").ok_or("it names no image")?;
    // Of `--user scistream` the second.
    let image = if words[image - 1] == "--user" {
        image + 1 + words[image + 1..].iter().position(|word| *word == "scistream").ok_or("it names no image")?
    } else {
        image
    };
    let program = words[..image].iter().find_map(|word| word.strip_prefix("--entrypoint=")).unwrap_or("s2cs");
    let rest = &words[image + 1..];
    let state = world.path("gateway/state");
    let words: Vec<_> = [program].into_iter().chain(rest.iter().copied()).collect();
    let words: Vec<_> =
        words.into_iter().map(|word| if word == "/var/lib/scistream" { state.as_str() } else { word }).collect();
    match program {
        "s2uc" => user(world, &words).await,
        _ => operator(world, &words).await,
    }
}

fn expect(ran: &Ran, code: i32) -> Result<&str, String> {
    match ran.code {
        Some(ended) if ended == code => Ok(&ran.stdout),
        _ => Err(format!("it ended with {:?}, not {code}: {}{}", ran.code, ran.stdout, ran.stderr)),
    }
}

/// Starts what runs until it is interrupted, waits for its word, and interrupts it.
async fn until_it_says(program: &str, words: &[&str], folder: &Path, said: &str, signal: Signal) -> Outcome {
    let mut running = Running::start(program, words, folder);
    running.says(said).await;
    running.signal(signal);
    expect(&running.end().await, 0).map(drop)
}

/// The words after the program's name, as they are here.
fn here(world: &World, words: &[&str], also: &[(&str, &str)]) -> Vec<String> {
    let mut next_is_port = false;
    words[1..]
        .iter()
        .map(|word| {
            if let Some((_, ours)) = also.iter().find(|(theirs, _)| theirs == word) {
                return (*ours).to_owned();
            }
            let of_the_producer = std::mem::replace(&mut next_is_port, *word == "--receiver_ports");
            match *word {
                "daq" => "127.0.0.1".into(),
                "5300" if of_the_producer => world.app.address.port().to_string(),
                word => world.here(word),
            }
        })
        .collect()
}

pub fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The words by which a program is run for somebody who has a home of their own here, so that
/// nobody's logins are used, or ended.
fn as_user(world: &World, program: &str, words: Vec<String>) -> Vec<String> {
    let home = world.path("home");
    let ours = ["-u".into(), "SCISTREAM_TOKEN".into(), format!("HOME={home}"), format!("XDG_DATA_HOME={home}/data")];
    ours.into_iter().chain([program.to_owned()]).chain(words).collect()
}

/// Runs s2uc to its end.
async fn s2uc(world: &World, words: &[&str], also: &[(&str, &str)]) -> Ran {
    run(ENV, &strs(&as_user(world, S2UC, here(world, words, also))), world.folder.path()).await
}

/// What a user types.
async fn user(world: &World, words: &[&str]) -> Outcome {
    let command = words[1..].iter().find(|word| !word.starts_with('-')).ok_or("it says no command")?;
    let folder = world.folder.path();
    match *command {
        "tunnel" if words.contains(&"--detach") => {
            let ran = s2uc(world, words, &[]).await;
            let told: Value = serde_json::from_str(expect(&ran, 0)?).map_err(|e| format!("{e}: {ran:?}"))?;
            world.give_back(told["uid"].as_str().unwrap_or_default()).await;
            Ok(())
        }
        "tunnel" => {
            let words = here(world, words, &[]);
            until_it_says(ENV, &strs(&as_user(world, S2UC, words)), folder, "The tunnel stands", Signal::SIGINT).await
        }
        "inbound-request" => {
            let ran = s2uc(world, words, &[]).await;
            let said = expect(&ran, 0)?;
            let uid = said.lines().nth(1).and_then(|line| line.split(' ').next()).unwrap_or_default();
            let right =
                said.starts_with("uid; s2cs; access_token; role\n") && said.contains("\nListeners: ['127.0.0.1:");
            world.give_back(uid).await;
            if right { Ok(()) } else { Err(format!("it does not print what scripts read: {said}")) }
        }
        "outbound-request" => {
            let (uid, listeners) = world.half(&world.app.endpoint()).await;
            let ran = s2uc(world, words, &[("UID", uid.wire()), ("LISTENERS", &listeners.join(","))]).await;
            let said = expect(&ran, 0)?;
            let right = said.contains("\nListeners: ['127.0.0.1:");
            world.give_back(uid.wire()).await;
            if right { Ok(()) } else { Err(format!("it does not print what scripts read: {said}")) }
        }
        "prod-req" => {
            let mut words = here(world, words, &[]);
            let uid = Uid::parse("4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3").expect("that of --mock");
            words.push("--mock".into());
            let mut running = Running::start(ENV, &strs(&as_user(world, S2UC, words)), folder);
            running.says("waiting for hello message").await;
            let target = world.app.endpoint().parse().expect("an endpoint");
            let said = announce(&world.prod.client().await, &uid, Role::Prod, &[target]).await;
            said.map_err(|e| e.story())?;
            expect(&running.end().await, 0)?;
            world.give_back(uid.wire()).await;
            Ok(())
        }
        "release" | "renew" | "show" => {
            let tunnel = world.tunnel().await;
            let id = session::id(&tunnel.uid, Role::Prod);
            let ran = s2uc(world, words, &[("UID", tunnel.uid.wire()), ("ID", &id)]).await;
            world.give_back(tunnel.uid.wire()).await;
            expect(&ran, 0).map(drop)
        }
        "top" => {
            let words = here(world, &[words, &["--once"]].concat(), &[]);
            expect(&run(ENV, &strs(&as_user(world, S2UC, words)), folder).await, 0).map(drop)
        }
        "watch" => {
            let mut running = Running::start(ENV, &strs(&as_user(world, S2UC, here(world, words, &[]))), folder);
            // It tells what happens after it came.
            let mut tunnels = Vec::new();
            let told = async {
                loop {
                    tunnels.push(world.tunnel().await);
                    if timeout(Duration::from_secs(2), running.says("-prod  ")).await.is_ok() {
                        return;
                    }
                }
            };
            told.await;
            running.signal(Signal::SIGINT);
            let ran = running.end().await;
            for tunnel in tunnels {
                world.give_back(tunnel.uid.wire()).await;
            }
            expect(&ran, 0).map(drop)
        }
        "drain" => {
            let gateway = TestGateway::start(&[]).await;
            let certificate = gateway.certificate().display().to_string();
            let address = gateway.address().to_string();
            let also = [("127.0.0.1:5000", address.as_str())];
            let words: Vec<_> = [words, &["--server-cert", &certificate]].concat();
            expect(&s2uc(world, &words, &also).await, 0).map(drop)
        }
        // Nobody has: this gateway needs no login.
        "check-auth" => expect(&s2uc(world, words, &[]).await, 1).map(drop),
        "list" | "status" | "login" | "logout" | "doctor" => expect(&s2uc(world, words, &[]).await, 0).map(drop),
        other => Err(format!("these tests do not know s2uc {other}")),
    }
}

/// What an application controller types.
async fn controller(world: &World, words: &[&str]) -> Outcome {
    let role = if words.contains(&"CONS") { Role::Cons } else { Role::Prod };
    let (uid, onward, mut server) = match (role, words.contains(&"iperf3")) {
        (Role::Prod, _) => (Uid::random().expect("randomness"), vec![], None),
        (Role::Cons, false) => {
            let (uid, listeners) = world.half(&world.app.endpoint()).await;
            (uid, listeners, None)
        }
        (Role::Cons, true) => {
            let (server, address) = world.server(1, "iperf3", &["-s", "-1", "-p", "PORT"]).await;
            let (uid, listeners) = world.half(&address.to_string()).await;
            (uid, listeners, Some(server))
        }
    };
    let waiting = world.request(&uid, role, onward).await;
    let mut words = here(world, words, &[("UID", uid.wire())]);
    if server.is_some() {
        words.extend(["-t".into(), "1".into()]);
    }
    let ran = run(ENV, &strs(&as_user(world, APPCTRL, words)), world.folder.path()).await;
    let outcome = expect(&ran, 0).map(drop);
    if let (Some(server), Ok(())) = (&mut server, &outcome) {
        assert!(server.ended().await.success(), "the server was not content");
    }
    drop(waiting);
    world.give_back(uid.wire()).await;
    outcome
}

/// What an operator types.
async fn operator(world: &World, words: &[&str]) -> Outcome {
    let folder = world.gateway_folder();
    let ours: Vec<_> = words[1..].iter().map(|word| world.operators(word).replace("10.0.0.1", "127.0.0.2")).collect();
    // An example's own backend.
    let ours: Vec<_> = ours.into_iter().map(|word| if word == "NAME" { "socat".into() } else { word }).collect();
    let site = world.path("site");
    match words.get(1).copied().unwrap_or_default() {
        "cert" => expect(&run(S2CS, &[&strs(&ours)[..], &["--force"]].concat(), &folder).await, 0).map(drop),
        "check" | "backends" => {
            world.configuration("");
            expect(&run(S2CS, &strs(&ours), &folder).await, 0).map(drop)
        }
        // Whom nobody answers, it takes what it mostly is.
        "setup" => {
            let config = world.path("setup/s2cs.toml");
            let given = ["--yes", "--config", &config, "--force", "--callers", "unknown", "--host", "localhost"];
            let given = if words.len() > 2 { &given[1..4] } else { &given[..] };
            std::fs::create_dir_all(world.path("setup")).map_err(|e| e.to_string())?;
            expect(&run(S2CS, &[&strs(&ours)[..], given].concat(), &folder).await, 0).map(drop)
        }
        "doctor" => {
            world.configuration("");
            let ran = run(S2CS, &strs(&ours), &folder).await;
            // What it says of this host is this host's.
            if ran.code == Some(1) { Ok(()) } else { expect(&ran, 0).map(drop) }
        }
        "policy" => {
            let rules = super::document("packaging/doc/operators.md");
            let rules =
                rules.blocks.iter().find(|block| block.text.contains("[[allow]]")).ok_or("there are no rules")?;
            world.configuration(&rules.text);
            expect(&run(S2CS, &strs(&ours), &folder).await, 0).map(drop)
        }
        "drain" => {
            let gateway = TestGateway::start(&[]).await;
            world.configuration(&format!("state_dir = \"{}\"\n", gateway.state_dir().display()));
            expect(&run(S2CS, &strs(&ours), &folder).await, 0).map(drop)
        }
        _ => {
            let range = world.ports.range();
            let mut ours: Vec<String> = ours.into_iter().map(|word| word.replace("--port=5000", "--port=0")).collect();
            // What a host has anyway, or the document leaves to the default.
            for (flag, value) in [
                ("--port", "0".into()),
                ("--port-range", format!("{}-{}", range.start() + 1, range.end())),
                ("--state-dir", world.path("gateway/state")),
                ("--site-dir", site.clone()),
            ] {
                let is_it = |word: &String| word == flag || word.starts_with(&format!("{flag}="));
                if !ours.iter().any(is_it) {
                    ours.extend([flag.to_owned(), value]);
                }
            }
            if let Some(nth) = ours.iter().position(|word| word == "site") {
                ours[nth] = site;
            }
            until_it_says(S2CS, &strs(&ours), &folder, "s2cs: ready on ", Signal::SIGTERM).await
        }
    }
}

/// What an operator types who has a firewall.
async fn helper(world: &World, words: &[&str]) -> Outcome {
    let program = path("s2fw").ok_or("it is not built")?;
    // The packages make this user.
    let ours: Vec<_> = words[1..].iter().map(|word| world.operators(word)).collect();
    let ours: Vec<_> = ours.iter().map(|word| if word == "scistream" { "root" } else { word.as_str() }).collect();
    if words.contains(&"--print-ruleset") {
        return expect(&run(&program, &ours, world.folder.path()).await, 0).map(drop);
    }
    let mut running = Running::start(&program, &ours, world.folder.path());
    running.says("s2fw: ready").await;
    Ok(())
}

/// Scripts that take minutes: they are there, their language is right, and they know the flags.
async fn script(words: &[&str]) -> Outcome {
    let file = root().join(words[0]);
    let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
    let shell = if text.starts_with("#!/bin/sh") { "/bin/sh" } else { "/bin/bash" };
    let file = file.display().to_string();
    expect(&run(shell, &["-n", &file], root()).await, 0)?;
    let mut missing = String::new();
    for flag in words.iter().filter(|word| word.starts_with('-')) {
        if !text.contains(&format!("        {flag})")) {
            write!(missing, " {flag}").expect("text");
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("it does not know{missing}")) }
}

/// Files of ours that are put where s2cs looks for them.
async fn install(world: &World, words: &[&str]) -> Outcome {
    let words: Vec<_> = words[1..].iter().map(|word| world.operators(word)).collect();
    expect(&run("install", &strs(&words), root()).await, 0)?;
    expect(&run(S2CS, &["backends", "--site-dir", &world.path("site")], &world.gateway_folder()).await, 0).map(drop)
}
