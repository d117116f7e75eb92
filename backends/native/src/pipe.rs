//! Pipes, through which the kernel moves bytes from one socket to another without
//! copying them (splice(2)).
//!
//! A pipe belongs to a direction only while bytes are in it. Each thread keeps the
//! empty ones; there are about as many as directions whose receivers are slow.

use std::cell::{Cell, RefCell};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

use crate::lending;

/// What a pipe is asked to hold; more brings no speed. One that the kernel gives
/// less is used as well, down to [`LEAST`].
const MOST: usize = 256 << 10;
/// Above its soft limit (`fs.pipe-user-pages-soft`, pipe(7)) the kernel hands out
/// pipes of two pages, which are slower than copying.
const LEAST: usize = 64 << 10;
/// A thread keeps no more; others are closed.
const KEPT: usize = 8;

/// When the kernel has none, it is not asked again for so long.
const PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    static EMPTY: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static NONE_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Closes the empty pipes of the thread.
pub fn release() {
    EMPTY.take();
}

/// A pipe, and how many bytes it can hold.
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    room: usize,
}

impl Pipe {
    /// An empty one; `None` when the kernel has none worth using.
    #[must_use]
    pub fn take() -> Option<Self> {
        if let Some(pipe) = EMPTY.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        if NONE_BEFORE.get().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let pipe = Self::new().ok().filter(|pipe| pipe.room >= LEAST);
        NONE_BEFORE.set(pipe.is_none().then(|| Instant::now() + PAUSE));
        pipe
    }

    /// Keeps it for the next who needs one. It has to be empty.
    pub fn put_back(self) {
        EMPTY.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                kept.push(self);
            }
        });
        lending::came_back();
    }

    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let room = fcntl_setpipe_size(&writer, MOST).or_else(|_| fcntl_getpipe_size(&writer))?;
        Ok(Self { reader, writer, room })
    }

    /// How many bytes fit in.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room
    }

    /// Where bytes come out.
    #[must_use]
    pub fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Where bytes go in.
    #[must_use]
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Takes all bytes out, where they cannot be moved on.
    ///
    /// # Errors
    /// When the kernel has no memory.
    pub fn empty(self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        std::fs::File::from(self.reader).read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
