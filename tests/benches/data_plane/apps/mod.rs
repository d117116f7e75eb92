//! The applications at the two ends: a producer that sends and a consumer that takes.
//!
//! They are processes of their own, told what to do by lines on stdin, and answer by
//! lines on stdout. Neither touches a byte more than it must: the producer writes one
//! buffer again and again, and the consumer has the kernel drop what has come.
//!
//! On the wire the consumer speaks first. [`ECHO`] asks for every byte back.
//! [`STREAM`] is answered with [`READY`], so the whole way stands; then four bytes ask
//! for that many milliseconds of data. The connection stays open after that.

pub mod consumer;
pub mod producer;
mod runtime;
mod streams;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::arrangements::ground::Place;
use crate::failure::{Doing as _, Failure, Result};

/// Every byte comes back.
pub const ECHO: u8 = b'e';
/// Bytes come for as long as is asked.
pub const STREAM: u8 = b's';
/// The producer is there.
pub const READY: u8 = b'k';

/// Longer than any answer may take beyond what was asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of the two, running. Killed when dropped.
pub struct App {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl App {
    /// Starts the producer, which accepts at this address.
    ///
    /// # Errors
    /// When it does not start.
    pub fn producer(place: Place, listen: SocketAddr) -> Result<Self> {
        let mut app = Self::start(place, &["producer", &listen.to_string()])?;
        app.answer(Duration::ZERO)?;
        Ok(app)
    }

    /// Starts the consumer.
    ///
    /// # Errors
    /// When it does not start.
    pub fn consumer(place: Place) -> Result<Self> {
        Self::start(place, &["consumer"])
    }

    /// Starts a part of this bench.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(place: Place, arguments: &[&str]) -> Result<Self> {
        let executable = std::env::current_exe().doing("find this program")?;
        let mut words = place.entering().into_iter().map(OsString::from).collect::<Vec<_>>();
        words.push(executable.into());
        words.extend(arguments.iter().map(OsString::from));
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing("start an application")?;
        let stdin = child.stdin.take().doing("talk to an application")?;
        let stdout = child.stdout.take().doing("hear an application")?;
        let (tell, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, answers })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it what to do, and waits for the answer: `lasting` is how long it takes by itself.
    ///
    /// # Errors
    /// What it says went wrong, or that it says nothing.
    pub fn ask(&mut self, what: impl Display, lasting: Duration) -> Result<Vec<String>> {
        self.tell(what)?;
        self.answer(lasting)
    }

    /// Tells it what to do; [`App::answer`] has the answer.
    ///
    /// # Errors
    /// When it is gone.
    pub fn tell(&mut self, what: impl Display) -> Result<()> {
        writeln!(self.stdin, "{what}").doing("talk to an application")
    }

    /// The answer to what it was told.
    ///
    /// # Errors
    /// What it says went wrong, or that it says nothing.
    pub fn answer(&mut self, lasting: Duration) -> Result<Vec<String>> {
        let line = self.answers.recv_timeout(lasting + PATIENCE).doing("hear from an application")?;
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match words.split_first() {
            Some((first, rest)) if first == "ok" => Ok(rest.to_vec()),
            _ => Err(Failure(line)),
        }
    }
}

/// One number of an answer.
///
/// # Errors
/// When it is not there.
pub fn number<T: FromStr>(answer: &[String], index: usize) -> Result<T> {
    answer.get(index).and_then(|word| word.parse().ok()).doing("understand an application's answer")
}

impl Drop for App {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
