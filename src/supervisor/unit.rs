//! One stage of a session with its process: started, changed, stopped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use regex::RegexSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::growth::{Growth, Watch};
use super::log::{Log, Mark, Verdict};
use super::place::Place;
use super::process::{Exit, Process};
use super::report::{ProcessView, Running};
use super::serve_error::{ServeError, system};
use crate::backend::{Program, Stage};

/// A stage, its program, and the process that runs it.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) stage: Stage,
    pub(super) program: Program,
    config: PathBuf,
    log: Log,
    /// The configuration in force.
    pub(super) text: String,
    growth: Growth,
    process: Process,
    started: Mark,
    begun: Instant,
    /// When it was last seen to serve what it was given; `None`: not yet.
    settled: Option<Instant>,
    /// How long it took from its start until it said that it serves, if that was seen.
    ready_after: Option<Duration>,
    /// Of the program as it was when the process was started, if that is known.
    version: Option<String>,
    past: Past,
}

/// What there was before the process.
#[derive(Debug, Clone, Default)]
struct Past {
    restarts: u32,
    last_end: Option<String>,
    cpu: Duration,
}

/// What a unit is made from.
pub(super) struct Draft {
    pub(super) stage: Stage,
    pub(super) program: Program,
    pub(super) text: String,
}

/// How often a log is looked at that nobody tells of …
const POLL_FIRST: Duration = Duration::from_millis(1);
const POLL_MOST: Duration = Duration::from_millis(20);
/// … and one of which somebody does, lest a file system be silent.
const LOOK_ANYWAY: Duration = Duration::from_millis(250);

impl Unit {
    /// Starts a checked draft. Whether it comes to serve is for [`Self::await_start`] to tell.
    pub(super) fn start(draft: Draft, place: &mut Place) -> Result<Self, ServeError> {
        let Draft { stage, program, text } = draft;
        let config = place.folder.config_file(&stage);
        fs::rename(next_file(&config), &config).map_err(system(&stage, "put the configuration in place"))?;
        failpoint!("configuration-in-place");
        let log = Log::new(place.folder.log_file(&stage));
        let started = log.mark();
        let begun = Instant::now();
        let process = spawn(&stage, &program, place)?;
        let (growth, version) = (place.growth.clone(), Some(program.version.clone()));
        let (settled, ready_after, past) = (None, None, Past::default());
        Ok(Self {
            stage,
            program,
            config,
            log,
            text,
            growth,
            process,
            started,
            begun,
            settled,
            ready_after,
            version,
            past,
        })
    }

    /// Waits until a process that has just been started serves.
    pub(super) async fn await_start(&mut self) -> Result<(), ServeError> {
        self.await_ready().await?;
        failpoint!("process-ready");
        Ok(())
    }

    /// Takes over the process that an earlier run has started for a stage, if it lives.
    pub(super) fn adopt(draft: Draft, place: &Place) -> Result<Option<Self>, ServeError> {
        let Draft { stage, program, .. } = draft;
        let Some(identity) = place.known(&stage.name()) else {
            return Ok(None);
        };
        let Some(process) = Process::adopt(identity, &place.reapers).map_err(system(&stage, "watch the process"))?
        else {
            return Ok(None);
        };
        let config = place.folder.config_file(&stage);
        let log = Log::new(place.folder.log_file(&stage));
        // Whatever it serves, the file tells what it was last told to.
        let text = fs::read_to_string(&config).unwrap_or_default();
        let started = log.mark();
        let version = process.identity().runs_what_is_installed().then(|| program.version.clone());
        let (ready_after, past, begun) = (None, Past::default(), Instant::now());
        let settled = Some(begun);
        let growth = place.growth.clone();
        Ok(Some(Self {
            stage,
            program,
            config,
            log,
            text,
            growth,
            process,
            started,
            begun,
            settled,
            ready_after,
            version,
            past,
        }))
    }

    /// The process.
    pub(super) fn pid(&self) -> Pid {
        self.process.identity().pid()
    }

