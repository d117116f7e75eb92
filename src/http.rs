//! Asks authorization servers over HTTP: every answer is bounded in size and
//! time, and no redirect is followed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use crate::tls::{TlsError, web_connector};

/// The longest answer that is read; key sets and metadata are a few kB.
pub const LONGEST_ANSWER: usize = 1 << 20;
/// How long a whole exchange may take, the connection and TLS among it.
pub const DEADLINE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const OURSELVES: &str = concat!("scistream/", env!("CARGO_PKG_VERSION"));

/// A request that got no answer which could be read.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, no TLS, or not with whom we meant to.
    #[error("reach {host}")]
    Unreachable {
        /// Whom.
        host: String,
        /// What went wrong.
        #[source]
        source: ClientError,
    },
    /// Nothing, or not all, in time.
    #[error("hear from {host}: it does not answer within {} s", deadline.as_secs_f32())]
    Silent {
        /// Whom.
        host: String,
        /// How long it had.
        deadline: Duration,
    },
    /// An answer without an end.
    #[error("read the answer of {host}: it is longer than {LONGEST_ANSWER} bytes")]
    TooLong {
        /// Whose.
        host: String,
    },
    /// An answer that broke off.
    #[error("read the answer of {host}")]
    Broken {
        /// Whose.
        host: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A client for HTTP/1.1 with and without TLS. Clones share its connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    deadline: Duration,
}

impl HttpClient {
    /// Trusts what the system trusts, and the certificates in this file besides.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn new(also_trusted: Option<&Path>) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        // https is the business of the connector around it.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnector::with_connector(tcp, web_connector(also_trusted)?)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { client, deadline: DEADLINE })
    }

    /// With another deadline than [`DEADLINE`].
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn call(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // Neither path nor query: they may hold what is not to be told.
        let host = request.uri().authority().map(|authority| authority.host().to_owned()).unwrap_or_default();
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(OURSELVES));
        let silent = HttpError::Silent { host: host.clone(), deadline: self.deadline };
        timeout(self.deadline, self.exchange(request, host)).await.map_err(|_| silent)?
    }

    async fn exchange(&self, request: Request<Bytes>, host: String) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new)).await;
        let answer = answer.map_err(|source| HttpError::Unreachable { host: host.clone(), source })?;
        let (head, body) = answer.into_parts();
        match Limited::new(body, LONGEST_ANSWER).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(e) if e.is::<LengthLimitError>() => Err(HttpError::TooLong { host }),
            Err(source) => Err(HttpError::Broken { host, source }),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::pin::Pin;

    use openssl::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_openssl::SslStream;

    use super::*;

    /// Answers one request with these bytes, then waits for the other side to go.
    async fn answered(answer: Vec<u8>, deadline: Duration) -> Result<Response<Bytes>, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 4096];
            let _: usize = stream.read(&mut request).await.expect("a request");
            // It may have read enough before all is written.
            drop(stream.write_all(&answer).await);
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
        });
        let request = Request::get(format!("http://{address}/path?secret=1")).body(Bytes::new()).expect("a request");
        let client = HttpClient::new(None).expect("TLS").with_deadline(deadline);
        let outcome = client.call(request).await;
        drop(client);
        server.abort();
        outcome
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_like_any_other() {
        let text = b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 2\r\n\r\nno";
        let answer = answered(text.to_vec(), DEADLINE).await.expect("an answer");
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (302, b"no".as_slice()));
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let mut text = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        text.resize(10 * LONGEST_ANSWER, b'x');
        let refused = answered(text, DEADLINE).await.expect_err("ten megabytes");
        assert!(matches!(refused, HttpError::TooLong { .. }), "{refused}");
    }

    #[tokio::test]
    async fn a_slow_answer_is_not_waited_for() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow".to_vec();
        let refused = answered(text, Duration::from_millis(50)).await.expect_err("no end");
        assert!(matches!(refused, HttpError::Silent { .. }), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }

    #[tokio::test]
    async fn a_certificate_is_trusted_for_its_name_when_the_file_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let host = crate::session::Host::Name("localhost".into());
        let made = crate::tls::self_signed(&[host], 1).expect("a certificate");
        let certificate = file("crt", &made.certificate);
        let key = file("key", &made.key);
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("TLS");
        builder.set_certificate_chain_file(&certificate).expect("usable");
        builder.set_private_key_file(key, SslFiletype::PEM).expect("usable");
        let acceptor = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let ssl = Ssl::new(acceptor.context()).expect("TLS");
                let mut stream = SslStream::new(ssl, stream).expect("TLS");
                // A client that does not trust us ends the handshake.
                if Pin::new(&mut stream).accept().await.is_ok() {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
                }
            }
        });
        for (trusted, host, taken) in [
            (Some(&certificate), "localhost", true),
            (None, "localhost", false),
            (Some(&certificate), "127.0.0.1", false),
        ] {
            let client = HttpClient::new(trusted.map(PathBuf::as_path)).expect("TLS");
            let request = Request::get(format!("https://{host}:{port}/")).body(Bytes::new()).expect("a request");
            assert_eq!(client.call(request).await.is_ok(), taken, "{trusted:?} {host}");
        }
        server.abort();
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_host_alone() {
        let request = Request::get("http://127.0.0.1:1/path?secret=1").body(Bytes::new()).expect("a request");
        let refused = HttpClient::new(None).expect("TLS").call(request).await.expect_err("nobody");
        let told = crate::causes::causes(&refused);
        assert!(told.starts_with("reach 127.0.0.1:") && !told.contains("secret"), "{told}");
    }
}
