//! A gateway, seen by a user: how far one gets, from the name to the ports of streams.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use openssl::x509::X509;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::{Finding, certificate};
use crate::causes::causes;
use crate::session::{Endpoint, Host};
use crate::tls;

/// For a connection: three attempts of TCP's.
const PATIENCE: Duration = Duration::from_secs(8);
const NAME: &str = "name";
const CONNECTION: &str = "connection";
const TLS: &str = "TLS";
const STREAMS: &str = "streams";

/// How the control channel is to be protected.
#[derive(Debug, Clone)]
pub enum Way {
    /// TLS; the file, if any, holds what is trusted, else what the system trusts.
    Tls(Option<PathBuf>),
    /// None.
    Plain,
}

/// Looks how far one gets towards the control server: the name, the connection, TLS.
/// `None` in place of the address says that one gets no further.
pub async fn look_from_user(address: &Endpoint, way: &Way) -> (Vec<Finding>, Option<SocketAddr>) {
    let (host, port) = (host_text(&address.host), address.port.get());
    let mut found = Vec::new();
    let addresses: Vec<SocketAddr> = match lookup_host((host.as_str(), port)).await {
        Ok(addresses) => addresses.collect(),
        Err(e) => {
            let remedy = format!("look at how it is spelled; getent hosts {host} asks the same");
            return (vec![Finding::bad(NAME, format!("{host} cannot be resolved: {e}"), remedy)], None);
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    found.push(Finding::good(NAME, format!("{host} is {}", shown.join(", "))));
    let mut reached = None;
    for address in addresses {
        let (finding, stream) = reach(address).await;
        found.push(finding);
        if stream.is_some() {
            reached = stream.map(|stream| (address, stream));
            break;
        }
    }
    let Some((reached, stream)) = reached else { return (found, None) };
    if let Way::Tls(trusted) = way {
        match shake_hands(&host, stream, trusted.as_deref()).await {
            Ok(peer) => {
                found.push(Finding::good(TLS, "its certificate is trusted, and for this name"));
                found.extend(peer.map(|peer| certificate::end(&peer, "tell the gateway's operator")));
            }
            Err(why) => {
                let remedy = match trusted {
                    Some(file) => format!(
                        "ask the operator for server.crt as it is today, in place of {}, and for the names in it",
                        file.display()
                    ),
                    None => {
                        "name the gateway's certificate, which its operator has, with --server-cert server.crt".into()
                    }
                };
                found.push(Finding::bad(TLS, why, remedy));
                return (found, None);
            }
        }
    }
    (found, Some(reached))
}

async fn reach(address: SocketAddr) -> (Finding, Option<TcpStream>) {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => (Finding::good(CONNECTION, format!("{address} accepts")), Some(stream)),
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => {
            let remedy = "s2cs does not run there, or on another port; ask the operator";
            (Finding::bad(CONNECTION, format!("{address} refuses"), remedy), None)
        }
        Ok(Err(e)) => {
            let remedy = "a firewall on the way refuses it, or there is no way there (ip route get)";
            (Finding::bad(CONNECTION, format!("{address}: {e}"), remedy), None)
        }
        Err(_) => {
            let said = format!("{address} does not answer within {} s", PATIENCE.as_secs());
            let remedy = format!("a firewall on the way drops port {}/tcp: yours, or the gateway's", address.port());
            (Finding::bad(CONNECTION, said, remedy), None)
        }
    }
}

async fn shake_hands(host: &str, stream: TcpStream, trusted: Option<&Path>) -> Result<Option<X509>, String> {
    let connector = tls::connector(trusted, None).map_err(|e| format!("failed to {}", causes(&e)))?;
    let ssl = connector.configure().and_then(|settings| settings.into_ssl(host)).map_err(|e| e.to_string())?;
    let mut stream = SslStream::new(ssl, stream).map_err(|e| e.to_string())?;
    match timeout(PATIENCE, Pin::new(&mut stream).connect()).await {
        Ok(Ok(())) => Ok(stream.ssl().peer_certificate()),
        Ok(Err(e)) => Err(format!("no TLS with it: {}", causes(&e))),
        Err(_) => Err("it says nothing: no TLS is spoken there".into()),
    }
}

/// Whether connections get to the ports that sessions may have. One that is refused got there.
pub async fn look_at_streams(address: SocketAddr, [first, last]: [u16; 2]) -> Finding {
    let mut kept_off = Vec::new();
    for port in if first == last { vec![first] } else { vec![first, last] } {
        let to = SocketAddr::new(address.ip(), port);
        match timeout(PATIENCE, TcpStream::connect(to)).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => {}
            // Dropped, or refused by something on the way, as firewalld does (EHOSTUNREACH).
            Ok(Err(e)) => kept_off.push(format!("{port} ({e})")),
            Err(_) => kept_off.push(format!("{port} (no answer)")),
        }
    }
    if kept_off.is_empty() {
        let said = format!("connections to ports {first} and {last} of {} get there", address.ip());
        return Finding::good(STREAMS, said);
    }
    let said = format!("connections do not get to port {} of {}", kept_off.join(" and "), address.ip());
    let remedy = format!(
        "a firewall on the way must let {first}-{last}/tcp through from where the streams come (the other gateway, or \
         the application); a gateway that opens its firewall for each session keeps them off until then"
    );
    Finding::note(STREAMS, said, remedy)
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    }
}
