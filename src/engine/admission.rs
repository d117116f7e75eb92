//! Whether the host has what one more session takes, asked before anything starts.

use std::fs;
use std::num::NonZeroU16;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sysinfo::{MemoryRefreshKind, System};

use super::Refusal;

/// What a listener takes of ours: its socket, a copy on its way to a process, a
/// unix socket between two programs.
const DESCRIPTORS_PER_LISTENER: u64 = 4;
/// What a session takes besides: its processes, logs, journal, and calls about it.
const DESCRIPTORS_PER_SESSION: u64 = 32;

/// Takes all descriptors that the system allows. To be called once, at the start.
///
/// # Errors
/// What the system says.
pub fn raise_descriptor_limit() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// Lets a session in, or says what there is too little of.
pub(super) fn admit(connections: NonZeroU16, least_free_memory: u64) -> Result<(), Refusal> {
    let needed = DESCRIPTORS_PER_SESSION + DESCRIPTORS_PER_LISTENER * u64::from(connections.get());
    if let Some((open, limit)) = descriptors()
        && open + needed > limit
    {
        return Err(Refusal::Short { what: "file descriptors", left: limit.saturating_sub(open), needed });
    }
    // The kernel does not tell 0; a look at it that failed does.
    let left = available_memory();
    if left > 0 && left < least_free_memory {
        return Err(Refusal::Short { what: "bytes of memory", left, needed: least_free_memory });
    }
    Ok(())
}

/// How many are open, and how many may be. `None` when the kernel does not tell,
/// which is no reason to refuse.
fn descriptors() -> Option<(u64, u64)> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    match fs::read_dir("/proc/self/fd") {
        Ok(open) => Some((u64::try_from(open.count()).ok()?, limit)),
        // Looking takes one itself.
        Err(e) if e.raw_os_error() == Some(Errno::EMFILE as i32) => Some((limit, limit)),
        Err(_) => None,
    }
}

fn available_memory() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    system.available_memory()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU16 = NonZeroU16::MIN;

    #[test]
    fn an_ordinary_host_has_room() {
        admit(ONE, 1 << 20).expect("room for one session");
    }

    #[test]
    fn what_is_short_is_named() {
        let refusal = admit(ONE, u64::MAX).expect_err("no host has that much");
        assert!(refusal.to_string().contains("bytes of memory"), "{refusal}");
    }
}
