//! What the two ends of one connection do, and whether what came of it is right.
//!
//! An end writes in steps while it reads, and ends in its own way. Every byte
//! received is compared with the byte that was sent at that place; then how
//! the ends were told of each other's ending is held against what they did.

use std::io::{ErrorKind, IoSlice};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::pattern::{Dice, Pattern};
use super::peer::Peer;

/// Time for bytes to be on their way both ways when a reset comes after an end of file.
const BEFORE_RESET: Duration = Duration::from_millis(10);

/// A few segments of the loopback's 64 KiB; with less TCP takes its rests (RFC 1122, 4.2.3.3).
pub const SMALL_BUFFER: usize = 200_000;

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides the bytes.
    pub seed: u64,
    pub client: Script,
    pub server: Script,
}

/// What one end does.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it writes.
    pub steps: Vec<Step>,
    pub ending: Ending,
    /// How much it reads at most at a time.
    pub read_size: usize,
    /// How much the kernel may hold for it, so that the other side gets rid of little at a time.
    pub receive_buffer: Option<usize>,
    /// After how many bytes it stops reading, and for how long.
    pub stalls: Vec<(u64, Duration)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Write { size: usize, times: u32 },
    Pause(Duration),
}

/// What an end does after its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Sends no more, and reads to the end of file.
    Finish,
    /// Resets the connection.
    Reset,
    /// Sends no more, reads some more, and resets. The other end, unless it resets as well,
    /// repeats its steps until it is told of it.
    FinishThenReset,
}

/// What can be asked of those that are on the way.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Whose resets arrive as resets.
    pub resets_told: &'static [Who],
    /// The end, if any, that must not finish before all that it sent has arrived.
    pub finishes_late: Option<Who>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client,
    Server,
}

/// What became of an end.
#[derive(Debug)]
struct Outcome {
    sent: u64,
    /// How sending ended; `None` is well, or with a reset of our own.
    sending: Option<ErrorKind>,
    received: u64,
    receiving: Reading,
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    EndOfFile,
    /// It reset the connection itself.
    Abandoned,
    Broken(ErrorKind),
}

impl Plan {
    /// A plan that moves about so many bytes.
    pub fn random(dice: &mut Dice, volume: u64) -> Self {
        let there = volume * dice.one_of(&[0, 1, 50, 50, 99, 100]) / 100;
        let mut client = Script::random(dice, there, volume - there);
        let mut server = Script::random(dice, volume - there, there);
        let ending = dice.one_of(&[Ending::Reset, Ending::FinishThenReset]);
        match dice.between(0, 6) {
            0 => client.end_early(ending),
            1 => server.end_early(ending),
            _ => {}
        }
        Self { seed: dice.next(), client, server }
    }

    /// Runs it, and gives how many bytes arrived.
    pub async fn run(&self, client: Peer, server: Peer, rules: Rules) -> Result<u64, String> {
        let (client_has, there) = (watch::Sender::new(0), watch::Sender::new(0));
        let seeds = (Pattern(self.seed), Pattern(!self.seed));
        let late = |who| rules.finishes_late == Some(who);
        let client_end = End {
            name: "client",
            script: &self.client,
            other: &self.server,
            peer: client,
            sends: seeds.0,
            receives: seeds.1,
            awaits: late(Who::Client).then(|| there.subscribe()),
        };
        let server_end = End {
            name: "server",
            script: &self.server,
            other: &self.client,
            peer: server,
            sends: seeds.1,
            receives: seeds.0,
            awaits: late(Who::Server).then(|| client_has.subscribe()),
        };
        let (client, server) = tokio::try_join!(client_end.act(client_has), server_end.act(there))?;
        let ends = ((&self.client, &client), (&self.server, &server));
        let told = |who| rules.resets_told.contains(&who);
        judge(ends.0, ends.1, told(Who::Client))
            .and_then(|()| judge(ends.1, ends.0, told(Who::Server)))
            .map_err(|fault| format!("{fault}; client: {client:?}, server: {server:?}"))?;
        Ok(client.received + server.received)
    }
}

