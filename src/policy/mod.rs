//! What may be asked for. Today: which targets a session may be pointed at.

mod targets;

pub use targets::{Forbidden, TargetError, TargetPolicy};
