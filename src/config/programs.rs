//! Which programs serve sessions, and how they are boxed in.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;

use super::Settings;
use crate::backend::{Catalog, Manifest};
use crate::causes::causes;
use crate::session::Protection;
use crate::supervisor::{SYSTEM_FOLDERS, Sandbox, kernel_has_landlock};

const SITE_DIR: &str = "/etc/scistream";
/// What keeps strangers, and too much, from a program that cannot.
const GATE: &str = "native";
const NO_LANDLOCK: &str =
    "this kernel has no Landlock (it needs Linux 5.13, and landlock among what lsm= names at boot)";

/// What serves sessions.
pub(super) struct Programs {
    pub(super) catalog: Catalog,
    pub(super) backend: Arc<Manifest>,
    pub(super) terminator: Arc<Manifest>,
    pub(super) gate: Arc<Manifest>,
}

/// Pushes a fault for each thing that is wrong; without any, there are programs.
pub(super) fn check(
    settings: &Settings,
    backend: &str,
    protection: Protection,
    faults: &mut Vec<String>,
) -> Option<Programs> {
    let site_dir = settings.site_dir.as_deref().unwrap_or(Path::new(SITE_DIR));
    if settings.site_dir.is_some() && !site_dir.is_dir() {
        faults.push(format!("site_dir {} is not a folder", site_dir.display()));
    }
    let catalog = match Catalog::load(Some(site_dir)) {
        Ok(catalog) => catalog,
        Err(e) => {
            faults.push(format!("backends: failed to {}", causes(&e)));
            return None;
        }
    };
    let mut find = |name: &str| match catalog.get(name) {
        Ok(manifest) => Some(manifest),
        Err(e) => {
            faults.push(format!("failed to {e}"));
            None
        }
    };
    let terminator = find(settings.terminator.as_deref().unwrap_or("native"));
    let (backend, gate) = (find(backend), find(GATE));
    let (backend, terminator, gate) = (backend?, terminator?, gate?);
    if !terminator.speaks_psk() {
        faults.push(format!("terminator {} has no TLS-PSK itself; choose native or stunnel", terminator.name));
    }
    let end = if backend.speaks_psk() { &backend } else { &terminator };
    if end.speaks_psk() && !end.abilities.psk.contains(&protection) {
        faults.push(format!("{} cannot do protection {protection}; choose native", end.name));
    }
    if !gate.abilities.source_filter {
        faults.push(format!(
            "the site's manifest of {GATE} must have source_filter = true: it guards programs that cannot"
        ));
    }
    if !gate.abilities.bandwidth_limit {
        faults.push(format!(
            "the site's manifest of {GATE} must have bandwidth_limit = true: it limits programs that cannot"
        ));
    }
    Some(Programs { catalog, backend, terminator, gate })
}

/// How proxies are boxed in; `state_dir` is where sessions keep their files.
pub(super) fn sandbox(
    text: Option<&str>,
    state_dir: Option<&Path>,
    notes: &mut Vec<String>,
    faults: &mut Vec<String>,
) -> Sandbox {
    let sandbox = Sandbox::from_str(text.unwrap_or(Sandbox::default().as_str()), true).unwrap_or_else(|_| {
        faults.push(format!("sandbox must be auto, required or off, not {:?}", text.unwrap_or_default()));
        Sandbox::default()
    });
    if sandbox == Sandbox::Off {
        return sandbox;
    }
    // What every proxy may read holds no session's folder.
    if let (Some(path), Some(system)) =
        (state_dir, SYSTEM_FOLDERS.iter().find(|folder| state_dir.is_some_and(|path| path.starts_with(folder))))
    {
        faults.push(format!(
            "state_dir {} lies in {system}, which all proxies may read; put it elsewhere, or say sandbox = \"off\"",
            path.display()
        ));
    }
    match (kernel_has_landlock(), sandbox) {
        (true, _) => {}
        (false, Sandbox::Required) => faults.push(format!("sandbox is required, and {NO_LANDLOCK}")),
        (false, _) => notes.push(format!(
            "warning: {NO_LANDLOCK}; proxies are not boxed in, and one that is broken into can read the keys of all sessions"
        )),
    }
    sandbox
}
