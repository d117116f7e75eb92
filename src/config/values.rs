//! One value each, from what is written to what it means; a fault names the setting.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use crate::engine::WeakKeys;
use crate::session::{Protection, Sources, parse_network};

/// Added to the time of day, what is much longer is no date any more.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);

pub(super) fn parsed<T: FromStr>(name: &str, text: Option<&str>, faults: &mut Vec<String>) -> Option<T> {
    let text = text?;
    let value = text.parse().ok();
    if value.is_none() {
        let form = if name == "listen" { "IP:PORT" } else { "an IP address" };
        faults.push(format!("{name} must be {form}, not {text:?}"));
    }
    value
}

/// A bound that cannot be read is none that a gateway starts with.
pub(super) fn sources(name: &str, texts: Option<&[String]>, faults: &mut Vec<String>) -> Sources {
    let mut one = |text: &String| {
        parse_network(text.trim()).map_err(|e| faults.push(format!("{name}: {text:?} cannot be used: {e}"))).ok()
    };
    let networks = texts.unwrap_or_default().iter().filter_map(&mut one).collect();
    if texts.is_some_and(<[String]>::is_empty) {
        faults.push(format!("{name} names no network; leave it out where any may be"));
    }
    networks
}

/// Port 0 lets the system choose; the ready line tells which it is.
pub(super) fn port(name: &str, number: u32, faults: &mut Vec<String>) -> u16 {
    u16::try_from(number).unwrap_or_else(|_| {
        faults.push(format!("{name} must be at most 65535, not {number}"));
        0
    })
}

pub(super) fn port_range(text: &str, faults: &mut Vec<String>) -> Option<RangeInclusive<u16>> {
    let ends = text.split_once('-').and_then(|(a, b)| {
        Some((a.trim().parse::<NonZeroU16>().ok()?.get(), b.trim().parse::<NonZeroU16>().ok()?.get()))
    });
    match ends {
        Some((first, last)) if first <= last => Some(first..=last),
        _ => {
            faults.push(format!("port_range must be two ports like 5100-5200, the lower first, not {text:?}"));
            None
        }
    }
}

pub(super) fn seconds(name: &str, seconds: f64, faults: &mut Vec<String>) -> Duration {
    Duration::try_from_secs_f64(seconds).ok().filter(|length| *length <= LONGEST_WAIT).unwrap_or_else(|| {
        let most = LONGEST_WAIT.as_secs();
        faults.push(format!("{name} must be a number of seconds, at most {most}, which is ten years, not {seconds}"));
        Duration::ZERO
    })
}

/// What is measured once a second cannot be limited closer.
pub(super) fn at_least_a_second(name: &str, number: f64, faults: &mut Vec<String>) -> Duration {
    let length = seconds(name, number, faults);
    if length < Duration::from_secs(1) {
        faults.push(format!("{name} must be at least a second, not {number}"));
    }
    length
}

pub(super) fn at_least_one<T: Default + PartialEq>(name: &str, number: T, faults: &mut Vec<String>) -> T {
    if number == T::default() {
        faults.push(format!("{name} must be at least 1"));
    }
    number
}

pub(super) fn weak_keys(text: Option<&str>, faults: &mut Vec<String>) -> WeakKeys {
    match text {
        None | Some("accept") => WeakKeys::Accept,
        Some("refuse") => WeakKeys::Refuse,
        Some(other) => {
            faults.push(format!("weak_keys must be accept or refuse, not {other:?}"));
            WeakKeys::Refuse
        }
    }
}

pub(super) fn protection(text: Option<&str>, faults: &mut Vec<String>) -> Protection {
    let Some(text) = text else {
        return Protection::default();
    };
    Protection::from_str(text, true).unwrap_or_else(|_| {
        faults.push(format!("protection must be confidentiality, integrity or none, not {text:?}"));
        Protection::default()
    })
}
