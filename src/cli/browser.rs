//! Opens a page in the user's browser, where there is one.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// What opens pages on most desktops.
const OPENER: &str = "xdg-open";

/// The program that opens pages for the user who sits here; `None`: nobody can see any.
pub(super) fn browser() -> Option<String> {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    // A list, in order of preference, as xdg-open itself reads it.
    let chosen = set("BROWSER").and_then(|list| list.split(':').map(str::to_owned).find(|program| is_there(program)));
    let screen = set("DISPLAY").is_some() || set("WAYLAND_DISPLAY").is_some();
    chosen.or_else(|| (screen && is_there(OPENER)).then(|| OPENER.to_owned()))
}

/// Has it open an address. It goes on by itself.
pub(super) fn open(program: &str, address: &str) {
    let started = Command::new(program)
        .arg(address)
        .env_remove("SCISTREAM_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // The address is on the terminal too.
    if let Err(e) = started {
        tracing::warn!("failed to open a browser with {program}: {e}");
    }
}

fn is_there(program: &str) -> bool {
    match program.contains('/') {
        true => Path::new(program).is_file(),
        false => env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file()),
    }
}
