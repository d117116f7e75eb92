//! The Debian package, in a Debian of its own.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::package_root::{PackageRoot, built, differences, host, make, text};

/// The same package as an earlier version, which had another configuration.
pub(super) fn earlier(package: &Path, folder: &TempDir) -> PathBuf {
    let tree = folder.path().join("earlier");
    host("dpkg-deb", &["--raw-extract", &text(package), &text(&tree)]).succeeded();
    let change = |name: &str, from: &str, to: &str| {
        let path = tree.join(name);
        let old = fs::read_to_string(&path).expect("it is there");
        assert!(old.contains(from), "{old}");
        fs::write(path, old.replace(from, to)).expect("written");
    };
    change("DEBIAN/control", "\nVersion: 2.", "\nVersion: 1.");
    change("etc/scistream/s2cs.toml", "#port = 5000", "#port = 4999");
    let path = folder.path().join("earlier.deb");
    host("dpkg-deb", &["-Znone", "--root-owner-group", "--build", &text(&tree), &text(&path)]).succeeded();
    path
}

#[test]
fn the_package_installs_upgrades_and_goes_without_a_trace() {
    let folder = built();
    let package = make("deb", &folder, &[]);
    let linted = host("lintian", &["--allow-root", "--fail-on", "error,warning", &text(&package)]).succeeded();
    assert_eq!(
        linted.replace("running with root privileges is not recommended!\n", ""),
        "",
        "lintian has something to say"
    );

    let root = PackageRoot::copy();
    let (new, old) = (root.take(&package), root.take(&earlier(&package, &folder)));
    let before = root.everything();

    // It is there, and does nothing yet; it says what comes next.
    let said = root.run(&["dpkg", "--install", &old]).succeeded();
    assert!(said.contains("s2cs setup") && said.contains("systemctl enable --now s2cs"), "{said}");
    for program in ["s2cs", "s2uc", "appctrl", "s2ds", "s2fw"] {
        let said = root.run(&[program, "--version"]).succeeded();
        assert!(said.starts_with(program), "{said}");
    }
    for page in ["s2cs", "s2cs-check", "s2uc-tunnel", "appctrl-run", "s2ds", "s2fw", "s2cs.toml", "backend.toml"] {
        root.run(&["man", "--where", page]).succeeded();
    }
    assert_eq!(root.run(&["systemctl", "is-enabled", "s2cs"]).text.trim(), "disabled");
    assert_eq!(root.run(&["systemd-analyze", "verify", "s2cs.service"]).succeeded(), "");
    root.run(&["logrotate", "--debug", "/etc/logrotate.d/scistream"]).succeeded();
    for name in ["haproxy", "native", "nginx", "stunnel"] {
        let shipped = fs::read(root.path("usr/share/scistream/backends").join(name).join("backend.toml"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("backends").join(name).join("backend.toml");
        assert_eq!(shipped.expect("to read"), fs::read(source).expect("ours"), "{name}");
    }

    // All that is missing is told at once.
    let check = ["s2cs", "check", "--config", "/etc/scistream/s2cs.toml"];
    let said = root.run(&check);
    assert_eq!(said.code, Some(78), "{}", said.text);
    for words in ["wan_ip", "/etc/scistream/server.crt", "who may use this gateway"] {
        assert!(said.text.contains(words), "{words}: {}", said.text);
    }

    // The site's own words, beside those that the package has chosen for it.
    let setup = ["s2cs", "setup", "--yes", "--wan-ip", "192.0.2.1", "--host", "gw.example.org", "--callers", "unknown"];
    let said = root.run(&setup).succeeded();
    assert!(said.contains("s2uc doctor --s2cs gw.example.org:5000"), "{said}");
    let path = root.path("etc/scistream/s2cs.toml");
    let mine = fs::read_to_string(&path).expect("a configuration");
    for words in ["listener_ip = \"192.0.2.1\"", "\nkeep_sessions_on_exit = true", "\n#max_sessions = 1000"] {
        assert!(mine.contains(words), "{words}: {mine}");
    }
    let as_user = ["setpriv", "--reuid=scistream", "--regid=scistream", "--clear-groups"];
    let said = root.run(&[&as_user[..], &check].concat()).succeeded();
    assert!(said.contains("the configuration is good"), "{said}");
    for (path, owner_may) in [("/var/lib/scistream", "700"), ("/var/log/scistream", "750")] {
        let said = root.run(&["stat", "--format=%a %U", path]).succeeded();
        assert_eq!(said.trim(), format!("{owner_may} scistream"), "{path}");
    }
    // And a backend of its own, which begins as a copy of ours.
    let copy = "cp /usr/share/scistream/templates/haproxy.cfg.tera /etc/scistream/templates/mine.tera && \
                mkdir /etc/scistream/backends/mine && sed 's/^name = .*/name = \"mine\"/; s/^template = .*/template = \"mine.tera\"/' \
                /usr/share/scistream/backends/haproxy/backend.toml >/etc/scistream/backends/mine/backend.toml";
    root.run(&["sh", "-c", copy]).succeeded();
    let said = root.run(&["s2cs", "backends"]).succeeded();
    assert!(said.contains("\nmine "), "{said}");

    // An upgrade keeps it, and puts the new file beside.
    let said = root.run(&["dpkg", "--force-confdef", "--force-confold", "--install", &new]).succeeded();
    assert!(!said.contains("s2cs setup"), "the first steps have been done: {said}");
    assert_eq!(fs::read_to_string(&path).expect("a configuration"), mine);
    assert!(path.with_extension("toml.dpkg-dist").is_file(), "the new configuration, to compare");
    let said = root.run(&["dpkg-query", "--show", "--showformat=${Version}", "scistream"]).succeeded();
    assert_eq!(said, format!("{}-1", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        root.run(&["dpkg", "--verify", "scistream"]).text.lines().filter(|line| !line.ends_with("s2cs.toml")).count(),
        0
    );
    root.run(&[&as_user[..], &check].concat()).succeeded();

    // Without the programs the site's words stay; then nothing does.
    root.run(&["dpkg", "--remove", "scistream"]).succeeded();
    assert!(path.is_file() && !root.path("usr/bin/s2cs").exists());
    root.run(&["dpkg", "--purge", "scistream"]).succeeded();
    assert_eq!(differences(&before, &root.everything()), Vec::<String>::new());
}
