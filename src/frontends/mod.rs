//! The doors into the engine. A front end translates a protocol into commands
//! and their outcome back; it decides nothing.

pub mod grpc;