impl Script {
    fn random(dice: &mut Dice, volume: u64, receives: u64) -> Self {
        const PRIMES: [usize; 10] = [2, 3, 7, 127, 509, 1021, 4093, 16_381, 65_521, 131_071];
        let mut steps = Vec::new();
        let mut left = volume;
        while left > 0 {
            let (size, times) = match dice.between(0, 10) {
                0..2 => (1, dice.between(1, 100)),
                2..7 => (dice.one_of(&PRIMES), dice.between(1, 40)),
                7..9 => (usize::try_from(dice.between(1, 4 << 20)).expect("small"), 1),
                _ => {
                    if steps.len() < 100 {
                        steps.push(Step::Pause(Duration::from_millis(dice.between(1, 10))));
                    }
                    continue;
                }
            };
            let size = size.min(usize::try_from(left).unwrap_or(usize::MAX));
            let times = times.min(left / size as u64).max(1);
            left -= (size as u64 * times).min(left);
            steps.push(Step::Write { size, times: u32::try_from(times).expect("small") });
        }
        let stalls = dice.between(0, 3);
        let mut stalls: Vec<_> =
            (0..stalls).map(|_| (dice.between(0, receives), Duration::from_millis(dice.between(1, 150)))).collect();
        stalls.sort_unstable();
        let read_size = dice.one_of(&[1021, 16_384, 65_521, 262_144, 1 << 20]);
        let receive_buffer = dice.one_of(&[None, None, Some(SMALL_BUFFER)]);
        Self { steps, ending: Ending::Finish, read_size, receive_buffer, stalls }
    }

    /// Ends half way, so that the other end is not ready.
    fn end_early(&mut self, ending: Ending) {
        self.steps.truncate(self.steps.len() / 2);
        self.ending = ending;
    }
}

struct End<'a> {
    name: &'static str,
    script: &'a Script,
    other: &'a Script,
    peer: Peer,
    sends: Pattern,
    receives: Pattern,
    /// How much of what it sent has arrived, when it waits for that.
    awaits: Option<watch::Receiver<u64>>,
}

