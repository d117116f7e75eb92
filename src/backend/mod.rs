//! Backends: programs that serve a session from a rendered file.
//!
//! All that the controller knows of a program is its manifest (`backend.toml`)
//! and its template. [`Catalog`] holds those that are built in and those that a
//! site adds; [`Chosen`] turns a session's plan into the stages
//! that serve it; [`Template`](render) turns a stage into a configuration file.

mod catalog;
pub mod chain;
mod manifest;
mod program;
mod render;

pub use catalog::{Catalog, CatalogError};
pub use chain::{Address, Chosen, Duty, Hop, Needs, ProxyHeader, Stage, Wire};
pub use manifest::{Check, CheckWhen, Manifest, ManifestError, Sockets, Stop};
pub use program::{ENVIRONMENT, Program, ProgramError, Programs, locate};
pub use render::{Circumstances, Folder, PSK_IDENTITY, RenderError, Template, render};
