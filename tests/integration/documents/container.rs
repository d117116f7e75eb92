//! The files for containers: they name what there is, s2cs takes the settings in them, and
//! their ports and addresses fit each other. Nothing is built: there is no registry here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::world::World;
use super::{commands, root, yaml};
use crate::support::command::run;
use crate::support::gateway::S2CS;

const FOLDER: &str = "packaging/container";

fn read(name: &str) -> String {
    fs::read_to_string(root().join(FOLDER).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The instructions of a Containerfile, each in one line, without remarks.
fn instructions() -> Vec<(String, String)> {
    let text = read("Containerfile");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let whole = lines.join("\n").replace("\\\n", " ");
    let instructions = whole.lines().filter(|line| !line.trim().is_empty());
    let split = instructions.map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{line:?} is no instruction")));
    split.map(|(name, rest)| (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

/// What a build copies is there, what it builds are our programs, and what it needs is what the
/// backends' manifests say.
#[test]
fn the_image_is_made_from_what_there_is() {
    let instructions = instructions();
    let all = |name: &str| {
        let of = instructions.iter().filter(move |(instruction, _)| instruction == name);
        of.map(|(_, rest)| rest.as_str()).collect::<Vec<_>>()
    };
    let copied = all("COPY");
    for copy in copied.iter().filter(|copy| !copy.starts_with("--from=")) {
        let (sources, _) = copy.rsplit_once(' ').expect("a source and a place");
        for source in sources.split(' ') {
            assert!(root().join(source).exists(), "COPY {source}: there is none");
        }
    }
    // All that the build needs of the folder.
    let whole: BTreeSet<_> =
        copied.iter().take_while(|copy| !copy.starts_with("--from=")).flat_map(|copy| copy.split(' ')).collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let path = Regex::new(r#"path = "([^/"]+)"#).expect("a pattern");
    for found in path.captures_iter(&manifest) {
        assert!(whole.contains(&found[1]), "the build needs {}", &found[1]);
    }
    let built = copied.iter().find(|copy| copy.starts_with("--from=build")).expect("the programs are copied");
    let built: BTreeSet<_> = built.split(' ').filter_map(|word| word.strip_prefix("/source/target/release/")).collect();
    assert_eq!(built, commands::OURS.iter().map(|(program, _)| *program).collect());

    let packages = all("RUN").last().expect("it installs").to_owned();
    let install = Regex::new(r#"apt install ([a-z0-9 -]+), or"#).expect("a pattern");
    for backend in ["haproxy", "nginx", "stunnel"] {
        let manifest =
            fs::read_to_string(root().join("backends").join(backend).join("backend.toml")).expect("a manifest");
        for found in install.captures_iter(&manifest) {
            for package in found[1].split(' ') {
                assert!(packages.contains(&format!(" {package} ")), "{backend} needs {package}");
            }
        }
    }
    assert_eq!(all("ENTRYPOINT"), [r#"["tini", "--", "s2cs"]"#]);
    assert_eq!(all("WORKDIR").last(), Some(&"/scistream"));
}

/// Shows s2cs a command line of a container's, with this host's addresses and files.
async fn check(world: &World, words: &[&str], here: &[(&str, &str)]) {
    let words: Vec<_> = words
        .iter()
        .map(|word| here.iter().fold((*word).to_owned(), |word, (theirs, ours)| word.replace(theirs, ours)))
        .collect();
    let words: Vec<_> = ["check"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let ran = run(S2CS, &words, &world.gateway_folder()).await;
    assert_eq!(ran.code, Some(0), "{words:?}: {}{}", ran.stdout, ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_of_the_compose_file_would_start() {
    let world = World::new().await;
    let [compose] = &yaml::read(&read("compose.yaml"))[..] else { panic!("one document") };
    let state = world.path("gateway/state");
    for (name, peer) in [("gw-a", "lan-a"), ("gw-b", "lan-b")] {
        let service = &compose["services"][name];
        let words = yaml::strings(&service["command"]);
        check(&world, &words, &[("/var/lib/scistream", &state)]).await;
        // What it listens on is what the networks give it, and these have such addresses.
        for (flag, network) in [("--wan-ip=", "wan"), ("--lan-ip=", peer)] {
            let address = words.iter().find_map(|word| word.strip_prefix(flag)).expect("it says where");
            assert_eq!(service["networks"][network]["ipv4_address"], address);
            let subnet: ipnet::IpNet = compose["networks"][network]["ipam"]["config"][0]["subnet"]
                .as_str()
                .and_then(|subnet| subnet.parse().ok())
                .expect("a network");
            assert!(subnet.contains(&address.parse::<std::net::IpAddr>().expect("an address")), "{address}");
        }
        let probe = yaml::strings(&service["healthcheck"]["test"]);
        assert_eq!(probe[0], "CMD");
        commands::is_understood(&world, &probe[1..]).await;
        let volumes = yaml::strings(&service["volumes"]);
        for volume in volumes {
            let volume = volume.split(':').next().expect("a name");
            assert!(compose["volumes"].as_object().is_some_and(|volumes| volumes.contains_key(volume)), "{volume}");
        }
        assert_eq!(service["build"]["dockerfile"], format!("{FOLDER}/Containerfile"));
        assert_eq!(
            Path::new(FOLDER).join(service["build"]["context"].as_str().expect("a folder")),
            Path::new("packaging/container/../..")
        );
    }
    for name in ["certificates", "user"] {
        let service = &compose["services"][name];
        // A shell may come before the program.
        let program = *yaml::strings(&service["entrypoint"]).last().expect("it starts something");
        let words = [&[program], &yaml::strings(&service["command"])[..]].concat();
        commands::is_understood(&world, &words).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_of_the_kubernetes_manifests_would_start() {
    let world = World::new().await;
    let all = yaml::read(&read("kubernetes.yaml"));
    let of = |kind: &str| all.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let (settings, deployment, service) = (of("ConfigMap"), of("Deployment"), of("Service"));
    assert_eq!(all.len(), 3);

    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    // Each mount has its volume.
    let names =
        |list: &Value| list.as_array().expect("a list").iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&container["volumeMounts"]), names(&pod["volumes"]));
    assert_eq!(pod["volumes"][0]["configMap"]["name"], settings["metadata"]["name"]);
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]);
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"], service["spec"]["selector"]);
    let user = read("Containerfile");
    assert!(user.contains(&format!("--uid {}", pod["securityContext"]["runAsUser"])), "the image has another user");

    let text = settings["data"]["s2cs.toml"].as_str().expect("a file");
    let text = text.replace("/run/scistream-tls/tls.crt", &world.path("gateway/server.crt"));
    let text = text.replace("/run/scistream-tls/tls.key", &world.path("gateway/server.key"));
    let text = text.replace("/var/lib/scistream", &world.path("gateway/state"));
    let file = world.file("gateway/kubernetes.toml", &text).display().to_string();
    let args = yaml::strings(&container["args"]);
    check(&world, &args, &[("/etc/scistream/s2cs.toml", &file), ("$(NODE_IP)", "192.0.2.7")]).await;

    // Every port is the same everywhere, and the range is all of them.
    let settings: toml::Table = text.parse().expect("it is TOML");
    let (first, last) = settings["port_range"].as_str().and_then(|range| range.split_once('-')).expect("a range");
    let number = |text: &str| text.parse::<i64>().expect("a number");
    let mut wanted: Vec<_> = (number(first)..=number(last)).collect();
    wanted.insert(0, settings["port"].as_integer().expect("a port"));
    let ports = service["spec"]["ports"].as_array().expect("a list");
    for key in ["port", "targetPort", "nodePort"] {
        let said: Vec<_> = ports.iter().map(|port| port[key].as_i64().expect("a number")).collect();
        assert_eq!(said, wanted, "{key}");
    }
    assert!(wanted.iter().all(|port| (30_000..=32_767).contains(port)), "no port of NodePorts");
    assert_eq!(container["ports"][0]["containerPort"], wanted[0]);

    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let words = yaml::strings(&container[probe]["exec"]["command"]);
        assert!(words.contains(&format!("localhost:{}", wanted[0]).as_str()), "{words:?}");
        commands::is_understood(&world, &words).await;
    }
    let words = yaml::strings(&container["lifecycle"]["preStop"]["exec"]["command"]);
    commands::is_understood(&world, &words).await;
    let wait: i64 = number(words.last().expect("seconds"));
    assert!(pod["terminationGracePeriodSeconds"].as_i64() > Some(wait), "the pod is killed before it has drained");
}
