//! The command lines of all programs: flags, output, exit codes, signals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::app::First;
use crate::support::command::{Ran, Running, run, run_with_input};
use crate::support::gateway::{APPCTRL, S2CS, S2UC};
use crate::support::leftovers::files_under;
use crate::support::raw::new_uid;
use crate::support::{App, BACKENDS, Raw, TestGateway, eventually, exchange};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn s2ds() -> String {
    Path::new(S2CS).with_file_name("s2ds").display().to_string()
}

fn empty_folder() -> TempDir {
    TempDir::with_prefix("cli-").expect("a folder")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The list that the deployed release prints, which scripts take apart.
fn listeners(said: &str) -> Vec<String> {
    let line = said.lines().find_map(|line| line.strip_prefix("Listeners: [")).expect("a line of listeners");
    let list = line.strip_suffix(']').expect("a whole list");
    let unquoted = |item: &str| item.strip_prefix('\'').and_then(|item| item.strip_suffix('\'')).map(str::to_owned);
    list.split(", ").map(|item| unquoted(item).expect("in quotes")).collect()
}

fn strings(value: &serde_json::Value) -> Vec<String> {
    serde_json::from_value(value.clone()).expect("a list of strings")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_program_tells_its_flags_and_its_version() {
    let folder = empty_folder();
    let s2ds = s2ds();
    let channel = ["--server-cert", "--ssl", "--json"];
    let common =
        [&channel[..], &["--num-conn", "--rate", "--source", "--remote-ip", "--receiver-ports", "--s2cs"]].concat();
    let settings = vec![
        "--config",
        "--listener-ip",
        "--port",
        "--listen",
        "--wan-ip",
        "--lan-ip",
        "--wan-sources",
        "--lan-sources",
        "--advertise-ip",
        "--port-range",
        "--backend",
        "--terminator",
        "--protection",
        "--state-dir",
        "--site-dir",
        "--server-crt",
        "--server-key",
        "--ssl",
        "--insecure",
        "--no-auth",
        "--hello-timeout",
        "--max-sessions",
        "--max-listeners",
        "--max-connections",
        "--drain-grace",
        "--keep-sessions-on-exit",
        "--type",
    ];
    let table: Vec<(&str, Vec<&str>, Vec<&str>)> = vec![
        (S2CS, vec![], [&settings[..], &["--verbose", "--version", "check", "backends", "cert"]].concat()),
        (S2CS, vec!["check"], [&settings[..], &["--json"]].concat()),
        (S2CS, vec!["backends"], vec!["--site-dir", "--json"]),
        (S2CS, vec!["cert"], vec!["--host", "--ip", "--out", "--key-out", "--days", "--force"]),
        (S2UC, vec![], vec!["inbound-request", "outbound-request", "prod-req", "tunnel", "release", "--json"]),
        (S2UC, vec!["inbound-request"], [&common[..], &["--uuid", "--mock"]].concat()),
        (S2UC, vec!["outbound-request"], [&common[..], &["UID", "PROD_LISTENERS"]].concat()),
        (S2UC, vec!["prod-req"], [&common[..], &["--uuid", "--mock"]].concat()),
        (S2UC, vec!["release"], [&channel[..], &["UID", "--s2cs"]].concat()),
        (
            S2UC,
            vec!["tunnel"],
            [
                &channel[..],
                &[
                    "--prod",
                    "--prod-target",
                    "--cons",
                    "--port",
                    "--num-conn",
                    "--prod-source",
                    "--cons-source",
                    "--detach",
                ],
            ]
            .concat(),
        ),
        (APPCTRL, vec![], vec!["hello", "run", "create-appctrl", "mock"]),
        (APPCTRL, vec!["hello"], [&channel[..], &["--uid", "--s2cs", "--role", "--target", "--port"]].concat()),
        (APPCTRL, vec!["run"], [&channel[..], &["--uid", "--role", "PROGRAM", "{listener}"]].concat()),
        (APPCTRL, vec!["mock"], vec!["UID", "S2CS", "TOKEN", "ROLE"]),
        (APPCTRL, vec!["create-appctrl"], vec!["UID", "S2CS", "TOKEN", "ROLE"]),
        (&s2ds, vec![], vec!["--check", "--version", "CONFIG"]),
    ];
    for (program, command, words) in table {
        let ran = run(program, &[&command[..], &["--help"]].concat(), folder.path()).await;
        let said = ran.succeeded();
        for word in words {
            assert!(said.contains(word), "{program} {command:?} does not tell of {word}: {said}");
        }
    }
    for (name, program) in [("s2cs", S2CS), ("s2uc", S2UC), ("appctrl", APPCTRL), ("s2ds", &s2ds)] {
        let ran = run(program, &["--version"], folder.path()).await;
        assert_eq!(ran.succeeded().trim(), format!("{name} {VERSION}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_are_read_with_underscores_and_dashes_with_and_without_equals() {
    let folder = empty_folder();
    for flags in [
        vec!["--listener-ip=127.0.0.1", "--port=5000", "--port-range=5100-5200", "--state-dir=s", "--ssl=False"],
        vec!["--listener_ip=127.0.0.1", "--port=5000", "--port_range=5100-5200", "--state_dir=s", "--ssl=false"],
        vec!["--listener-ip", "127.0.0.1", "--port-range", "5100-5200", "--state-dir", "s", "--ssl", "False"],
        vec!["--listener_ip", "127.0.0.1", "--port_range", "5100-5200", "--state_dir", "s", "--ssl", "no"],
    ] {
        let ran = run(S2CS, &[&["check"], &flags[..]].concat(), folder.path()).await;
        assert_eq!(ran.succeeded(), "s2cs: the configuration is good\n");
    }
    assert_eq!(files_under(folder.path()), Vec::<PathBuf>::new(), "a check made something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_reports_every_fault_at_once() {
    let folder = empty_folder();
    let file = "port = 70000\nbakend = \"native\"\nprotection = \"some\"\nport_range = \"5200-5100\"\nssl = \"yes\"\n";
    fs::write(folder.path().join("s2cs.toml"), file).expect("written");
    let arguments = ["check", "--config", "s2cs.toml", "--wan-ip", "here", "--state-dir", "a b", "--type", "Mock"];
    let words = ["70000", "bakend", "\"some\"", "5200-5100", "ssl", "\"here\"", "a b", "\"Mock\""];

    let said = run(S2CS, &arguments, folder.path()).await.failed(78);
    let faults: Vec<_> = said.lines().filter(|line| line.starts_with("- ")).collect();
    for word in words {
        assert!(faults.iter().any(|fault| fault.contains(word)), "{word} is not reported: {said}");
    }

    let ran = run(S2CS, &[&arguments[..], &["--json"]].concat(), folder.path()).await;
    ran.failed(78);
    let told = ran.json();
    assert_eq!(told["ok"], false);
    let listed: Vec<String> = strings(&told["faults"]).iter().map(|fault| format!("- {fault}")).collect();
    assert_eq!(listed, faults);
    // Serving refuses for the same reasons.
    assert_eq!(run(S2CS, &arguments[1..], folder.path()).await.failed(78), said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_finds_nothing_says_so() {
    let folder = empty_folder();
    run(S2CS, &["cert", "--host", "localhost"], folder.path()).await.succeeded();
    for backend in BACKENDS {
        let ran = run(S2CS, &["check", "--state-dir", "s", "--backend", backend, "--json"], folder.path()).await;
        ran.succeeded();
        assert_eq!(
            ran.json(),
            json!({ "ok": true, "faults": [], "landlock": scistream::supervisor::kernel_has_landlock() })
        );
    }
    // A certificate and a key that are no pair.
    run(S2CS, &["cert", "--host", "localhost", "--out", "2.crt", "--key-out", "2.key"], folder.path())
        .await
        .succeeded();
    let said = run(S2CS, &["check", "--state-dir", "s", "--server-key", "2.key"], folder.path()).await.failed(78);
    assert!(said.contains("2.key"), "{said}");
    // Serving refuses for the same reason, and is not to be tried again.
    let serve = ["--state-dir", "s", "--port", "0", "--server-key", "2.key"];
    assert_eq!(run(S2CS, &serve, folder.path()).await.failed(78).lines().last(), said.lines().last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_says_what_flags_say_and_a_flag_wins() {
    let folder = empty_folder();
    let file = "listener_ip = \"127.0.0.1\"\nssl = false\nstate_dir = \"s\"\nbackend = \"nonesuch\"\n";
    fs::write(folder.path().join("s2cs.toml"), file).expect("written");
    let said = run(S2CS, &["check", "--config", "s2cs.toml"], folder.path()).await.failed(78);
    assert!(said.contains("nonesuch"), "{said}");
    run(S2CS, &["check", "--config", "s2cs.toml", "--backend", "nginx"], folder.path()).await.succeeded();
    let said = run(S2CS, &["check", "--config", "other.toml"], folder.path()).await.failed(78);
    assert!(said.contains("other.toml"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_may_be_one_of_systemds_credentials() {
    let (folder, credentials) = (empty_folder(), empty_folder());
    let file = "listener_ip = \"127.0.0.1\"\nssl = false\nstate_dir = \"s\"\n\
        [[provider]]\nkind = \"globus\"\nclient_id = \"x\"\nclient_secret_file = \"globus-secret\"\n\
        [[allow]]\nwho = [\"anyone\"]\n";
    fs::write(folder.path().join("s2cs.toml"), file).expect("written");
    // As systemd.exec(5) lays them down, and s2cs is started by it.
    let credential = credentials.path().join("globus-secret");
    fs::write(&credential, "s3cret\n").expect("written");
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o400)).expect("ours");
    let check = |variable: String| {
        let folder = folder.path();
        async move { run("env", &[&variable, S2CS, "check", "--config", "s2cs.toml"], folder).await }
    };
    check(format!("CREDENTIALS_DIRECTORY={}", text(credentials.path()))).await.succeeded();
    for (elsewhere, variable) in [("another unit's", text(folder.path())), ("none", String::new())] {
        let said = check(format!("CREDENTIALS_DIRECTORY={variable}")).await.failed(78);
        assert!(said.contains("globus-secret") && !said.contains("s3cret"), "{elsewhere}: {said}");
    }
    fs::write(folder.path().join("globus-secret"), "\n").expect("written");
    let said = check("CREDENTIALS_DIRECTORY=".to_owned()).await.failed(78);
    assert!(said.contains("it is empty"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backends_are_listed_with_their_programs() {
    let folder = empty_folder();
    let ran = run(S2CS, &["backends"], folder.path()).await;
    for backend in BACKENDS {
        assert!(ran.succeeded().lines().any(|line| line.starts_with(backend)), "{ran:?}");
    }
    let ran = run(S2CS, &["backends", "--json"], folder.path()).await;
    ran.succeeded();
    let told = ran.json();
    let rows = told["backends"].as_array().expect("a list");
    assert_eq!(rows.len(), BACKENDS.len());
    for row in rows {
        let name = row["name"].as_str().expect("a name");
        assert_eq!(row["chained"], json!(name == "haproxy" || name == "nginx"), "{row}");
        assert!(Path::new(row["program"].as_str().expect("a path")).is_file(), "{row}");
        assert!(row["version"].as_str().is_some_and(|version| version.contains('.')), "{row}");
        assert!(row["missing"].is_null() && row["summary"].is_string(), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_made_once_and_its_key_is_secret() {
    let folder = empty_folder();
    let mode = |name| folder.path().join(name).metadata().expect("it is there").permissions().mode() & 0o777;
    let arguments = ["cert", "--host", "gateway.example.org", "--ip", "192.0.2.1"];
    run(S2CS, &arguments, folder.path()).await.succeeded();
    assert_eq!((mode("server.crt"), mode("server.key")), (0o644, 0o600));
    let read =
        || ["server.crt", "server.key"].map(|name| fs::read_to_string(folder.path().join(name)).expect("readable"));
    let first = read();
    let said = run(S2CS, &arguments, folder.path()).await.failed(1);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(read(), first, "a refusal changed a file");

    // One of the two is there: nor is the other replaced.
    fs::remove_file(folder.path().join("server.key")).expect("our file");
    run(S2CS, &arguments, folder.path()).await.failed(1);
    assert_eq!(read()[0], first[0]);

    run(S2CS, &[&arguments[..], &["--force"]].concat(), folder.path()).await.succeeded();
    assert_ne!(read()[0], first[0]);
    assert_eq!((mode("server.crt"), mode("server.key")), (0o644, 0o600));

    let said = run(S2CS, &["cert", "--out", "x.crt", "--key-out", "x.key"], folder.path()).await.failed(1);
    assert!(said.contains("--host"), "{said}");
    run(S2CS, &["cert", "--host", "a b", "--out", "x.crt", "--key-out", "x.key"], folder.path()).await.failed(1);
    run(S2CS, &["cert", "--ip", "gateway", "--out", "x.crt"], folder.path()).await.failed(2);
    assert!(!folder.path().join("x.crt").exists() && !folder.path().join("x.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_good_for_the_names_and_addresses_in_it() {
    let gateway = TestGateway::start(&[]).await;
    let cert = text(&gateway.certificate());
    let port = gateway.address().port;
    let folder = empty_folder();
    for host in ["localhost", "127.0.0.1"] {
        let s2cs = format!("{host}:{port}");
        let arguments = ["inbound-request", "--s2cs", &s2cs, "--server_cert", &cert, "--remote_ip", "127.0.0.1"];
        run(S2UC, &arguments, folder.path()).await.succeeded();
    }

    run(S2CS, &["cert", "--host", "gateway.example.org"], folder.path()).await.succeeded();
    let made = |name| fs::read_to_string(folder.path().join(name)).expect("readable");
    let elsewhere = TestGateway::plan(&["--server-crt", "their.crt", "--server-key", "their.key"])
        .file("their.crt", &made("server.crt"))
        .file("their.key", &made("server.key"))
        .start()
        .await;
    let theirs = text(&folder.path().join("server.crt"));
    for host in ["localhost", "127.0.0.1"] {
        let s2cs = format!("{host}:{}", elsewhere.address().port);
        let said = run(S2UC, &["release", &new_uid(), "--s2cs", &s2cs, "--server-cert", &theirs], folder.path()).await;
        assert!(said.failed(1).contains("certificate"), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_certificate_is_told_as_such() {
    let (gateway, other) = (TestGateway::start(&[]).await, TestGateway::start(&[]).await);
    let (s2cs, wrong, uid) = (gateway.address().to_string(), text(&other.certificate()), new_uid());
    let folder = empty_folder();
    let ran = run(S2UC, &["release", &uid, "--s2cs", &s2cs, "--server_cert", &wrong], folder.path()).await;
    let said = ran.failed(1);
    assert!(said.contains("certificate") && said.contains(&s2cs), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    // Without a file, the system's authorities are asked, and know nothing of it.
    run(S2UC, &["release", &uid, "--s2cs", &s2cs], folder.path()).await.failed(1);
    // The one in the current folder is taken without being named.
    let ran = run(S2UC, &["release", &uid, "--s2cs", &s2cs], gateway.folder()).await;
    assert!(ran.failed(1).contains("INVALID_UID"), "{ran:?}");
    let ran = run(S2UC, &["release", &uid, "--s2cs", &s2cs, "--ssl=False"], folder.path()).await;
    assert!(ran.failed(1).contains("speaks TLS"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_would_be_open_by_mistake_does_not_start() {
    let folder = empty_folder();
    run(S2CS, &["cert", "--host", "localhost"], folder.path()).await.succeeded();
    fs::write(folder.path().join("unknown.toml"), "no_authentication = true\n").expect("written");
    for (what, flags) in [
        ("no_auth", vec!["--listen", "0.0.0.0:0"]),
        ("no_auth", vec!["--listener-ip", "192.0.2.1"]),
        ("no_auth", vec!["--listen", "0.0.0.0:0", "--no-auth=False"]),
        ("insecure", vec!["--listen", "0.0.0.0:0", "--no-auth", "--ssl=False"]),
        ("insecure", vec!["--listen", "0.0.0.0:0", "--no-auth", "--ssl=False", "--insecure", "False"]),
        ("no_authentication", vec!["--config", "unknown.toml"]),
        ("client_secret_file", vec!["--client_id=x", "--allow", "anyone"]),
        ("no rule", vec!["--client_id=x", "--client_secret=y"]),
        ("no_auth", vec!["--client_id=x", "--client_secret=y", "--no-auth", "--allow", "anyone"]),
        ("s2cs cert", vec!["--server_crt=none.crt"]),
        ("s2cs cert", vec!["--server_key=none.key"]),
        ("advertise_ip", vec!["--wan-ip", "0.0.0.0"]),
        ("protection", vec!["--backend", "stunnel", "--protection", "none"]),
    ] {
        let arguments = [&["--port", "0", "--state-dir", "s"][..], &flags].concat();
        let said = run(S2CS, &arguments, folder.path()).await.failed(78);
        assert!(said.contains(what), "{flags:?}: {said}");
        assert!(!said.contains("ready"), "{flags:?}: {said}");
        assert!(!folder.path().join("s").exists(), "{flags:?}: it began work before it refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_line_says_who_may_use_the_gateway() {
    let here = TestGateway::start(&[]).await;
    let open = TestGateway::start(&["--listen", "0.0.0.0:0", "--no-auth"]).await;
    for (gateway, who) in [(here, "on this host"), (open, "from the network")] {
        let said = gateway.stdout();
        let first = said.lines().next().expect("a line");
        assert!(first.contains("no authentication") && first.contains(who), "{said}");
        let last = said.lines().last().expect("a line");
        assert!(last.contains("ready on ") && last.contains("TLS, backend native"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployed_types_mean_backends_and_that_is_said() {
    for (theirs, ours) in [
        ("StunnelSubprocess", "stunnel"),
        ("Stunnel", "stunnel"),
        ("HaproxySubprocess", "haproxy"),
        ("Haproxy", "haproxy"),
        ("Nginx", "nginx"),
        ("S2DS", "native"),
    ] {
        let gateway = TestGateway::start(&[&format!("--type={theirs}"), "--verbose"]).await;
        let said = gateway.stdout();
        assert!(said.contains(&format!("--type {theirs} is read as --backend {ours}")), "{said}");
        assert!(said.lines().last().is_some_and(|line| line.contains(&format!("backend {ours},"))), "{said}");
    }
}

/// Both ends as the deployed release's documentation says it, output taken apart as by awk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployed_commands_set_a_stream_up() {
    let app = App::start().await;
    let (prod, cons) = (TestGateway::start(&[]).await, TestGateway::start(&[]).await);
    let folder = empty_folder();
    let port = app.address.port().to_string();
    let flags = |gateway: &TestGateway| {
        [
            format!("--server_cert={}", text(&gateway.certificate())),
            "--s2cs".into(),
            gateway.address().to_string(),
            "--num_conn".into(),
            "1".into(),
            "--scope".into(),
            "26c25f3c-c4b7-4107-8a25-df96898a24fe".into(),
        ]
    };
    let (at_prod, at_cons) = (flags(&prod), flags(&cons));
    let (at_prod, at_cons) = (at_prod.each_ref().map(String::as_str), at_cons.each_ref().map(String::as_str));

    let inbound = ["inbound-request", "--remote_ip", "127.0.0.1", "--receiver_ports", &port, "--rate", "10000"];
    let ran = run(S2UC, &[&inbound[..], &at_prod].concat(), folder.path()).await;
    let lines: Vec<_> = ran.succeeded().lines().collect();
    assert_eq!(lines[0], "uid; s2cs; access_token; role");
    let values: Vec<_> = lines[1].split(' ').collect();
    let uid = values[0];
    assert_eq!(values[1..], [prod.address().to_string().as_str(), "INVALID_TOKEN", "PROD"]);
    assert!(uid.len() == 64 && uid.bytes().all(|b| b.is_ascii_hexdigit()), "{uid}");
    let entry = listeners(&ran.stdout);
    assert_eq!(entry, [format!("127.0.0.1:{}", prod.port_range().start())]);
    assert_eq!(lines.len(), 3, "{lines:?}");

    // The port that --receiver_ports names is the one that the application connects to.
    let wish = (cons.port_range().start() + 7).to_string();
    let outbound = ["outbound-request", "--remote_ip", "127.0.0.1", "--receiver_ports", &wish];
    let ran = run(S2UC, &[&outbound[..], &at_cons, &[uid, &entry[0]]].concat(), folder.path()).await;
    let lines: Vec<_> = ran.succeeded().lines().collect();
    assert_eq!(lines[0], "uid; s2cs; access_token; role");
    assert_eq!(lines[1], format!("{uid} {} INVALID_TOKEN CONS", cons.address()));
    assert_eq!(listeners(&ran.stdout), [format!("127.0.0.1:{wish}")]);
    exchange(&format!("127.0.0.1:{wish}"), First::Consumer).await;
    assert_eq!(app.connections(), 1);

    for gateway in [&prod, &cons] {
        let (s2cs, cert) = (gateway.address().to_string(), text(&gateway.certificate()));
        let ran = run(S2UC, &["release", uid, "--s2cs", &s2cs, "--server_cert", &cert], folder.path()).await;
        assert_eq!(ran.succeeded(), "Release completed\n");
        gateway.assert_nothing_left();
    }
    assert_eq!(files_under(folder.path()), Vec::<PathBuf>::new(), "the client left files in its folder");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wished_port_that_is_not_to_be_had_is_replaced() {
    let cons = TestGateway::start(&["--ssl=False"]).await;
    let (first, s2cs) = (*cons.port_range().start(), cons.address().to_string());
    let folder = empty_folder();
    let ask = async |wishes: &str| {
        let flags = ["--ssl=False", "--s2cs", &s2cs, "--num_conn", "2", "--receiver_ports", wishes];
        let uid = new_uid();
        let arguments = [&["outbound-request"], &flags[..], &[&uid, "127.0.0.1:9"]].concat();
        let ran = run(S2UC, &arguments, folder.path()).await;
        let ports = listeners(ran.succeeded());
        ports.iter().map(|port| port.strip_prefix("127.0.0.1:").expect("on loopback").to_owned()).collect::<Vec<_>>()
    };
    let (wish, other) = ((first + 9).to_string(), (first + 5).to_string());
    assert_eq!(ask(&format!("{wish},{other}")).await, [wish.clone(), other.clone()]);
    let taken = ask(&format!("{other},{}", first - 1)).await;
    assert!(!taken.contains(&wish) && !taken.contains(&other), "{taken:?}");
    assert!(taken.iter().all(|port| cons.port_range().contains(&port.parse().expect("a number"))), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uid_may_have_the_shape_of_a_uuid() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let s2cs = gateway.address().to_string();
    let flags = ["inbound-request", "--ssl=False", "--s2cs", &s2cs, "--num_conn=1", "--remote_ip=127.0.0.1"];
    let folder = empty_folder();
    let uid = async |more: &[&str]| {
        let ran = run(S2UC, &[&flags[..], more].concat(), folder.path()).await;
        let line = ran.succeeded().lines().nth(1).expect("a second line").to_owned();
        (line.split(' ').next().expect("a UID").to_owned(), ran.stderr)
    };
    let (uuid, _) = uid(&["--uuid"]).await;
    let places: Vec<_> = uuid.bytes().enumerate().filter(|(_, b)| *b == b'-').map(|(at, _)| at).collect();
    assert_eq!((uuid.len(), places.as_slice(), &uuid[14..15]), (36, &[8, 13, 18, 23][..], "4"), "{uuid}");
    assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    assert_ne!(uid(&["--uuid"]).await.0, uuid);
    // As deployed, for tests; with a word of warning.
    let (mock, warned) = uid(&["--mock", "True"]).await;
    assert_eq!(mock, "4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3");
    assert!(warned.contains("everybody knows"), "{warned}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_also_told_as_json() {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let s2cs = gateway.address().to_string();
    let port = app.address.port().to_string();
    let folder = empty_folder();
    let at = ["--json", "--ssl=False", "--s2cs", &s2cs];
    let inbound = ["inbound-request", "--num_conn=2", "--remote_ip=127.0.0.1", "--receiver_ports", &port];
    let ran = run(S2UC, &[&at[..], &inbound].concat(), folder.path()).await;
    // Flags that belong to commands come after them.
    ran.failed(2);
    let ran = run(S2UC, &[&inbound[..], &at].concat(), folder.path()).await;
    ran.succeeded();
    let told = ran.json();
    let uid = told["uid"].as_str().expect("a UID").to_owned();
    assert_eq!((told["role"].as_str(), told["s2cs"].as_str()), (Some("PROD"), Some(s2cs.as_str())));
    assert_eq!(strings(&told["targets"]), [app.endpoint(), app.endpoint()]);
    let entry = strings(&told["listeners"]);
    assert_eq!(entry.len(), 2);

    let both = entry.join(",");
    let outbound = [&["outbound-request", "--num_conn=2"], &at[..], &[&uid, &both]].concat();
    let ran = run(S2UC, &outbound, folder.path()).await;
    ran.succeeded();
    let told = ran.json();
    assert_eq!((told["role"].as_str(), strings(&told["targets"])), (Some("CONS"), entry));
    for listener in strings(&told["listeners"]) {
        exchange(&listener, First::Producer).await;
    }

    let ran = run(S2UC, &[&["release", &uid], &at[..]].concat(), folder.path()).await;
    ran.succeeded();
    assert_eq!(ran.json(), json!({ "released": true, "s2cs": s2cs }));
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_as_json_too() {
    let gateway = TestGateway::start(&["--ssl=False", "--hello-timeout", "0.3"]).await;
    let s2cs = gateway.address().to_string();
    let folder = empty_folder();
    let uid = new_uid();
    let at = ["--json", "--ssl=False", "--s2cs", &s2cs];
    let nobody = ["--json", "--ssl=False", "--s2cs", "127.0.0.1:1"];
    let table: Vec<(&str, i32, &str, Vec<&str>)> = vec![
        ("INVALID_UID", 1, S2UC, [&["release", &uid], &at[..]].concat()),
        ("UNREACHABLE", 1, S2UC, [&["release", &uid], &nobody[..]].concat()),
        ("USAGE", 2, S2UC, [&["release", "x"], &at[..]].concat()),
        ("BAD_FORMAT", 1, S2UC, [&["inbound-request", "--num_conn=65"], &at[..]].concat()),
        ("TIMEOUT", 1, S2UC, [&["prod-req"], &at[..]].concat()),
        ("USAGE", 2, APPCTRL, [&["hello", "--role", "PROD", "--uid", &uid], &at[..]].concat()),
        ("TIMEOUT", 1, APPCTRL, [&["hello", "--role", "CONS", "--uid", &uid], &at[..]].concat()),
    ];
    for (code, exit, program, arguments) in table {
        let ran: Ran = run(program, &arguments, folder.path()).await;
        ran.failed(exit);
        let told = ran.json();
        assert_eq!(told["error"]["code"].as_str(), Some(code), "{arguments:?}: {told}");
        assert!(told["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{told}");
    }
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uid_on_standard_input_is_in_no_list_of_processes() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let s2cs = gateway.address().to_string();
    let uid = new_uid();
    Raw::connect(&gateway).await.reserve(&uid, "PROD", &["127.0.0.1:5300"]).await;
    let arguments = ["release", "-", "--ssl=False", "--s2cs", &s2cs];
    let ran = run_with_input(S2UC, &arguments, gateway.folder(), &format!("{uid}\n")).await;
    assert_eq!(ran.succeeded(), "Release completed\n");
    gateway.assert_nothing_left();
}

/// Two gateways and the flags that name them.
struct Pair {
    prod: TestGateway,
    cons: TestGateway,
    flags: Vec<String>,
}

impl Pair {
    async fn start(app: &App) -> Self {
        let (prod, cons) = (TestGateway::start(&[]).await, TestGateway::start(&[]).await);
        let flags = [
            ("--prod", prod.address().to_string()),
            ("--cons", cons.address().to_string()),
            ("--prod-target", app.endpoint()),
            ("--prod-cert", text(&prod.certificate())),
            ("--cons-cert", text(&cons.certificate())),
        ];
        let flags = flags.into_iter().map(|(flag, value)| format!("{flag}={value}")).collect();
        Self { prod, cons, flags }
    }

    fn tunnel<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        std::iter::once("tunnel").chain(self.flags.iter().map(String::as_str)).chain(more.iter().copied()).collect()
    }

    fn assert_nothing_left(&self) {
        self.prod.assert_nothing_left();
        self.cons.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_stands_until_it_is_interrupted() {
    let app = App::start().await;
    let pair = Pair::start(&app).await;
    let folder = empty_folder();
    let port = (pair.cons.port_range().start() + 3).to_string();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut tunnel = Running::start(S2UC, &pair.tunnel(&["--port", &port]), folder.path());
        let said = tunnel.says("The tunnel stands.").await;
        let entry = format!("127.0.0.1:{port}");
        for word in [&entry, &app.endpoint(), &pair.prod.address().to_string(), &pair.cons.address().to_string()] {
            assert!(said.contains(word.as_str()), "{word} is not shown: {said}");
        }
        exchange(&entry, First::Consumer).await;
        tunnel.signal(signal);
        let ran = tunnel.end().await;
        assert!(ran.succeeded().contains("Released at both gateways."), "{ran:?}");
        pair.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_tunnel_stands_until_it_is_released() {
    let app = App::start().await;
    let pair = Pair::start(&app).await;
    let folder = empty_folder();
    let ran = run(S2UC, &pair.tunnel(&["--detach", "--num-conn=2", "--json"]), folder.path()).await;
    ran.succeeded();
    let told = ran.json();
    let uid = told["uid"].as_str().expect("a UID");
    assert_eq!(strings(&told["cons"]["targets"]), strings(&told["prod"]["listeners"]));
    assert_eq!(strings(&told["prod"]["targets"]), [app.endpoint(), app.endpoint()]);
    for listener in strings(&told["cons"]["listeners"]) {
        exchange(&listener, First::Consumer).await;
    }
    for gateway in [&pair.prod, &pair.cons] {
        assert_eq!(gateway.listening().len(), 2);
        let (s2cs, cert) = (gateway.address().to_string(), text(&gateway.certificate()));
        run(S2UC, &["release", uid, "--s2cs", &s2cs, "--server-cert", &cert], folder.path()).await.succeeded();
    }
    pair.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_fails_half_way_leaves_nothing() {
    let prod = TestGateway::start(&["--ssl=False"]).await;
    let cons = TestGateway::plan(&["--ssl=False"]).ports(1).start().await;
    let (at_prod, at_cons) = (prod.address().to_string(), cons.address().to_string());
    let ends = ["--ssl=False", "--prod", &at_prod, "--cons", &at_cons];
    let arguments = [&["tunnel", "--json", "--prod-target", "127.0.0.1:1,127.0.0.1:2"], &ends[..]].concat();
    let ran = run(S2UC, &arguments, prod.folder()).await;
    ran.failed(1);
    assert_eq!(ran.json()["error"]["code"], "NO_RESOURCE");
    prod.assert_nothing_left();
    cons.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_request_gives_everything_back() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let s2cs = gateway.address().to_string();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let arguments = ["prod-req", "--ssl=False", "--s2cs", &s2cs, "--num_conn", "2"];
        let mut request = Running::start(S2UC, &arguments, gateway.folder());
        request.says("waiting for hello message").await;
        eventually("REQ holds its ports", || gateway.listening().len() == 2).await;
        request.signal(signal);
        let ran = request.end().await;
        assert!(ran.failed(130).contains("released"), "{ran:?}");
        gateway.assert_nothing_left();
        // From its first line on.
        let mut request = Running::start(S2UC, &arguments, gateway.folder());
        request.says("uid; s2cs").await;
        request.signal(signal);
        let ran = request.end().await;
        assert!(ran.failed(130).contains("released"), "{ran:?}");
        eventually("nothing is held", || gateway.listening().is_empty()).await;
        gateway.assert_nothing_left();
    }
}

/// An address of this host for the fixed ports of the deployed release's controller.
fn own_address(test: u8) -> String {
    let [low, high, ..] = std::process::id().to_le_bytes();
    format!("127.{}.{high}.{low}", 100 + test)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_controller_says_hello_for_a_request() {
    for (test, command) in [(0, "mock"), (1, "create-appctrl")] {
        let ip = own_address(test);
        let app = App::start_at(&format!("{ip}:5074")).await;
        let (prod, cons) = (TestGateway::start(&["--ssl=False"]).await, TestGateway::start(&["--ssl=False"]).await);
        let s2cs = prod.address().to_string();
        let folder = empty_folder();
        let arguments = ["prod-req", "--ssl=False", "--s2cs", &s2cs, "--num_conn", "1"];
        let mut request = Running::start(S2UC, &arguments, folder.path());
        let said = request.says("waiting for hello message").await;
        let values: Vec<_> = said.lines().nth(1).expect("a second line").split(' ').collect();
        assert_eq!(values[1..], [s2cs.as_str(), "INVALID_TOKEN", "PROD"]);
        let uid = values[0];

        let hello = [command, uid, &s2cs, "INVALID_TOKEN", "PROD", &ip, "--ssl=False"];
        let ran = run(APPCTRL, &hello, folder.path()).await;
        assert!(ran.succeeded().contains("Hello sent"), "{ran:?}");
        let ran = request.end().await;
        let said = ran.succeeded();
        let entry = format!("127.0.0.1:{}", prod.port_range().start());
        assert!(said.contains(&format!("listeners: \"{entry}\"\n")), "{said}");
        assert!(said.contains(&format!("prod_listeners: \"{ip}:5074\"\n")), "{said}");

        let at_cons = cons.address().to_string();
        let outbound = ["outbound-request", "--ssl=False", "--s2cs", &at_cons, "--num_conn", "1", uid, &entry];
        let ran = run(S2UC, &outbound, folder.path()).await;
        exchange(&listeners(ran.succeeded())[0], First::Consumer).await;
        assert_eq!(app.connections(), 1);
    }
}

/// A REQ for a CONS session that waits for its HELLO.
async fn waiting_consumer(
    gateway: &TestGateway,
    uid: &str,
    connections: i32,
) -> tokio::task::JoinHandle<Result<scistream_proto::Response, tonic::Status>> {
    let (raw, uid) = (Raw::connect(gateway).await, uid.to_owned());
    let request = tokio::spawn(async move { raw.req(&uid, "CONS", connections, 10_000).await });
    eventually("REQ holds its ports", || !gateway.listening().is_empty()).await;
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumers_hello_prints_what_to_connect_to() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let s2cs = gateway.address().to_string();
    let folder = empty_folder();
    let wish = (gateway.port_range().start() + 11).to_string();
    for (more, json) in [(vec![], false), (vec!["--port", &wish], false), (vec!["--port", &wish, "--json"], true)] {
        let uid = new_uid();
        let request = waiting_consumer(&gateway, &uid, 2).await;
        let hello = ["hello", "--ssl=False", "--uid", &uid, "--s2cs", &s2cs, "--role", "cons"];
        let ran = run(APPCTRL, &[&hello[..], &more].concat(), folder.path()).await;
        let said = ran.succeeded();
        let printed: Vec<String> = match json {
            true => strings(&ran.json()["endpoints"]),
            false => said.lines().map(str::to_owned).collect(),
        };
        assert_eq!(printed, request.await.expect("no panic").expect("REQ is answered").listeners);
        assert_eq!(printed.len(), 2);
        assert_eq!(printed[0].ends_with(&wish), !more.is_empty(), "{printed:?}");
        Raw::connect(&gateway).await.release(&uid).await.expect("released");
        gateway.assert_nothing_left();
    }
    // What makes no sense is not sent.
    for flags in [vec!["--role", "CONS", "--target", "a:1"], vec!["--role", "PROD"], vec!["--role", "BOTH"]] {
        let hello = ["hello", "--ssl=False", "--uid", &new_uid(), "--s2cs", &s2cs];
        run(APPCTRL, &[&hello[..], &flags].concat(), folder.path()).await.failed(2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_runs_the_application_with_its_listeners_and_releases_at_its_end() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let s2cs = gateway.address().to_string();
    let folder = empty_folder();
    for json in [false, true] {
        let uid = new_uid();
        let request = waiting_consumer(&gateway, &uid, 2).await;
        let script = "echo \"$0 $SCISTREAM_LISTENERS $1 $2 $3\" > ran; exit 7";
        let run_it = ["run", "--ssl=False", "--uid", &uid, "--s2cs", &s2cs, "--role", "CONS"];
        let json_flag: &[&str] = if json { &["--json"] } else { &[] };
        let program = ["--", "sh", "-c", script, "{listener}", "{host}", "{port}", "tcp://{listener2}"];
        let ran = run(APPCTRL, &[&run_it[..], json_flag, &program].concat(), folder.path()).await;
        ran.failed(7);
        let told = request.await.expect("no panic").expect("REQ is answered").listeners;
        let port = told[0].strip_prefix("127.0.0.1:").expect("on loopback");
        let expected = format!("{} {} 127.0.0.1 {port} tcp://{}\n", told[0], told.join(","), told[1]);
        assert_eq!(fs::read_to_string(folder.path().join("ran")).expect("it ran"), expected);
        if json {
            assert_eq!(ran.json(), json!({ "endpoints": told, "exit": 7, "released": true }));
        }
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_interrupted_ends_the_application_and_releases() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let s2cs = gateway.address().to_string();
    let folder = empty_folder();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let uid = new_uid();
        let request = waiting_consumer(&gateway, &uid, 1).await;
        let run_it = ["run", "--ssl=False", "--uid", &uid, "--s2cs", &s2cs, "--role", "CONS", "--"];
        let mut controller =
            Running::start(APPCTRL, &[&run_it[..], &["sh", "-c", "echo up; exec sleep 600"]].concat(), folder.path());
        controller.says("up").await;
        request.await.expect("no panic").expect("REQ is answered");
        controller.signal(signal);
        let ran = controller.end().await;
        ran.failed(128 + Signal::SIGTERM as i32);
        gateway.assert_nothing_left();
    }
    // A program that is not there.
    let uid = new_uid();
    let request = waiting_consumer(&gateway, &uid, 1).await;
    let run_it = ["run", "--ssl=False", "--uid", &uid, "--s2cs", &s2cs, "--role", "CONS", "--", "no-such-program"];
    let said = run(APPCTRL, &run_it, folder.path()).await.failed(1);
    assert!(said.contains("no-such-program"), "{said}");
    request.await.expect("no panic").expect("REQ is answered");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_control_channel_works_on_loopback_with_clients_that_know() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    assert!(gateway.stdout().contains("(plain, "), "{}", gateway.stdout());
    let s2cs = gateway.address().to_string();
    let folder = empty_folder();
    let inbound = ["inbound-request", "--s2cs", &s2cs, "--num_conn=1", "--remote_ip=127.0.0.1"];
    let ran = run(S2UC, &[&inbound[..], &["--ssl=False"]].concat(), folder.path()).await;
    assert_eq!(listeners(ran.succeeded()).len(), 1);
    // One that means to speak TLS does not fall back to none.
    let said = run(S2UC, &inbound, folder.path()).await.failed(1);
    assert!(said.contains("TLS"), "{said}");
    assert_eq!(gateway.listening().len(), 1);
}

/// Nothing that could be used by others is shown or kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_neither_printed_nor_kept() {
    let gateway = TestGateway::start(&["--ssl=False", "--verbose"]).await;
    let s2cs = gateway.address().to_string();
    let folder = empty_folder();
    let uid = new_uid();
    let request = waiting_consumer(&gateway, &uid, 1).await;
    let token = "a-token-that-nobody-may-see";
    let ran = run(APPCTRL, &["mock", &uid, &s2cs, token, "CONS", "--ssl=False"], folder.path()).await;
    ran.succeeded();
    request.await.expect("no panic").expect("REQ is answered");
    for text in [ran.stdout, ran.stderr, gateway.stdout(), gateway.stderr()] {
        assert!(!text.contains(token), "{text}");
    }
    assert_eq!(files_under(folder.path()), Vec::<PathBuf>::new());
}
