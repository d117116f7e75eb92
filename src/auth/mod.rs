//! Who calls: a token or a certificate becomes a [`Caller`], or nothing.
//!
//! The [`Guard`] stands before everything. It counts calls, then has the
//! authenticator find out whose the token is: the providers of the gateway are
//! asked (RFC 7662), or their signature is checked (RFC 9068), and a good answer
//! is remembered for at most half a minute. A provider that does not answer makes
//! no token good and none bad: the caller is told to come again.

mod authenticator;
mod caller;
mod certificate;
mod claims;
mod endpoint;
mod guard;
mod introspection;
mod jwt;
mod keys;
mod provider;
mod token;

pub use authenticator::Authenticator;
use authenticator::JudgeError;
pub use caller::{Caller, Identity};
pub use certificate::{CERTIFICATE, certified};
pub use guard::{Guard, GuardError, Limits, share_of};
pub use provider::{Kind, Login, ProviderSettings, Providers};
pub use token::{ISSUER_HEADER, Token};
