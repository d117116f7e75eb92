//! Holds a network namespace open until its stdin ends.

use std::io::{Read as _, stdin};

use nix::sched::{CloneFlags, unshare};

use crate::arrangements::program::tool;
use crate::failure::{Doing as _, Result};

/// Runs until stdin ends.
///
/// # Errors
/// When the namespace cannot be made.
pub fn run() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).doing("make a network namespace")?;
    tool("ip", &["link", "set", "lo", "up"])?;
    println!("ok");
    stdin().read_to_end(&mut Vec::new()).map(drop).doing("wait")
}
