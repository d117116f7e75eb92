//! The edge: from messages of strangers to commands that cannot be wrong.

use std::fmt::Display;
use std::num::NonZeroU16;
use std::time::Duration;

use clap::ValueEnum;
use scistream_proto as wire;

use crate::engine::{Announce, Refusal, Requester, Reserve, Retarget};
use crate::session::{
    BUFFERS, Bandwidth, CongestionError, Endpoint, Protection, ReleaseReason, Role, Sources, TcpWishes, Uid,
    parse_network,
};
use crate::shown::is_harmless;

/// No application has more endpoints than this.
const MOST_ENDPOINTS: usize = 256;
/// Nor does any come from more networks.
const MOST_SOURCES: usize = 64;

/// The UID of any message.
///
/// # Errors
/// [`Refusal::BadUid`]
pub fn uid(text: &str) -> Result<Uid, Refusal> {
    Uid::parse(text).map_err(|e| Refusal::BadUid { why: e.to_string() })
}

/// REQ, for at most `most` listeners.
///
/// # Errors
/// [`Refusal::BadField`]
pub fn reserve(requester: Requester, uid: Uid, message: &wire::Request, most: u16) -> Result<Reserve, Refusal> {
    let role = role(&message.role)?;
    let connections = u16::try_from(message.num_conn)
        .ok()
        .and_then(NonZeroU16::new)
        .filter(|number| number.get() <= most)
        .ok_or_else(|| bad("num_conn", format!("it must be from 1 to {most}, not {}", message.num_conn)))?;
    let rate = u32::try_from(message.rate)
        .map(Bandwidth::kilobytes)
        .map_err(|_| bad("rate", format!("it must not be negative, and is {}", message.rate)))?;
    let (lifetime, idle) = (seconds(message.lifetime_seconds), seconds(message.idle_seconds));
    let sources = sources(&message.sources)?;
    let protection = match message.protection.as_str() {
        "" => None,
        word => Some(
            Protection::from_str(word, false)
                .map_err(|_| bad("protection", "it must be confidentiality, integrity or none".into()))?,
        ),
    };
    let backend = backend(&message.backend)?;
    let tcp = TcpWishes {
        send_buffer: buffer("send_buffer", message.send_buffer)?,
        receive_buffer: buffer("receive_buffer", message.receive_buffer)?,
        congestion: match message.congestion.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|e: CongestionError| bad("congestion", e.to_string()))?),
        },
    };
    Ok(Reserve { requester, uid, role, connections, lifetime, idle, sources, protection, backend, rate, tcp })
}

fn buffer(field: &'static str, bytes: u32) -> Result<Option<u32>, Refusal> {
    match bytes {
        0 => Ok(None),
        bytes if BUFFERS.contains(&bytes) => Ok(Some(bytes)),
        bytes => Err(bad(field, format!("it must be from {} to {}, not {bytes}", BUFFERS.start(), BUFFERS.end()))),
    }
}

/// The longest name of a backend that is worth looking for.
const LONGEST_NAME: usize = 64;

fn backend(name: &str) -> Result<Option<String>, Refusal> {
    let plain = name.len() <= LONGEST_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match plain {
        true => Ok((!name.is_empty()).then(|| name.to_owned())),
        false => Err(bad("backend", "it must be the name of a backend".into())),
    }
}

/// A time in seconds; 0 is what a client sends that says nothing.
#[must_use]
pub fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The longest reason that is worth keeping.
const LONGEST_REASON: usize = 200;

/// Why a session is released: words for people, made harmless for logs.
#[must_use]
pub fn reason(text: &str) -> ReleaseReason {
    let said: String = text.chars().filter(|c| is_harmless(*c)).take(LONGEST_REASON).collect();
    match said.trim() {
        "" => ReleaseReason::Asked,
        said => ReleaseReason::Because { said: said.to_owned() },
    }
}

/// HELLO.
///
/// # Errors
/// [`Refusal::BadField`]
pub fn announce(requester: Requester, uid: Uid, message: &wire::Hello) -> Result<Announce, Refusal> {
    let role = role(&message.role)?;
    Ok(Announce { requester, uid, role, endpoints: endpoints("prod_listeners", &message.prod_listeners)? })
}

/// UPDATE.
///
/// # Errors
/// [`Refusal::BadField`]
pub fn retarget(requester: Requester, uid: Uid, message: &wire::UpdateTargets) -> Result<Retarget, Refusal> {
    let role = role(&message.role)?;
    Ok(Retarget { requester, uid, role, targets: endpoints("remote_listeners", &message.remote_listeners)? })
}

/// The role of any message.
///
/// # Errors
/// [`Refusal::BadField`]
pub fn role(text: &str) -> Result<Role, Refusal> {
    Role::parse(text).map_err(|e| bad("role", e.to_string()))
}

fn endpoints(field: &'static str, texts: &[String]) -> Result<Vec<Endpoint>, Refusal> {
    each(field, texts, MOST_ENDPOINTS, str::parse::<Endpoint>)
}

fn sources(texts: &[String]) -> Result<Sources, Refusal> {
    each("sources", texts, MOST_SOURCES, parse_network)
}

fn each<T, E: Display, C: FromIterator<T>>(
    field: &'static str,
    texts: &[String],
    most: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<C, Refusal> {
    if texts.len() > most {
        return Err(bad(field, format!("there are {}, and at most {most} may be", texts.len())));
    }
    let one =
        |(index, text): (usize, &String)| parse(text).map_err(|e| bad(field, format!("number {}: {e}", index + 1)));
    texts.iter().enumerate().map(one).collect()
}

fn bad(field: &'static str, why: String) -> Refusal {
    Refusal::BadField { field, why }
}
