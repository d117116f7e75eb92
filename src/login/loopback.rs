//! The port on this host to which a browser comes back after a login (RFC 8252 section 7.3).

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use url::Url;

use super::{Authorization, LoginError};

/// Browsers open connections ahead of need, and may leave them silent.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_CONNECTIONS: usize = 16;
const LONGEST_REQUEST: u64 = 16 << 10;

/// A port of this host alone, until a browser has come.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    redirect: Url,
}

impl Loopback {
    /// Listens on a port that is free.
    ///
    /// # Errors
    /// None is.
    pub async fn listen() -> Result<Self, LoginError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(LoginError::Listen)?;
        let port = listener.local_addr().map_err(LoginError::Listen)?.port();
        // The literal, not a name: names may lead elsewhere (RFC 8252 section 8.3).
        let redirect = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("it is an address");
        Ok(Self { listener, redirect })
    }

    /// Where the browser is to come to.
    #[must_use]
    pub fn redirect(&self) -> &Url {
        &self.redirect
    }

    /// Waits for the browser, takes one answer, and closes the port.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn code(self, login: &Authorization, within: Duration) -> Result<SecretString, LoginError> {
        timeout(within, self.answer(login)).await.map_err(|_| LoginError::Deadline(within))?
    }

    async fn answer(&self, login: &Authorization) -> Result<SecretString, LoginError> {
        let mut readers = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if readers.len() < MOST_CONNECTIONS => {
                    let (stream, _) = accepted.map_err(LoginError::Listen)?;
                    readers.push(timeout(PATIENCE, target(stream)));
                }
                Some(read) = readers.next(), if !readers.is_empty() => {
                    let Ok(Some((mut stream, target))) = read else { continue };
                    // Not what asks for an icon.
                    let Some(query) = target.strip_prefix("/?") else {
                        tell(&mut stream, "404 Not Found", "There is nothing here.").await;
                        continue;
                    };
                    let outcome = login.code_in(query);
                    match &outcome {
                        Ok(_) => tell(&mut stream, "200 OK", "You can close this page, and go back to SciStream.").await,
                        Err(_) => tell(&mut stream, "400 Bad Request", "This login failed; SciStream says why.").await,
                    }
                    return outcome;
                }
            }
        }
    }
}

/// The target of a GET request.
async fn target(mut stream: TcpStream) -> Option<(TcpStream, String)> {
    let mut head = Vec::new();
    let mut limited = (&mut stream).take(LONGEST_REQUEST);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if limited.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = std::str::from_utf8(&head).ok()?.lines().next()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    Some((stream, target))
}

async fn tell(stream: &mut TcpStream, status: &str, text: &str) {
    let page = format!("<!doctype html><title>SciStream</title><p>{text}</p>\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         content-security-policy: default-src 'none'\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // The person learns it from us too.
    if let Ok(Err(e)) = timeout(PATIENCE, told).await {
        tracing::debug!("the browser did not take its page: {e}");
    }
}
