//! TLS-PSK with the system's OpenSSL.

mod buffer;
mod context;
mod stream;
mod transport;

pub use buffer::release;
pub use context::{Contexts, Side};
pub use stream::TlsStream;
