//! The client's side of the control channel: for s2uc and appctrl, and for
//! workflow tools that link to this crate.

mod answers;
mod dial;
mod error;
mod gateway;
mod half;
mod link;

pub use answers::without_bad_details;
pub use dial::{DialError, Security};
pub use error::ClientError;
pub use gateway::{Gateway, NO_TOKEN};
pub use half::{Ask, Half, announce};
