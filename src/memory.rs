//! Keeps what a program knows in its memory, keys above all, to itself.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// No other process of the same user can look into this one, and it leaves no
/// core, however cores are made (`PR_SET_DUMPABLE`). Programs that it executes
/// are not bound.
///
/// # Errors
/// What the system says.
pub fn keep_private() -> nix::Result<()> {
    set_dumpable(false)
}

/// No core file, of this process or of one that it starts.
///
/// # Errors
/// What the system says.
pub fn leave_no_core() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}
