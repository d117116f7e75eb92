//! One direction of a connection.
//!
//! Bytes are read into memory that the thread lends, and written at once. Only what
//! the receiver does not take is kept, so a direction has no memory of its own but
//! while its receiver is slower than its sender, which then is not read from. Between
//! two sockets that move much as it is, plain or with TLS in the kernel, a pipe stands
//! in that memory's place, and the bytes stay in the kernel.

use std::io;
use std::task::{Context, Poll, ready};

use crate::bandwidth::{Bandwidth, Turn};
use crate::buffer::{Buffer, Region};
use crate::memory::{Held, MOST, Memory, Sharer};
use crate::pipe::Pipe;
use crate::piping::{PIPE_FROM, Piping};
use crate::socket::Socket;
use crate::wire::Wire;

/// A fast stream gives way to the others of its thread after so many bytes.
const QUANTUM: usize = 1 << 20;

/// What all connections of the process share.
#[derive(Clone)]
pub struct Common {
    /// How fast they may be together.
    pub bandwidth: Bandwidth,
    /// What their buffers may take together.
    pub memory: Memory,
}

/// Why a connection did not end well.
#[derive(Debug)]
pub struct Broken {
    /// The side that broke.
    pub side: &'static str,
    /// How.
    pub error: io::Error,
}

/// One direction of a connection.
pub struct Flow {
    turn: Turn,
    kept: Kept,
    /// What the sender's side has read ahead, while the direction waits.
    ahead: Option<Held>,
    delivered: u64,
    piping: Piping,
    end: Option<End>,
}

/// What was read and not yet taken.
enum Kept {
    Nothing,
    /// Besides what both sides hold.
    Bytes {
        bytes: Buffer,
        _held: Held,
    },
    Piped {
        pipe: Pipe,
        count: usize,
        _held: Held,
    },
}

/// How a sender ended.
enum End {
    Finished,
    Broke(io::Error),
    /// It has finished, and the receiver knows.
    Passed,
}

/// What became of a turn.
enum Turned {
    /// Bytes were read, or the end was found.
    Read(usize),
    /// There is nothing now; the task is woken when there is.
    Dry,
}

impl Flow {
    /// Nothing is on its way.
    #[must_use]
    pub fn new(common: &Common) -> Self {
        Self {
            turn: Turn::new(common.bandwidth.clone()),
            kept: Kept::Nothing,
            ahead: None,
            delivered: 0,
            piping: Piping::NotYet,
            end: None,
        }
    }

