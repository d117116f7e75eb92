//! How long a session lasts.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The term of a session; unlimited by default.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Term {
    /// By our own clock, which does not jump, and as the clock on the wall shows it.
    end: Option<(Instant, SystemTime)>,
    /// How long before the end it is announced; `None` once it has been.
    warning: Option<Duration>,
}

/// The end of a session is announced this long before it comes, or a tenth of
/// its lifetime if that is less.
const WARNING: Duration = Duration::from_secs(60);
/// As good as never, and yet a date that clocks can show.
pub(super) const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

impl Term {
    /// From now on.
    pub(super) fn lasting(lifetime: Option<Duration>) -> Self {
        lifetime.map_or_else(Self::default, |lifetime| Self::from(SystemTime::now(), lifetime))
    }

    fn from(now: SystemTime, lifetime: Duration) -> Self {
        let lifetime = lifetime.min(FAR);
        let end = (Instant::now() + lifetime, now + lifetime);
        Self { end: Some(end), warning: Some(WARNING.min(lifetime / 10)) }
    }

    /// What is left of a term that an earlier run has begun. Only the clock on the
    /// wall can tell; one that was set back makes it no longer than the whole.
    pub(super) fn rest(created: SystemTime, end: SystemTime, now: SystemTime) -> Self {
        let until = |from| end.duration_since(from).unwrap_or_default();
        Self::from(now, until(now).min(until(created)))
    }

    /// At most so long from now on.
    pub(super) fn shorten(&mut self, most: Option<Duration>) {
        let Some(most) = most else { return };
        let bound = Self::lasting(Some(most));
        if self.end.is_none_or(|(end, _)| bound.end.is_some_and(|(most, _)| most < end)) {
            *self = bound;
        }
    }

    pub(super) fn expires(self) -> Option<SystemTime> {
        self.end.map(|(_, shown)| shown)
    }

    pub(super) fn is_over(self) -> bool {
        self.end.is_some_and(|(end, _)| end <= Instant::now())
    }

    /// The end has been announced.
    pub(super) fn announced(&mut self) {
        self.warning = None;
    }

    /// When there is something to do about it.
    pub(super) fn next(self) -> Option<Instant> {
        let (end, _) = self.end?;
        Some(end.checked_sub(self.warning.unwrap_or_default()).unwrap_or(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_made_shorter_and_never_longer() {
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
        let left = |lifetime: Option<Duration>, most: Option<Duration>| {
            let mut term = Term::lasting(lifetime);
            term.shorten(most);
            term.end.map(|(end, _)| end.duration_since(Instant::now()).as_secs_f64().round())
        };
        assert_eq!(left(None, Some(hour)), Some(3600.0));
        assert_eq!(left(Some(day), Some(hour)), Some(3600.0));
        assert_eq!(left(Some(hour), Some(day)), Some(3600.0));
        assert_eq!((left(Some(hour), None), left(None, None)), (Some(3600.0), None));
    }

    #[test]
    fn a_clock_that_was_set_back_lengthens_no_term_beyond_the_whole() {
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
        let created = SystemTime::now();
        let left = |now| {
            let (end, _) = Term::rest(created, created + hour, now).end.expect("it ends");
            end.duration_since(Instant::now()).as_secs_f64().round()
        };
        assert_eq!(left(created + hour / 4), 2700.0);
        assert_eq!(left(created - day), 3600.0);
        assert_eq!(left(created + day), 0.0);
    }
}
