//! What the tests have in common: control servers, applications, and looks at
//! what is left behind.

pub mod app;
pub mod application;
pub mod authority;
pub mod authorization_server;
pub mod booted_host;
pub mod browser;
pub mod command;
pub mod deployed_stunnel;
pub mod desktop;
pub mod django_server;
pub mod firewall;
pub mod flood;
pub mod gateway;
pub mod globus_fake;
pub mod guarded;
pub mod hardship;
pub mod leftovers;
#[path = "../../../backends/native/tests/integration/support/machine.rs"]
pub mod machine;
pub mod manager;
pub mod measure;
pub mod package_root;
pub mod ports;
pub mod program;
pub mod rabbitmq;
pub mod raw;
pub mod recorder;
pub mod service;
pub mod session;
pub mod talk;
pub mod telling_gateway;
pub mod tls_client;
pub mod tunnel;
pub mod user;
pub mod wait;
pub mod wire;

pub use app::{App, exchange};
pub use gateway::TestGateway;
pub use raw::Raw;
pub use talk::Talk;
pub use tunnel::Tunnel;
pub use wait::eventually;

/// The backends that come with the program.
pub const BACKENDS: [&str; 4] = ["native", "stunnel", "haproxy", "nginx"];
