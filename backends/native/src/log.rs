//! Lines on standard error that never hold up a connection.
//!
//! Who started us may have stopped reading: a full pipe would stop every thread
//! that logs. So one thread writes, and lines for which there is no room are
//! dropped and counted.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

const LINES_WAITING: usize = 4096;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static LINES: LazyLock<SyncSender<Message>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel(LINES_WAITING);
    std::thread::spawn(move || write_all(&receiver));
    sender
});
static DROPPED: AtomicU64 = AtomicU64::new(0);

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
}

/// Waits until everything is written, but not for a reader that has gone.
pub fn flush() {
    let (done, wait) = sync_channel(1);
    let asked = LINES.try_send(Message::Flush(done)).is_ok();
    if asked && wait.recv_timeout(FLUSH_TIMEOUT).is_err() {
        // Nobody reads, so there is nobody to tell.
    }
}

fn send(line: Vec<u8>) {
    if LINES.try_send(Message::Line(line)).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn write_all(messages: &Receiver<Message>) {
    let mut output = io::stderr();
    for message in messages {
        // Standard error is the only place to report that it does not work.
        match message {
            Message::Line(line) => drop(output.write_all(&line)),
            Message::Flush(done) => drop(done.send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            drop(writeln!(output, "s2ds: {dropped} log lines dropped: standard error was not read"));
        }
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
