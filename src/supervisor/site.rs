//! What an operator has chosen for all sessions of a gateway.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::growth::Growth;
use super::handover::SessionUnits;
use super::sandbox::Sandbox;
use crate::backend::{Catalog, Chosen, Manifest, Needs, ProgramError, Programs, locate};
use crate::firewall::Firewall;
use crate::session::{Protection, Tcp};

/// What all data paths of this gateway have in common.
#[derive(Debug)]
pub struct Site {
    /// Where templates come from.
    pub catalog: Catalog,
    /// The proxy that operators chose.
    pub backend: Arc<Manifest>,
    /// The end of the tunnel for proxies that have no PSK.
    pub terminator: Arc<Manifest>,
    /// What keeps strangers, and too much, from a program that cannot.
    pub gate: Arc<Manifest>,
    /// Connections that one process may hold open.
    pub connections: u32,
    /// What the buffers of one may take together; `None`: as it has it itself.
    pub memory_mib: Option<u32>,
    /// How TCP connections are set, where sessions have nothing of their own.
    pub tcp: Tcp,
    /// Whether programs are boxed in.
    pub sandbox: Sandbox,
    /// Who makes their processes, if that is not us.
    pub units: Option<SessionUnits>,
    /// Where openings for sessions are asked for, if the operator wants any.
    pub firewall: Option<Firewall>,
    /// How long open connections may go on at the end of a session.
    pub drain_grace: Duration,
    /// The programs as they were found last.
    pub programs: Programs,
    /// Tells when their logs grow.
    pub growth: Growth,
}

impl Site {
    /// The backends that serve a session of this one.
    #[must_use]
    pub fn chosen<'a>(&'a self, backend: &'a Arc<Manifest>) -> Chosen<'a> {
        Chosen { backend, terminator: &self.terminator, gate: &self.gate }
    }

    /// Looks for the programs that such a session needs, anew: an operator may install
    /// or upgrade while we run.
    ///
    /// # Errors
    /// [`ProgramError`] for the first that is missing.
    pub fn find_programs(&self, backend: &Arc<Manifest>, needs: Needs<'_>) -> Result<(), ProgramError> {
        self.chosen(backend).taking_part(needs).try_for_each(|manifest| self.programs.find(manifest).map(drop))
    }

    /// Whether a tunnel that this backend serves can have that protection.
    #[must_use]
    pub fn can_protect(&self, backend: &Manifest, protection: Protection) -> bool {
        let end = if backend.speaks_psk() { backend } else { &self.terminator };
        end.abilities.psk.contains(&protection)
    }

    /// The files of all backends' programs that are installed here.
    #[must_use]
    pub fn known_programs(&self) -> BTreeSet<PathBuf> {
        // Whether one can tell its version just now has no say in whose processes run.
        let found = self.catalog.all().filter_map(|manifest| locate(&manifest.program));
        found.filter_map(|path| path.canonicalize().ok()).collect()
    }
}
