//! The helper's side: takes a request, looks at who asks and for what, and has the firewall changed.
//!
//! One request at a time, in the order in which they come: what was asked for
//! first is done first, also when who asked does not wait for the answer.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::Uid;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::time::timeout;

use super::bounds::{Bounds, Element};
use super::firewalld::{self, Firewalld};
use super::nftables::{self, Nftables};
use super::wire::{Answer, LONGEST_LINE, Request, Seen};
use crate::backend::ENVIRONMENT;

/// How long who connects may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one call of the firewall's program may take.
const PROGRAM_DEADLINE: Duration = Duration::from_secs(8);

/// What the host's firewall is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wall {
    /// A ruleset of nftables.
    Nftables(Nftables),
    /// Firewalld.
    Firewalld(Firewalld),
}

/// One call of the firewall's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) argv: Vec<String>,
    /// What it reads.
    pub(super) input: String,
}

/// The helper.
#[derive(Debug)]
pub struct Helper {
    /// What it changes.
    pub wall: Wall,
    /// The program that does so.
    pub program: PathBuf,
    /// What it lets itself be asked for.
    pub bounds: Bounds,
    /// Who may ask besides root.
    pub user: Uid,
}

impl Helper {
    /// Serves whoever connects, for ever.
    ///
    /// # Errors
    /// When no more connections can be taken.
    pub async fn serve(&self, listener: &UnixListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            if let Err(e) = self.attend(stream).await {
                tracing::warn!("a request was not heard to its end: {e}");
            }
        }
    }

    /// Whether the firewall is as it must be.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), String> {
        self.seen().await.map(drop)
    }

    async fn attend(&self, mut stream: UnixStream) -> io::Result<()> {
        let asks = Uid::from_raw(stream.peer_cred()?.uid());
        let answer = if asks.is_root() || asks == self.user {
            let mut line = String::new();
            let mut reader = BufReader::new(&mut stream).take(LONGEST_LINE);
            if timeout(PATIENCE, reader.read_line(&mut line)).await?? == 0 {
                // Somebody who only looked whether we are here.
                return Ok(());
            }
            match serde_json::from_str(&line) {
                Ok(request) => self.answer(request).await,
                Err(e) => Answer::Refused(format!("this is no request: {e}")),
            }
        } else {
            Answer::Refused(format!("user {asks} may not ask, only root and user {}", self.user))
        };
        if let Answer::Refused(why) | Answer::Failed(why) = &answer {
            tracing::warn!(user = %asks, "{why}");
        }
        let line = format!("{}\n", serde_json::to_string(&answer)?);
        timeout(PATIENCE, stream.write_all(line.as_bytes())).await?
    }

    async fn answer(&self, request: Request) -> Answer {
        let outcome = match request {
            Request::Open { listeners, sources, seconds } => {
                let bounded = self.bounds.elements(&listeners, &sources);
                match bounded.and_then(|elements| Ok((elements, self.bounds.seconds(seconds)?))) {
                    Ok((elements, seconds)) => self.open(&elements, seconds).await,
                    Err(why) => return Answer::Refused(why),
                }
            }
            Request::Close { listeners, sources } => match self.bounds.elements(&listeners, &sources) {
                Ok(elements) => self.close(elements).await,
                Err(why) => return Answer::Refused(why),
            },
            Request::List {} => match self.seen().await {
                Ok(found) => return Answer::Openings(found),
                Err(why) => Err(why),
            },
        };
        match outcome {
            Ok(()) => Answer::Done {},
            Err(why) => Answer::Failed(why),
        }
    }

    async fn open(&self, elements: &[Element], seconds: u32) -> Result<(), String> {
        if elements.is_empty() {
            return Ok(());
        }
        match &self.wall {
            Wall::Nftables(sets) => {
                let Err(why) = self.call(sets.open(elements, seconds)).await else { return Ok(()) };
                // What an earlier holder of the port has left may overlap, which a set does not take.
                let strays = self.elements(sets).await?.into_iter().map(|(known, _)| known).filter(|known| {
                    let same = |e: &Element| (e.destination, e.port) == (known.destination, known.port);
                    elements.iter().any(same) && !elements.contains(known)
                });
                let strays: Vec<_> = strays.collect();
                if strays.is_empty() {
                    return Err(why);
                }
                self.call(sets.close(&strays)).await?;
                self.call(sets.open(elements, seconds)).await.map(drop)
            }
            Wall::Firewalld(zone) => {
                // The clock that nobody sets, the same for whoever helps after us.
                let now = clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs();
                self.call_all(zone.open(elements, seconds, now)).await
            }
        }
    }

    async fn close(&self, mut elements: Vec<Element>) -> Result<(), String> {
        match &self.wall {
            Wall::Nftables(sets) => {
                // Some may have closed by themselves, and removing those would fail for all.
                let there = self.elements(sets).await?;
                elements.retain(|element| there.iter().any(|(known, _)| known == element));
                if elements.is_empty() {
                    return Ok(());
                }
                self.call(sets.close(&elements)).await.map(drop)
            }
            Wall::Firewalld(zone) => self.call_all(zone.close(&elements)).await,
        }
    }

    async fn seen(&self) -> Result<Vec<Seen>, String> {
        match &self.wall {
            Wall::Nftables(sets) => Ok(self.elements(sets).await?.into_iter().map(|(_, seen)| seen).collect()),
            Wall::Firewalld(zone) => {
                let found = firewalld::listed(&self.call(zone.list()).await?);
                // It does not tell for how long.
                Ok(found.into_iter().map(|(source, listener)| Seen { source, listener, expires: None }).collect())
            }
        }
    }

    async fn elements(&self, sets: &Nftables) -> Result<Vec<(Element, Seen)>, String> {
        let mut all = Vec::new();
        for family in ['4', '6'] {
            all.extend(nftables::listed(&self.call(sets.list(family)).await?)?);
        }
        Ok(all)
    }

    async fn call_all(&self, invocations: Vec<Invocation>) -> Result<(), String> {
        for invocation in invocations {
            self.call(invocation).await?;
        }
        Ok(())
    }

    async fn call(&self, Invocation { argv, input }: Invocation) -> Result<String, String> {
        let program = self.program.display();
        let run = async {
            let mut command = Command::new(&self.program);
            command.args(argv).env_clear().envs(ENVIRONMENT).kill_on_drop(true);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes()).await?;
            }
            child.wait_with_output().await
        };
        let output = timeout(PROGRAM_DEADLINE, run).await;
        let output = output.map_err(|_| format!("{program} does not end"))?;
        let output = output.map_err(|e| format!("{program} cannot be run: {e}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let in_part = matches!(self.wall, Wall::Firewalld(_)).then(|| firewalld::fault(&said)).flatten();
        if output.status.success() && in_part.is_none() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = in_part.unwrap_or(said.lines().next().unwrap_or_default());
        // Where in its input, which nobody else sees.
        let said = said.strip_prefix("internal:0:0-0: ").unwrap_or(said).trim();
        Err(format!("{program} said: {said}"))
    }
}
