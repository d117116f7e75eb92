//! Every arrangement in turn, round after round, so that what disturbs one disturbs all.

use std::collections::HashMap;
use std::process::ExitCode;

use crate::apps::App;
use crate::arguments::Inside;
use crate::arrangements::ground::{Ground, Place};
use crate::arrangements::{self, Arrangement, Running};
use crate::course::{Course, Workload, courses};
use crate::failure::{Failure, Result};
use crate::path::Path;
use crate::report::{Report, Sample};
use crate::setting::Setting;
use crate::workloads::{Apps, Figures};

/// Which figure is told of while the bench runs.
const HEADLINES: [&str; 4] = ["gbit_per_s", "set_ups_per_s", "rtt_p50_us", "idle_rss_kib_each"];

/// Measures everything and reports it.
///
/// # Errors
/// When nothing can be measured. That one arrangement fails is a result.
pub fn run(inside: &Inside) -> Result<ExitCode> {
    let options = &inside.options;
    let arrangements = arrangements::all(options)?;
    let setting = Setting::look(&inside.apart, options, &arrangements);
    let mut stands: Vec<Stand> = courses(options).into_iter().map(Stand::new).collect();
    let mut samples = Vec::new();
    for round in 1..=options.rounds() {
        for stand in &mut stands {
            Runner { inside, round, samples: &mut samples }.run(stand, &arrangements);
        }
    }
    drop(stands);
    let names = arrangements.into_iter().map(|arrangement| arrangement.name).collect();
    let report = Report::of(setting, names, samples);
    report.publish(options)?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A course, and what stays for it from round to round.
struct Stand {
    course: Course,
    path: Result<Option<Path>>,
    kept: HashMap<String, (Ground, Running)>,
}

impl Stand {
    fn new(course: Course) -> Self {
        Self { path: course.link.as_ref().map(Path::make).transpose(), course, kept: HashMap::new() }
    }
}

struct Runner<'a> {
    inside: &'a Inside,
    round: usize,
    samples: &'a mut Vec<Sample>,
}

impl Runner<'_> {
    /// One course of one round: direct first, the others each round in another order.
    fn run(&mut self, stand: &mut Stand, arrangements: &[Arrangement]) {
        let places = match &stand.path {
            Ok(path) => path.as_ref().map_or([Place::HERE; 2], |path| path.places),
            Err(failure) => {
                let failure = Failure(failure.to_string());
                return self.record("direct", stand.course.name(), 0, Err(failure));
            }
        };
        let chosen: Vec<_> = arrangements.iter().filter(|arrangement| stand.course.has(&arrangement.kind)).collect();
        for turn in 0..chosen.len() {
            let others = chosen.len() - 1;
            let index = if turn == 0 { 0 } else { 1 + (turn - 1 + self.round) % others };
            eprint!("round {}/{} {:<32}", self.round, self.inside.options.rounds(), chosen[index].name);
            self.measure(chosen[index], stand, places);
            eprintln!();
        }
    }

    fn measure(&mut self, arrangement: &Arrangement, stand: &mut Stand, places: [Place; 2]) {
        let (name, course) = (&arrangement.name, &stand.course);
        let mut running = stand.kept.remove(name);
        let mut fresh = running.is_none();
        let mut apps = None;
        for workload in course.workloads.iter().filter(|workload| workload.suits(&arrangement.kind)) {
            // What has had connections shows no more what the first ones take.
            if matches!(workload, Workload::Idle(_)) && !fresh {
                continue;
            }
            if running.is_none() {
                match start(self.inside, arrangement, places) {
                    Ok(started) => running = Some(started),
                    Err(failure) => return self.record(name, "start", 0, Err(failure)),
                }
            }
            let Some((ground, programs)) = &running else { return };
            if apps.is_none() {
                match start_apps(ground) {
                    Ok(started) => apps = Some(started),
                    Err(failure) => return self.record(name, "start", 0, Err(failure)),
                }
            }
            let Some(both) = &mut apps else { return };
            let outcome = workload.ask(both, programs, course.window);
            fresh = false;
            let called = if course.link.is_some() { course.name() } else { workload.name() };
            if outcome.is_err() {
                eprint!(" (it said: {})", programs.said());
                // What is left open would disturb the rest.
                (apps, running) = (None, None);
            }
            self.record(name, called, workload.connections(), outcome);
        }
        if let (true, Some(running)) = (arrangement.kind.stays(), running) {
            stand.kept.insert(name.clone(), running);
        }
    }

    fn record(&mut self, arrangement: &str, workload: &'static str, connections: usize, outcome: Result<Figures>) {
        match &outcome {
            Ok(figures) => {
                let first = HEADLINES.iter().find_map(|name| figures.get(name)).copied().unwrap_or_default();
                let cost = figures.get("cpu_s_per_gb").map(|cost| format!("/{cost:.2}")).unwrap_or_default();
                eprint!(" {workload}({connections}) {first:.1}{cost}");
            }
            Err(failure) => eprint!(" {workload}({connections}) FAILED to {failure}"),
        }
        self.samples.push(Sample::new(self.round, arrangement, workload, connections, outcome));
    }
}

fn start(inside: &Inside, arrangement: &Arrangement, places: [Place; 2]) -> Result<(Ground, Running)> {
    let ground = Ground::make(&inside.folder, places)?;
    let running = arrangement.start(&ground)?;
    Ok((ground, running))
}

fn start_apps(ground: &Ground) -> Result<Apps> {
    let producer = App::producer(ground.prod, ground.producer)?;
    Ok(Apps { producer, consumer: App::consumer(ground.cons)? })
}
