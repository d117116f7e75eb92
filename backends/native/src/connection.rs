//! One connection's life: who is it, may it come in, reach the target, carry
//! the bytes, say how it went.
//!
//! The target is connected to last, so that who does not prove the key never
//! reaches the application. Whatever fails, dropping the sockets resets them.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::address::{Source, stays_here};
use crate::error::Error;
use crate::flow::Common;
use crate::negotiate;
use crate::proxy_protocol::{self, Ends};
use crate::pump::Pump;
use crate::refusals::Refusals;
use crate::service::Route;
use crate::socket::Socket;
use crate::wire::Wire;

/// Serves one accepted connection until it ends, or until `cut`.
pub async fn serve(route: &Route, socket: Socket, common: &Common, refusals: &Refusals, cut: CancellationToken) {
    let began = Instant::now();
    let name = route.listener.name.as_str();
    let target = &route.listener.target;
    let nearest = socket.ends();
    let admitted = tokio::select! {
        admitted = timeout(route.handshake_timeout, admit(route, socket)) => admitted,
        () = cut.cancelled() => return,
    };
    let (ends, source) = match admitted {
        Ok(Ok(admitted)) => admitted,
        Ok(Err(refusal)) => {
            refusals.refused(name, source_of(refusal.ends.or(nearest)), &refusal.reason);
            return;
        }
        Err(_) => {
            refusals.refused(name, source_of(nearest), "no handshake in time");
            return;
        }
    };
    let connected = tokio::select! {
        connected = negotiate::connect(route, ends) => connected,
        () = cut.cancelled() => return,
    };
    let who = source_of(ends);
    let wire = match connected {
        Ok(wire) => wire,
        Err(error) => {
            warn!(listener = name, source = %who, %target, reason = error.chain(), "target not reached");
            return;
        }
    };
    let (source_wire, target_wire) = (source.describe(), wire.describe());
    info!(listener = name, source = %who, %target, source_wire, target_wire, "connection open");
    let mut pump = Pump::new(source, wire, common);
    let reason = tokio::select! {
        ended = pump.run(common) => match ended {
            Ok(()) => "both sides finished".to_owned(),
            Err(broken) => format!("{} broke: {}", broken.side, broken.error),
        },
        () = cut.cancelled() => "s2ds ends".to_owned(),
    };
    let seconds = Seconds(began.elapsed());
    let (sent_to_target, sent_to_source) = (pump.sent_to_target(), pump.sent_to_source());
    info!(listener = name, source = %who, %target, sent_to_target, sent_to_source, %seconds, reason, "connection closed");
}

/// Why a connection was not let in.
struct Refusal {
    ends: Ends,
    reason: String,
}

async fn admit(route: &Route, socket: Socket) -> Result<(Ends, Wire), Refusal> {
    let listener = &route.listener;
    let mut ends = socket.ends();
    let refuse = |ends, reason: String| Refusal { ends, reason };
    if listener.accept_proxy_protocol {
        // Anyone else could claim to be whoever `sources` lets in.
        if !ends.is_none_or(|(source, destination)| stays_here(source, destination)) {
            return Err(refuse(ends, "a PROXY header is taken from this host only".to_owned()));
        }
        let header = proxy_protocol::read(&socket).await;
        ends = header.map_err(|error| refuse(ends, Error::ReadProxyHeader(error).chain()))?.or(ends);
        // Without a header, the listener has looked.
        if !listener.takes(ends.map(|(source, _)| source.ip())) {
            return Err(refuse(ends, "not among the sources".to_owned()));
        }
    }
    let wire = negotiate::accept(route, socket).await;
    Ok((ends, wire.map_err(|error| refuse(ends, error.chain()))?))
}

fn source_of(ends: Ends) -> Source {
    Source(ends.map(|(source, _)| source))
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0.as_secs_f64())
    }
}
