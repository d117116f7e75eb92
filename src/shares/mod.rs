//! How sessions share what the gateway may move at most.
//!
//! About every second it is looked at what each session moves, by the kernel's
//! count. Who moves nearly all that it may could use more; who does not is left
//! what it uses and half of that again; who is idle keeps a small floor, so that it
//! can begin. The rest goes to those who could use more, by their weights, and what
//! nobody could use is divided the same way ([`divide`]). A share is changed when the
//! difference is worth it, and so that the shares in force never exceed the cap: one
//! is raised only after others have been seen lowered ([`steer`]).
//!
//! [`Divider`] is the task that does it, and a [`Seat`] a session's way to it.

mod divide;
mod divider;
mod seat;
mod share_file;
mod steer;
mod usage;

pub use divide::{Claim, divide};
pub use divider::Divider;
pub use seat::{Seat, Told};
pub use share_file::{SHARE_FILE, forget_share, read_share, write_share};
pub use steer::{Position, steer};
pub use usage::Usage;
