//! TLS-PSK with the system's OpenSSL.
//!
//! ```text
//!   context                    keys, suites, and what the kernel can:
//!      ├── kernel                 found out by trying
//!   stream                     one connection, over one of:
//!      ├── batched ── transport   OpenSSL alone, many records at a time
//!      └── in_kernel              OpenSSL shakes hands, the kernel does the rest
//! ```

mod batched;
mod context;
mod in_kernel;
mod kernel;
mod reason;
mod stream;
mod transport;

pub use context::{Contexts, Side};
pub use kernel::KernelTls;
pub use stream::TlsStream;