    /// Starts the same configuration again after the process has died. One that does
    /// not come to serve is ended, so that the next try starts another.
    pub(super) async fn restart(&mut self, place: &mut Place) -> Result<(), ServeError> {
        let (mark, begun, past) = (self.log.mark(), Instant::now(), self.past());
        let process = spawn(&self.stage, &self.program, place)?;
        self.past = Past { restarts: past.restarts + 1, ..past };
        self.version = Some(self.program.version.clone());
        (self.process, self.started, self.begun) = (process, mark, begun);
        (self.settled, self.ready_after) = (None, None);
        let outcome = self.await_ready().await;
        if outcome.is_err() {
            self.process.end_at_once().await;
        }
        outcome
    }

    async fn await_ready(&mut self) -> Result<(), ServeError> {
        let start = &self.stage.manifest.start;
        let (ready, within) = (start.ready.clone(), start.timeout_seconds);
        self.await_verdict(self.started, &ready, &RegexSet::empty(), within).await?;
        self.ready_after = Some(self.begun.elapsed());
        Ok(())
    }

    /// What there was until now: the process too, if it has ended.
    fn past(&self) -> Past {
        let Some(exit) = self.process.ended() else {
            return self.past.clone();
        };
        let cpu = self.past.cpu + self.process.cpu_at_end();
        Past { last_end: Some(self.last_words(exit)), cpu, ..self.past }
    }

    /// How it stands.
    pub(super) fn view(&self) -> ProcessView {
        let running = || Running {
            identity: self.process.identity().clone(),
            started: self.process.started(),
            ready_after: self.ready_after,
        };
        let past = self.past();
        ProcessView {
            backend: self.stage.name(),
            version: self.version.clone(),
            running: self.runs().then(running),
            restarts: past.restarts,
            last_end: past.last_end,
            cpu_before: past.cpu,
        }
    }

    /// Moves the running process to a checked draft; when it refuses, the old
    /// configuration is in force and in place again.
    pub(super) async fn change(&mut self, draft: Draft) -> Result<(), ServeError> {
        let Draft { stage, text, .. } = draft;
        fs::rename(next_file(&self.config), &self.config).map_err(system(&stage, "put the configuration in place"))?;
        failpoint!("changed-configuration-in-place");
        match self.reload().await {
            Ok(()) => {
                failpoint!("change-confirmed");
                self.stage = stage;
                self.text = text;
                Ok(())
            }
            Err(ServeError::Silent { backend, within, said }) => {
                // It may yet have taken the new one.
                if let Err(e) = self.put_back(self.stage.clone(), self.text.clone()).await {
                    tracing::error!("cannot go back to the old configuration: {e}");
                }
                Err(ServeError::Silent { backend, within, said })
            }
            Err(e) => {
                write_in_place(&self.config, &self.text)
                    .map_err(system(&self.stage, "put the old configuration back"))?;
                Err(e)
            }
        }
    }

    /// Goes back to a configuration that was in force before.
    pub(super) async fn put_back(&mut self, stage: Stage, text: String) -> Result<(), ServeError> {
        write_in_place(&self.config, &text).map_err(system(&stage, "put the old configuration back"))?;
        self.stage = stage;
        self.text = text;
        self.reload().await
    }

    async fn reload(&mut self) -> Result<(), ServeError> {
        let reload = self.stage.manifest.reload.clone();
        sleep_until(self.heeds_signals_from()).await;
        let mark = self.log.mark();
        let (mut left, again) = (reload.timeout_seconds, reload.again_seconds);
        loop {
            self.process.signal(reload.signal);
            failpoint!("change-signalled");
            let patience = if again.is_zero() { left } else { again.min(left) };
            left -= patience;
            match self.await_verdict(mark, &reload.confirmed, &reload.refused, patience).await {
                Err(ServeError::Silent { .. }) if !left.is_zero() => {
                    tracing::warn!(backend = self.stage.name(), "no answer to a reload; asking again");
                }
                Err(ServeError::Silent { backend, said, .. }) => {
                    return Err(ServeError::Silent { backend, within: reload.timeout_seconds, said });
                }
                outcome => return outcome,
            }
        }
    }

    /// Some programs lose a signal that comes too soon after they have started.
    fn heeds_signals_from(&self) -> Instant {
        self.settled.unwrap_or(self.begun) + self.stage.manifest.reload.settle_seconds
    }

