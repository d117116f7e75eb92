//! What the two applications have in common: threads, and lines in and out.

use std::fmt::Display;
use std::io::stdin;
use std::thread::{self, available_parallelism};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::failure::{Doing as _, Result};

/// Half of the processors each; on a small machine one thread.
pub fn build() -> Result<Runtime> {
    let threads = available_parallelism().map_or(1, |all| all.get() / 2).max(1);
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().doing("start an application's threads")
}

/// What the bench says, until it says no more.
pub fn commands() -> UnboundedReceiver<String> {
    let (tell, commands) = unbounded_channel();
    thread::spawn(move || {
        for line in stdin().lines().map_while(std::result::Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    commands
}

/// Answers it.
pub fn reply<T: Display>(outcome: Result<T>) {
    match outcome {
        Ok(answer) => println!("ok {answer}"),
        Err(failure) => println!("{failure}"),
    }
}
