//! Lines on standard error that never hold up a connection.
//!
//! Who started us may have stopped reading: a full pipe would stop every thread
//! that logs. So one thread writes, and lines for which there is no room are
//! dropped and counted. Lines that follow each other closely are written together,
//! so that where connections come and go by the thousands not each wakes that thread.

use std::io::{self, Write};
use std::iter;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Thread};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

const LINES_WAITING: usize = 4096;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// A line waits so long at most for others to be written with.
const TOGETHER: Duration = Duration::from_millis(10);

static WRITER: LazyLock<Writer> = LazyLock::new(|| {
    let (messages, receiver) = sync_channel(LINES_WAITING);
    let thread = thread::spawn(move || write_all(&receiver)).thread().clone();
    Writer { messages, thread }
});
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Writer {
    messages: SyncSender<Message>,
    thread: Thread,
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Sends the events of `tracing` to standard error.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(Line::default)
        .init();
}

/// Says what whoever started us waits for: `s2ds: WHAT`.
pub fn say(what: &str) {
    send(format!("s2ds: {what}\n").into_bytes());
    WRITER.thread.unpark();
}

/// Waits until everything is written, but not for a reader that has gone.
pub fn flush() {
    let (done, wait) = sync_channel(1);
    let asked = WRITER.messages.try_send(Message::Flush(done)).is_ok();
    WRITER.thread.unpark();
    if asked && wait.recv_timeout(FLUSH_TIMEOUT).is_err() {
        // Nobody reads, so there is nobody to tell.
    }
}

fn send(line: Vec<u8>) {
    if WRITER.messages.try_send(Message::Line(line)).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn write_all(messages: &Receiver<Message>) {
    while let Ok(first) = messages.recv() {
        let (mut lines, mut flushed) = (Vec::new(), Vec::new());
        for message in iter::once(first).chain(messages.try_iter().take(LINES_WAITING)) {
            match message {
                Message::Line(line) => lines.extend(line),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            lines.extend(format!("s2ds: {dropped} log lines dropped: standard error was not read\n").into_bytes());
        }
        // Standard error is the only place to report that it does not work.
        io::stderr().write_all(&lines).ok();
        for done in flushed {
            done.send(()).ok();
        }
        thread::park_timeout(TOGETHER);
    }
}

/// One event, collected until the subscriber lets go of it.
#[derive(Default)]
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        send(std::mem::take(&mut self.0));
    }
}
