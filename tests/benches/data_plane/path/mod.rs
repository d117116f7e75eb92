//! A long way between the two gateways: two namespaces, joined by packets that take their time.
//!
//! Each namespace has a TUN device; the [`shaper`] carries every packet from one to the
//! other, late, at the rate of a link, and now and then not at all. It is a program of
//! this bench, because not every kernel has netem: what it says is what it does, packet
//! for packet, but its own work takes processor time from what is measured.

mod holder;
pub mod link;
pub mod shaper;

pub use holder::run as hold;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use self::link::Link;
use crate::apps::App;
use crate::arrangements::ground::Place;
use crate::failure::Result;

/// The address of each end.
pub const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)];

/// Two places with a way between them, for as long as this lives.
pub struct Path {
    /// Near the producer, and near the consumer.
    pub places: [Place; 2],
    // In the order in which they end.
    _shaper: App,
    _holders: [App; 2],
}

impl Path {
    /// Makes it.
    ///
    /// # Errors
    /// When namespaces or devices cannot be made.
    pub fn make(link: &Link) -> Result<Self> {
        let hold = || {
            let mut holder = App::start(Place::HERE, &["holder"])?;
            holder.answer(Duration::ZERO)?;
            Ok(holder)
        };
        let holders = [hold()?, hold()?];
        let place = |index: usize| Place { ip: IpAddr::V4(ADDRESSES[index]), holder: Some(holders[index].pid()) };
        let places = [place(0), place(1)];
        let pids = holders.each_ref().map(|holder| holder.pid().to_string());
        let mut shaper = App::start(Place::HERE, &["shaper", &link.to_string(), &pids[0], &pids[1]])?;
        shaper.answer(Duration::ZERO)?;
        Ok(Self { places, _shaper: shaper, _holders: holders })
    }
}
