//! A `backend.toml`, as a site writes it.

use scistream::backend::Manifest;

/// What is taken leads nowhere out of the session's folder, writes over none of
/// the files there, and tells when the program serves.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let manifest = match Manifest::parse(text) {
        Ok(manifest) => manifest,
        Err(fault) => return super::assert_one_line(&fault.to_string()),
    };
    for name in [&manifest.name, &manifest.config, &manifest.template] {
        super::assert_plain(name, b"-_.");
        assert!(!name.is_empty() && !name.starts_with('.'));
    }
    let ours = ["psk", "session.json", "processes.json", "traffic.json"];
    assert!(!ours.contains(&manifest.config.as_str()), "{} is a file of ours", manifest.config);
    for ending in [".log", ".sock", ".tmp", ".next"] {
        assert!(!manifest.config.ends_with(ending), "{} may be a file of ours", manifest.config);
    }
    assert!(!manifest.start.ready.is_empty() && !manifest.reload.confirmed.is_empty());
    let reload = &manifest.reload;
    let waits = [manifest.start.timeout_seconds, reload.timeout_seconds, reload.settle_seconds, reload.again_seconds];
    waits.into_iter().for_each(super::assert_can_be_waited);
}
