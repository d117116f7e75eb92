//! What may be asked for: which targets a session may be pointed at, and from
//! where it may take connections.

mod sources;
mod targets;

pub use sources::{SourceError, SourcePolicy};
pub use targets::{Forbidden, TargetError, TargetPolicy};
