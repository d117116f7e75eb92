//! How a person gets a token for a gateway, and how it is kept.
//!
//! A gateway tells which authorization servers it trusts ([`Provider`]). A
//! person logs in there in one of three ways: in a browser that comes back to a
//! port of this host ([`Authorization`] with [`Loopback`]), in a browser
//! anywhere from which a code is copied ([`Authorization`] alone), or by
//! confirming a short code ([`Device`]). The tokens are kept in one file
//! ([`Store`]) under their [`Purpose`], are sent to each gateway that takes
//! tokens of that purpose, and are refreshed before they expire
//! ([`fresh_token`]):
//!
//! ```text
//! Capabilities ─► Provider ─► Authorization | Device ─► Tokens ─► Store ─► fresh_token
//! ```

mod authorization;
mod deployed;
mod device;
mod discovery;
mod entry;
mod error;
mod exchange;
mod keyring;
mod loopback;
mod provider;
mod refresh;
mod revoke;
mod seal;
mod store;

pub use authorization::Authorization;
pub use deployed::{DEPLOYED_STORE, import};
pub use device::Device;
pub use entry::{Book, Entry};
pub use error::LoginError;
pub use exchange::Tokens;
pub use keyring::{KeyringError, look_for_keyring};
pub use loopback::Loopback;
pub use provider::{Kind, Provider, Purpose};
pub use refresh::fresh_token;
pub use revoke::{Revoked, revoke};
pub use store::{Keeping, Kept, Store};
