//! Agrees with one side on what the wire speaks, down to the floor.
//!
//! With the floor `none` a `psk` side takes plain bytes as well, and has to find
//! out which it is, for neither kind of peer announces itself:
//!
//! - A source that begins with a TLS handshake gets TLS. One that begins with
//!   anything else, or says nothing for 300 ms because its server speaks first,
//!   is plain.
//! - A target is sent a `ClientHello`. If it answers with anything but TLS,
//!   closes, or says nothing for 3 s, it is connected to once more and is plain;
//!   so a plain application sees one stray `ClientHello`. That is remembered
//!   until the configuration is read again. A target that answers with a TLS
//!   alert speaks TLS, and refused us: there is no way around that.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::{ProxyVersion, WireKind};
use crate::error::Error;
use crate::protection::Protection;
use crate::proxy_protocol::{self, Ends};
use crate::service::Route;
use crate::socket::Socket;
use crate::tls::{Contexts, Side, TlsStream};
use crate::wire::Wire;

const SILENT_SOURCE: Duration = Duration::from_millis(300);
const SILENT_TARGET: Duration = Duration::from_secs(3);

const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;
const TLS_MAJOR_VERSION: u8 = 0x03;

/// Agrees with a source that connected to us. The caller sets the deadline.
///
/// # Errors
/// When it did not prove that it holds the key, and has to.
pub async fn accept(route: &Route, socket: Socket) -> Result<Wire, Error> {
    let Some(contexts) = contexts(route, route.listener.accept_wire) else {
        return Ok(Wire::Plain(Arc::new(socket)));
    };
    if contexts.protection() == Protection::None {
        let Ok(first) = timeout(SILENT_SOURCE, speaks_tls(&socket, &[HANDSHAKE])).await else {
            // One byte may be there that the runtime takes for seen.
            return Ok(Wire::Plain(Arc::new(socket.renew().map_err(Error::AcceptTls)?)));
        };
        if !first.map_err(Error::AcceptTls)? {
            return Ok(Wire::Plain(Arc::new(socket)));
        }
    }
    let socket = Arc::new(socket);
    let handshake = async {
        let mut stream = TlsStream::new(contexts, Side::Server, socket.clone())?;
        stream.shake_hands(contexts).await.map(|()| stream)
    };
    match handshake.await {
        Ok(stream) => Ok(Wire::Tls(Box::new(stream))),
        Err(error) => {
            // Closed, not reset: the peer is to read the alert that says why.
            socket.end_well();
            Err(Error::AcceptTls(error))
        }
    }
}

/// Connects to the target, sends the PROXY header, and agrees with it.
///
/// # Errors
/// When nobody accepts there, or it did not prove that it holds the key, and
/// has to.
pub async fn connect(route: &Route, ends: Ends) -> Result<Wire, Error> {
    let Some(contexts) = contexts(route, route.listener.target_wire) else {
        return Ok(Wire::Plain(reach(route, ends).await?));
    };
    if contexts.protection() == Protection::None {
        if !route.target_is_plain() {
            if let Some(wire) = deadline(route, try_tls(contexts, reach(route, ends).await?)).await? {
                return Ok(wire);
            }
            route.remember_plain_target();
            tracing::info!(listener = route.listener.name, target = %route.listener.target, "the target speaks no TLS");
        }
        return Ok(Wire::Plain(reach(route, ends).await?));
    }
    let socket = reach(route, ends).await?;
    deadline(route, async {
        let mut stream = TlsStream::new(contexts, Side::Client, socket)?;
        stream.shake_hands(contexts).await?;
        Ok(Wire::Tls(Box::new(stream)))
    })
    .await
}

fn contexts(route: &Route, kind: WireKind) -> Option<&Contexts> {
    match kind {
        WireKind::Plain => None,
        WireKind::Psk => Some(route.contexts.as_ref().expect("a configuration with a psk side has keys")),
    }
}

async fn deadline<T>(route: &Route, handshake: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no handshake in time");
    timeout(route.handshake_timeout, handshake).await.unwrap_or_else(|_| Err(late())).map_err(Error::ConnectTls)
}

async fn reach(route: &Route, ends: Ends) -> Result<Arc<Socket>, Error> {
    let listener = &route.listener;
    let connect = async {
        let socket = Socket::connect(&listener.target, &route.tcp).await?;
        if listener.target_proxy_protocol != ProxyVersion::None {
            socket.write_all(&proxy_protocol::header(listener.target_proxy_protocol, ends)?).await?;
        }
        Ok(Arc::new(socket))
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not accept in time");
    timeout(route.connect_timeout, connect).await.unwrap_or_else(|_| Err(late())).map_err(Error::Connect)
}

/// `None` is a target that speaks no TLS.
async fn try_tls(contexts: &Contexts, socket: Arc<Socket>) -> io::Result<Option<Wire>> {
    let Ok(mut stream) = TlsStream::say_hello(contexts, socket.clone()).await else {
        return Ok(None);
    };
    match timeout(SILENT_TARGET, speaks_tls(&socket, &[HANDSHAKE, ALERT])).await {
        Ok(Ok(true)) => {
            stream.shake_hands(contexts).await?;
            Ok(Some(Wire::Tls(Box::new(stream))))
        }
        Ok(Ok(false) | Err(_)) | Err(_) => Ok(None),
    }
}

/// Looks at the first two bytes, and leaves them for who reads next.
async fn speaks_tls(socket: &Socket, records: &[u8]) -> io::Result<bool> {
    let mut first = [0; 2];
    let begins = |bytes: &[u8]| bytes.first().is_none_or(|record| records.contains(record));
    let seen = socket.peek(&mut first, |bytes| !begins(bytes)).await?;
    Ok(seen == first.len() && begins(&first) && first[1] == TLS_MAJOR_VERSION)
}
