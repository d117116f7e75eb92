//! TLS-PSK with the system's OpenSSL.

mod context;
mod stream;
mod transport;

pub use context::{Contexts, Side};
pub use stream::TlsStream;
pub use transport::release;
