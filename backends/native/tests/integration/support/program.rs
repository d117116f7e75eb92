//! A running program, with the lines that it said; it ends with the test.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DEADLINE, eventually};

pub struct Program {
    child: Child,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (errors, said) = (child.stderr.take().expect("piped"), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                said.0.lock().expect("lock").push(line);
                said.1.notify_all();
            }
        });
        Self { child, lines }
    }

    /// Starts `s2ds` and waits until its listeners accept.
    pub fn s2ds(config: &Path) -> Self {
        let program = Self::start(Command::new(env!("CARGO_BIN_EXE_s2ds")).arg(config));
        program.wait_for("s2ds: ready");
        program
    }

    /// Waits for a line that has this in it.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait_for_nth(part, 1)
    }

    /// Waits for so many lines, and gives the last of them.
    pub fn wait_for_nth(&self, part: &str, nth: usize) -> String {
        let began = Instant::now();
        let mut lines = self.lines.0.lock().expect("lock");
        loop {
            if let Some(line) = lines.iter().filter(|line| line.contains(part)).nth(nth - 1) {
                return line.clone();
            }
            let left = DEADLINE.saturating_sub(began.elapsed());
            if left.is_zero() {
                drop(lines);
                panic!("waited in vain for {nth} lines with {part:?}");
            }
            lines = self.lines.1.wait_timeout(lines, left).expect("lock").0;
        }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.0.lock().expect("lock").clone()
    }

    pub fn count(&self, part: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(part)).count()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).expect("signal");
    }

    /// Reloads, and waits for the outcome.
    pub fn reload(&self) -> String {
        let outcomes = self.count("s2ds: reload");
        self.signal(Signal::SIGHUP);
        self.wait_for_nth("s2ds: reload", outcomes + 1)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("it ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the program said:\n{}", self.lines().join("\n"));
        }
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
