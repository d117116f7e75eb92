//! TLS-PSK with the system's OpenSSL.

mod context;
mod stream;

pub use context::{Contexts, Side};
pub use stream::TlsStream;
