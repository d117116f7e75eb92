//! Carries bytes between two wires, both ways, until both ways have ended.
//!
//! An end of file travels on as such once everything before it is delivered,
//! and the other direction goes on. A broken side ends all at once: what was
//! read from it is delivered as far as the other side takes it without a wait,
//! and dropping the sockets then resets the other side.
//!
//! Each direction has one bounded buffer, read until it is full or the source
//! has no more, then written until it is empty: a slow receiver slows its sender
//! down, and small records leave in one write.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use crate::wire::Wire;

const BUFFER: usize = 64 * 1024;

/// Why a connection did not end well.
#[derive(Debug)]
pub struct Broken {
    /// The side that broke.
    pub side: &'static str,
    /// How.
    pub error: io::Error,
}

/// Two wires and the bytes between them.
pub struct Pump {
    source: Wire,
    target: Wire,
    to_target: Flow,
    to_source: Flow,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Empty while nothing is on its way, so that a silent connection, of which
    /// there may be thousands, holds no memory.
    buffer: Vec<u8>,
    written: usize,
    read: usize,
    delivered: u64,
    step: Step,
}

#[derive(Default)]
enum Step {
    #[default]
    Fill,
    Empty {
        last: bool,
    },
    Finish,
    Break(Option<io::Error>),
    Done,
}

impl Pump {
    /// Joins two wires.
    #[must_use]
    pub fn new(source: Wire, target: Wire) -> Self {
        Self { source, target, to_target: Flow::default(), to_source: Flow::default() }
    }

    /// Bytes that the target was given.
    #[must_use]
    pub fn sent_to_target(&self) -> u64 {
        self.to_target.delivered
    }

    /// Bytes that the source was given.
    #[must_use]
    pub fn sent_to_source(&self) -> u64 {
        self.to_source.delivered
    }

    /// Carries everything.
    ///
    /// # Errors
    /// When a side broke.
    pub async fn run(&mut self) -> Result<(), Broken> {
        let sockets = (self.source.socket().clone(), self.target.socket().clone());
        let mut source_broken = pin!(sockets.0.broken());
        let mut target_broken = pin!(sockets.1.broken());
        poll_fn(|context| {
            let Self { source, target, to_target, to_source } = self;
            let there = to_target.poll(context, (source, "source"), (target, "target"))?;
            let back = to_source.poll(context, (target, "target"), (source, "source"))?;
            if there.is_ready() && back.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(error) = source_broken.as_mut().poll(context) {
                return Poll::Ready(Err(Broken { side: "source", error }));
            }
            target_broken.as_mut().poll(context).map(|error| Err(Broken { side: "target", error }))
        })
        .await?;
        sockets.0.end_well();
        sockets.1.end_well();
        Ok(())
    }
}

impl Flow {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        (from, from_side): (&mut Wire, &'static str),
        (to, to_side): (&mut Wire, &'static str),
    ) -> Poll<Result<(), Broken>> {
        let from_broken = |error| Broken { side: from_side, error };
        let to_broken = |error| Broken { side: to_side, error };
        loop {
            // A fast stream gives way to the other tasks of its thread.
            let turn = ready!(coop::poll_proceed(context));
            match &mut self.step {
                Step::Fill => match self.poll_fill(context, from) {
                    Poll::Ready(Ok(0)) => self.step = Step::Empty { last: true },
                    Poll::Ready(Ok(_)) if self.read == BUFFER => {
                        self.step = Step::Empty { last: false };
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => self.step = Step::Break(Some(error)),
                    Poll::Pending if self.read > 0 => self.step = Step::Empty { last: false },
                    Poll::Pending => {
                        self.buffer = Vec::new();
                        return Poll::Pending;
                    }
                },
                Step::Empty { last } => {
                    let last = *last;
                    ready!(self.poll_empty(context, to)).map_err(to_broken)?;
                    self.step = if last { Step::Finish } else { Step::Fill };
                }
                Step::Finish => {
                    ready!(to.poll_finish(context)).map_err(to_broken)?;
                    self.buffer = Vec::new();
                    self.step = Step::Done;
                }
                Step::Break(error) => {
                    let error = error.take().expect("a flow is not polled after it broke");
                    return match self.poll_empty(context, to) {
                        Poll::Ready(Err(worse)) => Poll::Ready(Err(to_broken(worse))),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Err(from_broken(error))),
                    };
                }
                Step::Done => return Poll::Ready(Ok(())),
            }
            turn.made_progress();
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, from: &mut Wire) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            ready!(from.poll_readable(context))?;
            self.buffer = vec![0; BUFFER];
        }
        let read = ready!(from.poll_read(context, &mut self.buffer[self.read..]))?;
        self.read += read;
        Poll::Ready(Ok(read))
    }

    fn poll_empty(&mut self, context: &mut Context<'_>, to: &mut Wire) -> Poll<io::Result<()>> {
        while self.written < self.read {
            let rest = &self.buffer[self.written..self.read];
            match ready!(to.poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.written += written;
                    self.delivered += written as u64;
                }
            }
        }
        (self.written, self.read) = (0, 0);
        Poll::Ready(Ok(()))
    }
}
