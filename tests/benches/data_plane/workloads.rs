//! What is asked of an arrangement, and what is read off while it does it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::Pid;

use crate::apps::{App, number};
use crate::arrangements::Running;
use crate::failure::{Failure, Result};
use crate::usage::{memory, processor_time};

/// Names of figures, and the figures.
pub type Figures = BTreeMap<&'static str, f64>;

/// Set-ups at once.
pub const AT_ONCE: usize = 8;

/// The two applications.
pub struct Apps {
    /// Sends.
    pub producer: App,
    /// Takes.
    pub consumer: App,
}

#[expect(clippy::cast_precision_loss, reason = "figures are for people")]
fn figure(count: u64) -> f64 {
    count as f64
}

/// Connections that are open, and no more. Asked first: memory that was used once hides what is used now.
///
/// # Errors
/// When they do not come up.
pub fn idle(apps: &mut Apps, running: &Running, connections: usize) -> Result<Figures> {
    let groups = running.groups();
    let bare = memory(&groups);
    apps.consumer.ask(format!("open {} {connections}", running.entry), Duration::ZERO)?;
    let open = memory(&groups);
    apps.consumer.ask("close", Duration::ZERO)?;
    let programs = groups.len().max(1);
    let each =
        |before: u64, now: u64| (figure(now) - figure(before)) / figure((connections * programs) as u64) / 1024.0;
    Ok(Figures::from([
        ("bare_rss_mib", figure(bare.resident) / 1_048_576.0),
        ("bare_dirty_mib", figure(bare.private_dirty) / 1_048_576.0),
        ("idle_rss_kib_each", each(bare.resident, open.resident)),
        ("idle_dirty_kib_each", each(bare.private_dirty, open.private_dirty)),
    ]))
}

/// Bytes as fast as they go, over so many connections, of which `stuck` are not read.
///
/// # Errors
/// When not every byte that was sent has come.
pub fn bulk(apps: &mut Apps, running: &Running, connections: usize, stuck: usize, window: Duration) -> Result<Figures> {
    let groups = running.groups();
    apps.consumer.ask(format!("open {} {connections}", running.entry), Duration::ZERO)?;
    let before = processor_time(&groups)?;
    apps.consumer.tell(format!("go {} {stuck}", window.as_millis()))?;
    let loaded = most_memory(&groups, window);
    let in_window: u64 = number(&apps.consumer.answer(window)?, 0)?;
    let sent: u64 = number(&apps.producer.ask(format!("sent {connections}"), Duration::ZERO)?, 0)?;
    let elapsed = number::<f64>(&apps.consumer.ask(format!("until {sent}"), Duration::ZERO)?, 0)? * 1e-9;
    let spent = processor_time(&groups)?.saturating_sub(before);
    let after = memory(&groups);
    let came: u64 = number(&apps.consumer.ask("close", Duration::ZERO)?, 0)?;
    if came != sent {
        return Err(Failure(format!("carry bytes: {sent} were sent and {came} came")));
    }
    Ok(Figures::from([
        // What is on its way at the end has been carried as well: with many connections that is much.
        ("gbit_per_s", figure(sent) * 8e-9 / elapsed),
        ("in_window_gbit_per_s", figure(in_window) * 8e-9 / window.as_secs_f64()),
        ("cpu_s_per_gb", spent.as_secs_f64() / (figure(sent) * 1e-9)),
        ("bytes", figure(sent)),
        ("loaded_rss_mib", figure(loaded) / 1_048_576.0),
        ("after_rss_mib", figure(after.resident) / 1_048_576.0),
    ]))
}

/// The most that is held, of two looks within the window.
fn most_memory(groups: &[Pid], window: Duration) -> u64 {
    let look = || {
        // It is the middle of the window that is wanted, and nothing tells of it.
        sleep(window / 3);
        memory(groups).resident
    };
    look().max(look())
}

/// One byte there and back, on all connections at once.
///
/// # Errors
/// When an echo does not come.
pub fn round_trips(apps: &mut Apps, entry: SocketAddr, connections: usize, lasting: Duration) -> Result<Figures> {
    let command = format!("rtt {entry} {connections} {}", lasting.as_millis());
    let answer = apps.consumer.ask(command, lasting)?;
    Ok(Figures::from([
        ("round_trips", number(&answer, 0)?),
        ("rtt_p50_us", number::<f64>(&answer, 1)? / 1e3),
        ("rtt_p99_us", number::<f64>(&answer, 2)? / 1e3),
    ]))
}

/// New connections, each to its first echo.
///
/// # Errors
/// When one does not come up.
pub fn set_up(apps: &mut Apps, running: &Running, lasting: Duration) -> Result<Figures> {
    let groups = running.groups();
    let before = processor_time(&groups)?;
    let command = format!("setup {} {AT_ONCE} {}", running.entry, lasting.as_millis());
    let answer = apps.consumer.ask(command, lasting)?;
    let spent = processor_time(&groups)?.saturating_sub(before);
    let count: f64 = number(&answer, 0)?;
    Ok(Figures::from([
        ("set_ups_per_s", count / (number::<f64>(&answer, 3)? * 1e-9)),
        ("set_up_cpu_ms", spent.as_secs_f64() * 1e3 / count.max(1.0)),
        ("set_up_p50_ms", number::<f64>(&answer, 1)? / 1e6),
        ("set_up_p99_ms", number::<f64>(&answer, 2)? / 1e6),
    ]))
}
