//! Connects to a control server: TCP, TLS, HTTP/2.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use openssl::ssl::SslConnector;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_openssl::SslStream;
use tonic::transport::Uri;
use tower::service_fn;

use super::ClientError;
use super::answers::Checked;
use super::link::{Link, Linked, counted};
use crate::session::{Endpoint, Host};
use crate::store::ControlSocket;
use crate::tls;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How the control channel is protected.
#[derive(Debug, Clone)]
pub enum Security {
    /// TLS; the file, if any, holds what is trusted, else what the system trusts.
    Tls(Option<PathBuf>),
    /// The same, and the client proves who it is with a certificate of its own.
    Mutual {
        /// What is trusted.
        trusted: Option<PathBuf>,
        /// The client's certificate with its chain, PEM.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
    /// None: for a control server on the same host.
    Plain,
}

/// A control server that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("connect to {0}")]
    Connect(Endpoint, #[source] io::Error),
    /// No connection to the operator's socket.
    #[error("connect to {}", path.display())]
    Socket {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No TLS, or not with whom we meant to.
    #[error(
        "agree on TLS with {0} (is its certificate the one given with --server-cert, and made for this name or address?)"
    )]
    Tls(Endpoint, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer.
    #[error("connect to {address}: it does not answer within {} s", CONNECT_DEADLINE.as_secs())]
    Silent {
        /// Whom.
        address: Endpoint,
    },
}

/// A way to a control server.
pub(super) type Channel = Checked<Linked<tonic::transport::Channel>>;

/// A channel to a control server. Reconnects by itself.
pub(super) async fn dial(address: &Endpoint, security: &Security) -> Result<Channel, ClientError> {
    let tls = match security {
        Security::Tls(trusted) => Some(tls::connector(trusted.as_deref(), None)?),
        Security::Mutual { trusted, certificate, key } => {
            Some(tls::connector(trusted.as_deref(), Some((certificate, key)))?)
        }
        Security::Plain => None,
    };
    // The scheme tells HTTP/2 nothing here: the connector does what there is to do about TLS.
    let uri = tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(|_| ClientError::Address)?;
    let remedy = match security {
        Security::Plain => " (if this gateway speaks TLS, leave out --ssl=False)",
        Security::Tls(_) | Security::Mutual { .. } => "",
    };
    let address = address.clone();
    over(uri, remedy, move || {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let silent = DialError::Silent { address: address.clone() };
            timeout(CONNECT_DEADLINE, connect(address, tls)).await.map_err(|_| silent)?
        }
    })
    .await
}

/// A channel to the control server that made a unix socket. Reconnects by itself.
pub(super) async fn dial_socket(path: &Path) -> Result<Channel, ClientError> {
    let path = path.to_owned();
    // Requests must name a host; nobody reads it.
    let uri = tonic::transport::Endpoint::from_static("http://localhost");
    over(uri, "", move || {
        let path = path.clone();
        async move { greet(&path).await.map_err(|source| DialError::Socket { path, source }) }
    })
    .await
}

/// A channel over the connections that `connect` makes.
async fn over<T, C>(
    uri: tonic::transport::Endpoint,
    remedy: &'static str,
    connect: impl Fn() -> C + Send + 'static,
) -> Result<Channel, ClientError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    C: Future<Output = Result<T, DialError>> + Send + 'static,
{
    let link = Link::default();
    let place = link.clone();
    let connector = service_fn(move |_: Uri| {
        let (open, connecting) = (place.open(), connect());
        async move { connecting.await.map(|io| TokioIo::new(counted(io, open))) }
    });
    let calls = uri.connect_with_connector(connector).await.map_err(ClientError::Dial)?;
    Ok(Checked(Linked { calls, link, remedy }))
}

/// Connects, and says what an operator says first.
async fn greet(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(&ControlSocket::word(path)?).await?;
    Ok(stream)
}

async fn connect(address: Endpoint, tls: Option<SslConnector>) -> Result<Box<dyn Io>, DialError> {
    let host = match &address.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    let refused = |e| DialError::Connect(address.clone(), e);
    let stream = TcpStream::connect((host.as_str(), address.port.get())).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let ssl = tls.configure().and_then(|configured| configured.into_ssl(&host));
    let mut stream =
        ssl.and_then(|ssl| SslStream::new(ssl, stream)).map_err(|e| DialError::Tls(address.clone(), e.into()))?;
    Pin::new(&mut stream).connect().await.map_err(|e| DialError::Tls(address.clone(), e.into()))?;
    Ok(Box::new(stream))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