    async fn await_verdict(
        &mut self,
        mark: Mark,
        confirmed: &RegexSet,
        refused: &RegexSet,
        within: Duration,
    ) -> Result<(), ServeError> {
        let backend = self.stage.name();
        let deadline = Instant::now() + within;
        // Before the first look: what is written after it is told.
        let watch = self.growth.watch(self.log.path());
        let mut pause = if watch.is_some() { LOOK_ANYWAY } else { POLL_FIRST };
        loop {
            // Asked first: what it wrote before it ended is then in the log.
            let ended = self.process.ended();
            match self.log.verdict(mark, confirmed, refused) {
                Verdict::Refused => return Err(ServeError::Refused { backend, said: self.log.tail(mark) }),
                Verdict::Confirmed if ended.is_none() => {
                    self.settled = Some(Instant::now());
                    return Ok(());
                }
                _ => {}
            }
            if let Some(exit) = ended {
                let said = format!("it {exit}; {}", self.log.tail(mark));
                return Err(ServeError::Refused { backend, said });
            }
            if Instant::now() >= deadline {
                return Err(ServeError::Silent { backend, within, said: self.log.tail(mark) });
            }
            tokio::select! {
                () = Watch::change(watch.as_ref()) => {}
                () = sleep_until((Instant::now() + pause).min(deadline)) => {}
                _ = self.process.wait() => {}
            }
            if watch.is_none() {
                pause = (pause * 2).min(POLL_MOST);
            }
        }
    }

    /// Waits until the process ends by itself. Dropping this future loses nothing.
    pub(super) async fn ended(&mut self) -> Exit {
        self.process.wait().await
    }

    /// Whether the process runs.
    pub(super) fn runs(&self) -> bool {
        self.process.ended().is_none()
    }

    /// What happened to a process that ended, for people.
    pub(super) fn obituary(&self, exit: Exit) -> String {
        format!("{} {}", self.stage.name(), self.last_words(exit))
    }

    fn last_words(&self, exit: Exit) -> String {
        match self.log.tail(self.started).as_str() {
            "" => format!("{exit}; it said nothing"),
            said => format!("{exit}; it said: {said}"),
        }
    }

    /// Keeps its log small.
    pub(super) fn bound_log(&self) {
        if let Err(e) = self.log.bound() {
            tracing::warn!("cannot bound the log of {}: {e}", self.stage.name());
        }
    }

    /// Tells the process at once that the end has come, the gentlest way it knows; what
    /// is returned sees it to its end, in at most about `grace`. One that would not heed a
    /// signal yet is told when it does. One that may lose signals is told again, and no
    /// other: a second one may mean to end at once.
    pub(super) fn wind_down(mut self, grace: Duration) -> impl Future<Output = ()> + use<> {
        self.process.dismiss();
        let (drain, now) = (self.drain(), self.stage.manifest.stop.now);
        let early = self.heeds_signals_from().saturating_duration_since(Instant::now());
        let untold = if drain.is_some() { early } else { Duration::ZERO };
        if untold.is_zero() {
            self.process.signal(drain.unwrap_or(now));
        }
        async move {
            if let Some(drain) = drain {
                let again = self.stage.manifest.reload.again_seconds;
                let (mut left, mut pause) = (grace, if untold.is_zero() { again } else { untold });
                while !left.is_zero() {
                    let patience = if pause.is_zero() { left } else { pause.min(left) };
                    if timeout(patience, self.process.wait()).await.is_ok() {
                        return;
                    }
                    (left, pause) = (left - patience, again);
                    if !left.is_zero() {
                        self.process.signal(drain);
                    }
                }
                self.process.signal(now);
            }
            self.process.see_end().await;
        }
    }

    /// How it is told to let its connections end. One that has never served has none.
    fn drain(&self) -> Option<Signal> {
        self.stage.manifest.stop.drain.filter(|_| self.settled.is_some())
    }
}

fn spawn(stage: &Stage, program: &Program, place: &mut Place) -> Result<Process, ServeError> {
    let process =
        place.for_serving(stage, program).and_then(Process::spawn).map_err(system(stage, "start the process"))?;
    failpoint!("process-started");
    place.note(&stage.name(), process.identity()).map_err(system(stage, "write down the process"))?;
    failpoint!("process-written-down");
    Ok(process)
}

pub(super) fn next_file(config: &Path) -> PathBuf {
    let mut name = config.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn write_in_place(config: &Path, text: &str) -> io::Result<()> {
    let next = next_file(config);
    fs::write(&next, text)?;
    fs::rename(next, config)
}
