//! The RPM package, as far as it can be looked at where another package manager rules.
//!
//! It is installed by rpm itself, which runs the scriptlets in a root of its own. That root is a Debian, so what
//! the package requires of a Red Hat system is not resolved.

use std::fs;

use crate::support::package_root::{PackageRoot, built, differences, host, make, text};

#[test]
fn the_package_installs_upgrades_and_goes_without_a_trace() {
    let folder = built();
    let package = text(&make("rpm", &folder, &[]));
    let earlier = text(&make("rpm", &folder, &["--version", "1.9.9"]));
    let linted = host("rpmlint", &["--config", "packaging/redhat/rpmlint.toml", &package]).succeeded();
    assert!(linted.contains("0 errors, 0 warnings"), "{linted}");
    let requires = host("rpm", &["-q", "--requires", "-p", &package]).succeeded();
    for library in ["libssl.so.3()(64bit)", "libcrypto.so.3()(64bit)", "systemd"] {
        assert!(requires.contains(library), "{requires}");
    }
    let weak = host("rpm", &["-q", "--recommends", "--suggests", "-p", &package]).succeeded();
    for other in ["stunnel", "haproxy", "nginx-mod-stream"] {
        assert!(weak.contains(other), "{weak}");
    }

    let root = PackageRoot::copy();
    // Folders that are other packages' on a Red Hat system.
    let shared =
        ["lib/firewalld/services", "share/fish/vendor_completions.d", "share/licenses", "share/zsh/site-functions"];
    for folder in shared.map(|folder| format!("usr/{folder}")) {
        fs::create_dir_all(root.path(&folder)).expect("a folder");
    }
    let inside = text(&root.path(""));
    let rpm = |arguments: &[&str]| {
        root.work_on(&[&["rpm", "--root", &inside, "--dbpath", "/var/lib/rpm"], arguments].concat())
    };
    rpm(&["--initdb"]).succeeded();
    let before = root.everything();
    let said = rpm(&["-i", "--nodeps", &earlier]).succeeded();
    assert!(said.contains("s2cs setup"), "{said}");
    assert_eq!(rpm(&["-V", "--nodeps", "scistream"]).succeeded(), "");
    let check = ["s2cs", "check", "--config", "/etc/scistream/s2cs.toml"];
    assert_eq!(root.run(&check).code, Some(78));
    assert_eq!(root.run(&["systemctl", "is-enabled", "s2cs"]).text.trim(), "disabled");
    assert!(root.path("etc/scistream/backends").is_dir() && root.path("var/lib/scistream").is_dir());

    // A configuration that was changed stays over an upgrade, and is kept when the package goes.
    let path = root.path("etc/scistream/s2cs.toml");
    let mine = fs::read_to_string(&path).expect("a configuration").replace("#port = 5000", "port = 5001");
    fs::write(&path, &mine).expect("written");
    let said = rpm(&["-U", "--nodeps", &package]).succeeded();
    assert!(!said.contains("s2cs setup"), "{said}");
    assert_eq!(fs::read_to_string(&path).expect("a configuration"), mine);
    let version = rpm(&["-q", "--queryformat", "%{VERSION}", "scistream"]).succeeded();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));

    rpm(&["-e", "scistream"]).succeeded();
    let left = differences(&before, &root.everything());
    assert_eq!(left, ["etc/scistream", "etc/scistream/s2cs.toml.rpmsave"]);

    // And one that was not goes.
    fs::remove_dir_all(root.path("etc/scistream")).expect("ours");
    rpm(&["-i", "--nodeps", &package]).succeeded();
    rpm(&["-e", "scistream"]).succeeded();
    assert_eq!(differences(&before, &root.everything()), Vec::<String>::new());
}