impl End<'_> {
    async fn act(mut self, arrived: watch::Sender<u64>) -> Result<Outcome, String> {
        if let Some(size) = self.script.receive_buffer {
            self.peer.set_receive_buffer(size);
        }
        let awaits = self.awaits.take();
        let gone = CancellationToken::new();
        let sending = async { Ok(self.send(&gone, awaits).await) };
        let ((sent, sending), (received, receiving)) = tokio::try_join!(sending, self.receive(&gone, arrived))?;
        Ok(Outcome { sent, sending, received, receiving })
    }

    async fn send(&self, gone: &CancellationToken, awaits: Option<watch::Receiver<u64>>) -> (u64, Option<ErrorKind>) {
        let mut sent = 0;
        if let Err(error) = self.write(&mut sent).await {
            return (sent, Some(error.kind()));
        }
        if self.script.ending != Ending::Reset {
            if let Some(mut arrived) = awaits {
                // An error is the other's end, which is judged where it is known.
                drop(arrived.wait_for(|arrived| *arrived >= sent).await);
            }
            if let Err(error) = self.peer.finish() {
                return (sent, Some(error.kind()));
            }
        }
        if self.script.ending == Ending::FinishThenReset {
            sleep(BEFORE_RESET).await;
        }
        if self.script.ending != Ending::Finish {
            self.peer.reset_at_end();
            gone.cancel();
        }
        (sent, None)
    }

    async fn write(&self, sent: &mut u64) -> std::io::Result<()> {
        let endless = (self.script.ending, self.other.ending) == (Ending::Finish, Ending::FinishThenReset);
        loop {
            for step in &self.script.steps {
                match *step {
                    Step::Pause(pause) => sleep(pause).await,
                    Step::Write { size, times } => {
                        for _ in 0..times {
                            self.write_once(sent, size).await?;
                        }
                    }
                }
            }
            if !endless {
                return Ok(());
            }
            self.write_once(sent, 1000).await?;
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn write_once(&self, sent: &mut u64, size: usize) -> std::io::Result<()> {
        let mut slices = self.sends.slices(*sent, size);
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = self.peer.write(rest).await?;
            *sent += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    async fn receive(&self, gone: &CancellationToken, arrived: watch::Sender<u64>) -> Result<(u64, Reading), String> {
        let mut buffer = vec![0; self.script.read_size];
        let mut stalls = self.script.stalls.iter().peekable();
        let mut received = 0;
        loop {
            if let Some((_, pause)) = stalls.next_if(|(place, _)| *place <= received) {
                tokio::select! {
                    () = gone.cancelled() => {}
                    () = sleep(*pause) => {}
                }
            }
            let read = tokio::select! {
                biased;
                () = gone.cancelled() => return Ok((received, Reading::Abandoned)),
                read = self.peer.read(&mut buffer) => read,
            };
            match read {
                Ok(0) => return Ok((received, Reading::EndOfFile)),
                Ok(read) => {
                    let checked = self.receives.check(received, &buffer[..read]);
                    checked.map_err(|fault| format!("at the {}: {fault}", self.name))?;
                    received += read as u64;
                    arrived.send_replace(received);
                }
                Err(error) => return Ok((received, Reading::Broken(error.kind()))),
            }
        }
    }
}

type Side<'a> = (&'a Script, &'a Outcome);

/// Looks at one direction; `resets_told` says whether the sender's resets arrive as such.
fn judge((sender, sent): Side, (receiver, received): Side, resets_told: bool) -> Result<(), String> {
    let reset = |kind| [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&kind);
    let sending_broke = received.sending.is_some_and(reset);
    let told = sending_broke || matches!(received.receiving, Reading::Broken(kind) if reset(kind));
    if received.received > sent.sent {
        return Err("more arrived than was sent".to_owned());
    }
    let whole = received.received == sent.sent;
    match (sender.ending, receiver.ending) {
        (Ending::Finish, Ending::Finish) => {
            if sent.sending.is_some() || received.receiving != Reading::EndOfFile {
                return Err("a connection that both ends finished broke".to_owned());
            }
            if !whole {
                return Err("bytes before an end of file were lost".to_owned());
            }
        }
        (Ending::Reset, Ending::Finish) if resets_told && !told => {
            return Err("a reset did not arrive as a reset".to_owned());
        }
        // What it still reads says nothing: whom writing told of a reset, Linux tells of an end of file.
        (Ending::FinishThenReset, Ending::Finish) if !sending_broke => {
            return Err("who sends was not told that the other end was reset".to_owned());
        }
        _ => {}
    }
    Ok(())
}

/// Sends so many bytes of a pattern from its beginning.
pub async fn send(peer: &Peer, pattern: Pattern, count: u64) -> Result<(), String> {
    let mut sent = 0;
    while sent < count {
        let size = usize::try_from((count - sent).min(256 << 10)).expect("small");
        let written = peer.write(&pattern.slices(sent, size)).await;
        sent += written.map_err(|error| format!("after {sent} of {count} bytes sent: {error}"))? as u64;
    }
    Ok(())
}

/// Receives so many bytes of a pattern from its beginning, and compares them.
pub async fn receive(peer: &Peer, pattern: Pattern, count: u64) -> Result<(), String> {
    let mut buffer = vec![0; usize::try_from(count.min(256 << 10)).expect("small")];
    let mut received = 0;
    while received < count {
        let room = usize::try_from((count - received).min(buffer.len() as u64)).expect("small");
        match peer.read(&mut buffer[..room]).await {
            Ok(0) => return Err(format!("an end of file after {received} of {count} bytes")),
            Ok(read) => {
                pattern.check(received, &buffer[..read])?;
                received += read as u64;
            }
            Err(error) => return Err(format!("after {received} of {count} bytes received: {error}")),
        }
    }
    Ok(())
}
