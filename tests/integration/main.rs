//! The whole path, with the real programs: one binary, a module a feature.
//!
//! Every test starts control servers of its own on loopback, with ports and
//! folders of its own, and ends them by id. Nothing is skipped: a program that
//! is missing fails the test that needs it (`packaging/test` installs them all).

mod applications;
mod authorization;
mod bad_input;
mod bandwidth;
mod command_line;
mod control_channel;
mod controller_restart;
mod corpora;
mod deployed_client;
mod deployed_faults;
mod deployed_peer;
mod documents;
mod eavesdroppers;
#[cfg(feature = "failpoints")]
mod failpoints;
mod firewall;
mod first_steps;
mod flows;
mod gateway_service;
mod golden;
mod identity;
mod login;
mod operator;
#[path = "../../packaging/files/lib.rs"]
mod package_files;
mod packaging;
mod permission;
mod policy_change;
mod processes;
#[path = "../fuzz/src/lib.rs"]
mod promises;
mod reliability;
mod reload;
mod sandbox;
mod service_manager;
mod session_units;
mod sources;
mod strangers;
mod streams;
mod support;
mod units;
mod upgrade;
mod wire;
