//! Brings a session's processes to a plan: all of them, or none.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;

use super::check::{Purpose, check, lay_down};
use super::data_path::Task;
use super::serve_error::ServeError;
use super::unit::{Draft, Unit};
use crate::backend::{Circumstances, Stage, render};
use crate::firewall::{FirewallError, Opening};
use crate::session::Plan;

/// What has been done for a plan so far.
#[derive(Default)]
struct Undo {
    started: HashSet<String>,
    changed: HashMap<String, (Stage, String)>,
}

impl Task {
    /// Brings the processes to `plan`, all of them or none.
    pub(super) async fn serve(&mut self, plan: &Plan) -> Result<(), ServeError> {
        // A stage that is down just now comes back first, or the plan would be live in part.
        self.revive().await?;
        let outcome = match self.pace.take().await {
            Ok(()) => self.serve_at_this_pace(plan).await,
            refused => refused,
        };
        match outcome {
            Ok(()) => {
                self.pace.settle();
                self.live = Some(plan.clone());
            }
            Err(_) => self.pace.go_back(),
        }
        outcome
    }

    /// Brings what is served to a share that has changed. The program says whether it takes it.
    pub(super) async fn keep_pace(&mut self) {
        let Some(plan) = self.live.clone() else { return };
        let mut undo = Undo::default();
        let work = async {
            self.pace.take().await?;
            let drafts = self.drafts(&plan)?;
            drafts.iter().try_for_each(|draft| lay_down(draft, &self.place))?;
            self.bring_all(drafts, &mut undo).await
        };
        match work.await {
            Ok(()) => self.pace.settle(),
            Err(e) => {
                tracing::warn!(session = %self.session, "cannot change its share: {e}");
                self.undo(undo).await;
                self.pace.go_back();
            }
        }
    }

    async fn serve_at_this_pace(&mut self, plan: &Plan) -> Result<(), ServeError> {
        let drafts = self.drafts(plan)?;
        let purpose = |draft: &Draft| match self.units.iter().any(|unit| unit.stage.name() == draft.stage.name()) {
            true => Purpose::Change,
            false => Purpose::Start,
        };
        try_join_all(drafts.iter().map(|draft| check(draft, purpose(draft), &self.place))).await?;
        failpoint!("configurations-checked");
        let mut undo = Undo::default();
        let outcome = match self.bring_all(drafts, &mut undo).await {
            Ok(()) => self.let_through(plan).await.map_err(ServeError::from),
            refused => refused,
        };
        if outcome.is_err() {
            self.undo(undo).await;
        }
        outcome
    }

    /// Starts what does not run, all at once, and then changes what does.
    async fn bring_all(&mut self, drafts: Vec<Draft>, undo: &mut Undo) -> Result<(), ServeError> {
        let mut changes = Vec::new();
        for draft in drafts {
            let name = draft.stage.name();
            if self.units.iter().any(|unit| unit.stage.name() == name) {
                changes.push(draft);
            } else {
                self.units.push(Unit::start(draft, &mut self.place)?);
                undo.started.insert(name);
            }
        }
        // What connects to one that is not ready yet waits: its socket listens since before.
        let started = self.units.iter_mut().filter(|unit| undo.started.contains(&unit.stage.name()));
        try_join_all(started.map(Unit::await_start)).await?;
        for draft in changes {
            self.change(draft, undo).await?;
        }
        Ok(())
    }

    /// Opens the firewall for the first plan; the later ones have the same listeners and sources.
    async fn let_through(&mut self, plan: &Plan) -> Result<(), FirewallError> {
        if let (Some(firewall), None) = (&self.site.firewall, &self.opening) {
            let listeners = self.place.sockets.addresses();
            self.opening = Some(Opening::make(firewall, listeners, plan.sources.clone()).await?);
        }
        Ok(())
    }

    /// Changes one stage.
    async fn change(&mut self, draft: Draft, undo: &mut Undo) -> Result<(), ServeError> {
        let name = draft.stage.name();
        let unit = self.units.iter_mut().find(|unit| unit.stage.name() == name).expect("it runs");
        let before = (unit.stage.clone(), unit.text.clone());
        unit.change(draft).await?;
        undo.changed.insert(name, before);
        Ok(())
    }

    /// Goes back to what was before a plan that did not work out.
    async fn undo(&mut self, mut undo: Undo) {
        // Dropping a unit kills its group.
        self.units.retain(|unit| !undo.started.contains(&unit.stage.name()));
        for unit in &mut self.units {
            let Some((stage, text)) = undo.changed.remove(&unit.stage.name()) else { continue };
            if let Err(e) = unit.put_back(stage, text).await {
                tracing::error!(session = %self.session, "cannot go back to the old plan: {e}");
            }
        }
    }

    /// What must be started or changed; a stage whose text stays the same is left alone.
    pub(super) fn drafts(&self, plan: &Plan) -> Result<Vec<Draft>, ServeError> {
        let stages = self.site.chosen(&self.backend).stages(plan, &self.place.folder.path);
        let circumstances = Circumstances {
            protection: plan.protection,
            connections: self.site.connections,
            bandwidth: self.pace.of(&plan.capacity),
            memory_mib: self.site.memory_mib,
            tcp: self.site.tcp.with(&plan.tcp),
            root: nix::unistd::geteuid().is_root(),
        };
        let mut drafts = Vec::with_capacity(stages.len());
        for stage in stages {
            let program = self.site.programs.find(&stage.manifest)?;
            let template = self.site.catalog.template(&stage.manifest).expect("every manifest came with its template");
            let text = render(&template, &stage, &program, &self.place.folder, self.session, circumstances.clone())?;
            let in_force = self.units.iter().find(|unit| unit.stage.name() == stage.name());
            if in_force.is_none_or(|unit| unit.text != text) {
                drafts.push(Draft { stage, program, text });
            }
        }
        Ok(drafts)
    }
}
