//! What the deployed release's flags mean here.

use super::Settings;

/// The deployed names of data servers, and ours. Theirs are either programs in
/// containers or subprocesses; ours are always processes on the gateway.
const TYPES: [(&str, &str); 6] = [
    ("StunnelSubprocess", "stunnel"),
    ("Stunnel", "stunnel"),
    ("HaproxySubprocess", "haproxy"),
    ("Haproxy", "haproxy"),
    ("Nginx", "nginx"),
    ("S2DS", "native"),
];

/// Reads `--type` as `--backend`, and says so.
pub(super) fn backend_of_type(
    settings: &Settings,
    notes: &mut Vec<String>,
    faults: &mut Vec<String>,
) -> Option<String> {
    let name = settings.r#type.as_deref()?;
    let known = TYPES.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(name));
    let Some((theirs, ours)) = known else {
        let names = TYPES.map(|(theirs, _)| theirs).join(", ");
        faults.push(format!("--type {name:?} is unknown; there are {names}; or use --backend"));
        return None;
    };
    match &settings.backend {
        Some(backend) if backend != ours => {
            faults.push(format!("--type {theirs} means --backend {ours}, but --backend {backend} is given too"));
        }
        _ => notes.push(format!("--type {theirs} is read as --backend {ours}")),
    }
    Some((*ours).to_owned())
}
