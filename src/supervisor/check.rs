//! Has a program check a configuration before it is used.

use std::fs;
use std::time::Duration;

use super::place::Place;
use super::process;
use super::serve_error::{ServeError, system};
use super::unit::{Draft, next_file};
use crate::backend::{Check, CheckWhen};

const CHECK_DEADLINE: Duration = Duration::from_secs(10);

/// What a draft is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A process that is to start.
    Start,
    /// One that runs.
    Change,
}

/// Leaves the text of a draft beside the one in force.
pub(super) fn lay_down(draft: &Draft, place: &Place) -> Result<(), ServeError> {
    let next = next_file(&place.folder.config_file(&draft.stage));
    fs::write(next, &draft.text).map_err(system(&draft.stage, "write the configuration"))
}

/// Does so, and has the program itself check it, unless its start tells as much.
pub(super) async fn check(draft: &Draft, purpose: Purpose, place: &Place) -> Result<(), ServeError> {
    let Draft { stage, program, .. } = draft;
    lay_down(draft, place)?;
    let next = next_file(&place.folder.config_file(stage));
    let asked = |check: &&Check| purpose == Purpose::Change || check.when == CheckWhen::Always;
    let Some(check) = stage.manifest.check.as_ref().filter(asked) else {
        return Ok(());
    };
    let spawn = place.for_checking(stage, program, &check.argv, &next).map_err(system(stage, "prepare the check"))?;
    match process::check(spawn, CHECK_DEADLINE).await.map_err(system(stage, "run the check"))? {
        Ok(()) => Ok(()),
        Err(said) => Err(ServeError::Refused { backend: stage.name(), said }),
    }
}
