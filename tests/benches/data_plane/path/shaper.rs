//! Carries packets between two TUN devices as a link would.

use std::fs::File;
use std::io::{Read as _, stdin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, setns};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::ADDRESSES;
use super::link::{Link, MTU};
use crate::failure::{Doing as _, Result};

/// Both addresses are in it.
const PREFIX: u8 = 24;
/// The same packets are lost in every run.
const SEED: u64 = 0x5c15;
/// Longer than any packet.
const ROOM: usize = 65_536;

/// A packet, and when it arrives.
type Late = (Instant, Vec<u8>);

/// Runs until stdin ends.
///
/// # Errors
/// When a device cannot be made.
pub fn run(link: Link, holders: [u32; 2]) -> Result<()> {
    let near = Arc::new(device(holders[0], 0)?);
    let far = Arc::new(device(holders[1], 1)?);
    carry(link, &near, &far);
    carry(link, &far, &near);
    println!("ok");
    stdin().read_to_end(&mut Vec::new()).map(drop).doing("wait")
}

/// A device in the network namespace of a process.
fn device(holder: u32, index: usize) -> Result<SyncDevice> {
    let namespace = File::open(format!("/proc/{holder}/ns/net")).doing("find a network namespace")?;
    setns(namespace, CloneFlags::CLONE_NEWNET).doing("enter a network namespace")?;
    DeviceBuilder::new()
        .name("path")
        .ipv4(ADDRESSES[index], PREFIX, None)
        .mtu(MTU)
        .build_sync()
        .doing("make a TUN device")
}

/// Carries what comes from one device to the other, in threads that end with the process.
fn carry(link: Link, from: &Arc<SyncDevice>, to: &Arc<SyncDevice>) {
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    let (late, arriving) = channel();
    thread::spawn(move || take(link, &from, &late));
    thread::spawn(move || deliver(&to, &arriving));
}

fn take(link: Link, from: &SyncDevice, late: &Sender<Late>) {
    let mut luck = fastrand::Rng::with_seed(SEED);
    let mut room = vec![0; ROOM];
    let mut free = Instant::now();
    while let Ok(length) = from.recv(&mut room) {
        let now = Instant::now();
        let start = free.max(now);
        // The queue before the link is full, or the packet is lost on the way.
        if start - now > link.patience() {
            continue;
        }
        free = start + link.busy(length);
        if luck.u32(..1_000_000) < link.lost_per_million {
            continue;
        }
        if late.send((free + link.delay(), room[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(to: &SyncDevice, arriving: &Receiver<Late>) {
    for (when, packet) in arriving {
        // Time has to pass: that is what a delay is.
        thread::sleep(when.saturating_duration_since(Instant::now()));
        // A device whose queue is full loses the packet, as a link would.
        drop(to.send(&packet));
    }
}
