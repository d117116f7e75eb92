//! What a session's programs are kept to just now: its own limit, and its share of
//! what the gateway may move, which comes and goes.

use std::path::PathBuf;
use std::time::Duration;

use super::serve_error::ServeError;
use crate::session::{Bandwidth, Capacity, least};
use crate::shares::{Seat, forget_share, write_share};

/// How long a new session waits for a share: others must be seen lowered first.
const PATIENCE: Duration = Duration::from_secs(15);

/// A session's pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// `None` where the session shares with nobody.
    seat: Option<Seat>,
    folder: PathBuf,
    /// What programs are, or are being, kept to.
    share: Option<Bandwidth>,
}

impl Pace {
    pub(super) fn new(seat: Option<Seat>, folder: PathBuf) -> Self {
        let share = seat.as_ref().and_then(Seat::in_force);
        Self { seat, folder, share }
    }

    /// What a session of this capacity is kept to.
    pub(super) fn of(&self, capacity: &Capacity) -> Option<Bandwidth> {
        least(capacity.limit, self.share)
    }

    /// Resolves when the share has changed.
    pub(super) async fn news(&mut self) {
        Seat::news(self.seat.as_mut()).await;
    }

    /// Takes the share as it is now. Programs are to be brought to it; then comes
    /// [`Self::settle`] or [`Self::go_back`].
    pub(super) async fn take(&mut self) -> Result<(), ServeError> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        let share = seat.take_within(PATIENCE).await.ok_or(ServeError::NoShare)?;
        if let Some(most) = seat.in_force().max(Some(share))
            && seat.in_force() != Some(most)
        {
            // Before it is so: a later run must not believe in less.
            write_share(&self.folder, most).map_err(ServeError::Share)?;
        }
        self.share = Some(share);
        Ok(())
    }

    /// Programs are kept to what was taken.
    pub(super) fn settle(&mut self) {
        let Some(seat) = &mut self.seat else { return };
        let is_written = seat.in_force() <= self.share;
        seat.is_kept_to(self.share);
        if !is_written {
            self.write();
        }
    }

    /// Programs are kept to what they were before.
    pub(super) fn go_back(&mut self) {
        let Some(seat) = &mut self.seat else { return };
        self.share = seat.in_force();
        seat.could_not();
        self.write();
    }

    /// Writes down what programs are kept to, once they are. Should it fail, a later run
    /// takes them to be kept to more than they are.
    fn write(&self) {
        let written = self.share.map_or_else(|| forget_share(&self.folder), |share| write_share(&self.folder, share));
        if let Err(e) = written {
            tracing::error!(folder = %self.folder.display(), "cannot write down a session's share: {e}");
        }
    }
}