    /// Bytes that the receiver was given.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Carries what can be carried; ready when the direction has ended.
    ///
    /// # Errors
    /// When a side broke.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        sharer: &Sharer,
        (from, from_side): (&mut Wire, &'static str),
        (to, to_side): (&mut Wire, &'static str),
    ) -> Poll<Result<(), Broken>> {
        let to_broken = |error| Broken { side: to_side, error };
        let mut quantum = QUANTUM;
        loop {
            let delivered = self.poll_deliver(context, to).map_err(to_broken)?;
            match &mut self.end {
                Some(End::Broke(error)) => {
                    let error = std::mem::replace(error, io::ErrorKind::NotConnected.into());
                    return Poll::Ready(Err(Broken { side: from_side, error }));
                }
                Some(End::Passed) => return Poll::Ready(Ok(())),
                _ => ready!(delivered),
            }
            if let Some(End::Finished) = self.end {
                ready!(to.poll_finish(context)).map_err(to_broken)?;
                self.end = Some(End::Passed);
                continue;
            }
            if quantum == 0 {
                context.waker().wake_by_ref();
                self.wait(from, sharer);
                return Poll::Pending;
            }
            match self.take_turn(context, sharer, from, to).map_err(to_broken)? {
                Turned::Read(count) => quantum = quantum.saturating_sub(count),
                Turned::Dry => {
                    self.wait(from, sharer);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Counts what was read ahead.
    fn wait(&mut self, from: &mut Wire, sharer: &Sharer) {
        if from.ahead() > 0 {
            if sharer.is_tight() {
                from.shrink();
            }
            self.ahead = Some(sharer.hold(from.ahead()));
        }
    }

    /// Reads, and writes what the receiver takes. An error is the receiver's; one of
    /// the sender is its end.
    fn take_turn(
        &mut self,
        context: &mut Context<'_>,
        sharer: &Sharer,
        from: &mut Wire,
        to: &mut Wire,
    ) -> io::Result<Turned> {
        self.ahead = None;
        match from.poll_readable(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Ok(self.broke(error)),
            Poll::Pending => {
                self.turn.leave();
                return Ok(Turned::Dry);
            }
        }
        let Poll::Ready(grant) = self.turn.poll(context, sharer.share()) else {
            return Ok(Turned::Dry);
        };
        let most = grant.bytes();
        let records = from.has_records();
        let turned = if let Piping::Yes { .. } = self.piping
            && let (Some(reader), Some(writer)) = (from.raw_reader(), to.raw_writer())
            && let Some(pipe) = Pipe::take()
        {
            self.carry_piped(context, sharer, (reader, records, writer), pipe, most)?
        } else {
            self.carry_copied(context, sharer, (from, to), most)?
        };
        grant.used(if let Turned::Read(count) = turned { count } else { 0 });
        Ok(turned)
    }

    fn carry_copied(
        &mut self,
        context: &mut Context<'_>,
        sharer: &Sharer,
        (from, to): (&mut Wire, &mut Wire),
        most: usize,
    ) -> io::Result<Turned> {
        let mut region = Region::take();
        let room = &mut region[..most.min(MOST)];
        let (mut count, mut dry) = (0, false);
        while count < room.len() && !dry && self.end.is_none() {
            match from.poll_read(context, &mut room[count..]) {
                Poll::Ready(Ok(0)) => self.end = Some(End::Finished),
                Poll::Ready(Ok(read)) => count += read,
                Poll::Ready(Err(error)) => self.end = Some(End::Broke(error)),
                Poll::Pending => dry = true,
            }
        }
        if count == 0 && dry {
            return Ok(Turned::Dry);
        }
        if self.piping == Piping::NotYet
            && count >= PIPE_FROM
            && from.raw_reader().is_some()
            && to.raw_writer().is_some()
        {
            self.piping = Piping::BEGUN;
        }
        let mut written = 0;
        while written < count {
            match to.poll_write(context, &room[written..count])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(more) => written += more,
                Poll::Pending => break,
            }
        }
        if written < count || to.poll_push(context)?.is_pending() {
            let mut bytes = Buffer::part(region, written..count);
            if sharer.is_tight() {
                bytes.shrink();
                from.shrink();
                to.shrink();
            }
            let held = sharer.hold(bytes.taken() + from.ahead() + to.unpushed());
            self.kept = Kept::Bytes { bytes, _held: held };
        }
        self.delivered += written as u64;
        Ok(Turned::Read(count))
    }

    fn carry_piped(
        &mut self,
        context: &mut Context<'_>,
        sharer: &Sharer,
        (from, records, to): (&Socket, bool, &Socket),
        pipe: Pipe,
        most: usize,
    ) -> io::Result<Turned> {
        let most = most.min(pipe.room());
        let count = match from.splice_into(pipe.writer(), most) {
            Ok(0) if records => {
                // A read tells what that is: something that is not the application's, or the end.
                pipe.put_back();
                self.piping = Piping::NotYet;
                return Ok(Turned::Read(0));
            }
            Ok(0) => {
                self.end = Some(End::Finished);
                0
            }
            Ok(count) if records => Self::fill(&pipe, from, count, most),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipe.put_back();
                return match from.poll_read_ready(context) {
                    Poll::Ready(Err(error)) => Ok(self.broke(error)),
                    Poll::Ready(Ok(())) => Ok(Turned::Read(0)),
                    Poll::Pending => Ok(Turned::Dry),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.piping = Piping::Never;
                0
            }
            Err(error) => {
                pipe.put_back();
                return Ok(self.broke(error));
            }
        };
        self.piping = self.piping.after(count);
        let left = self.empty(&pipe, to, count)?;
        if left == 0 {
            pipe.put_back();
        } else {
            self.kept = Kept::Piped { pipe, count: left, _held: sharer.hold(left) };
        }
        Ok(Turned::Read(count))
    }

    /// Moves more records into a pipe that has bytes of one. Gives how many bytes it
    /// has then.
    fn fill(pipe: &Pipe, from: &Socket, mut count: usize, most: usize) -> usize {
        while count < most
            && let Ok(more @ 1..) = from.splice_more_into(pipe.writer(), most - count)
        {
            count += more;
        }
        count
    }

    /// Moves bytes out of a pipe, until it is empty or the receiver takes no more.
    /// Gives what is left.
    fn empty(&mut self, pipe: &Pipe, to: &Socket, mut count: usize) -> io::Result<usize> {
        while count > 0 {
            match to.splice_from(pipe.reader(), count) {
                Ok(moved) => {
                    count -= moved;
                    self.delivered += moved as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.piping = Piping::Never;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Delivers what was kept.
    fn poll_deliver(&mut self, context: &mut Context<'_>, to: &mut Wire) -> Poll<io::Result<()>> {
        loop {
            match std::mem::replace(&mut self.kept, Kept::Nothing) {
                Kept::Nothing => return Poll::Ready(Ok(())),
                Kept::Bytes { mut bytes, _held } => {
                    while bytes.len() > 0 {
                        match to.poll_write(context, bytes.bytes())? {
                            Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                            Poll::Ready(more) => {
                                bytes.skip(more);
                                self.delivered += more as u64;
                            }
                            Poll::Pending => {
                                self.kept = Kept::Bytes { bytes, _held };
                                return Poll::Pending;
                            }
                        }
                    }
                    if to.poll_push(context)?.is_pending() {
                        self.kept = Kept::Bytes { bytes, _held };
                        return Poll::Pending;
                    }
                }
                Kept::Piped { pipe, count, _held } => {
                    let left = self.empty(&pipe, to.socket(), count)?;
                    if left == 0 {
                        pipe.put_back();
                    } else if self.piping == Piping::Never {
                        self.kept = Kept::Bytes { bytes: pipe.empty(left)?.into(), _held };
                    } else {
                        self.kept = Kept::Piped { pipe, count: left, _held };
                        ready!(to.socket().poll_write_ready(context))?;
                    }
                }
            }
        }
    }

    fn broke(&mut self, error: io::Error) -> Turned {
        self.end = Some(End::Broke(error));
        Turned::Read(0)
    }
}
