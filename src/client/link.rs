//! The connection below the calls: a call does not outlive it.
//!
//! hyper hands a call over to the task of its connection through a queue. One that
//! gets there in the moment in which the connection breaks stays in it, and nobody
//! answers: whoever makes the call would wait until its deadline.

use std::error::Error;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::io::InspectReader;
use tonic::{Status, TimeoutExpired};
use tower::Service;

use super::DialError;
use crate::causes::causes;

/// A call without a connection is given up after so long; until then hyper may
/// still say better what happened, or connect again.
const GRACE: Duration = Duration::from_secs(2);

/// Counts the connections of a channel, those that are being made among them.
#[derive(Debug, Clone, Default)]
pub(super) struct Link(watch::Sender<usize>);

/// A connection, or an attempt to make one, that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Open(Link);

impl Link {
    /// Counts a connection.
    pub(super) fn open(&self) -> Open {
        self.0.send_modify(|count| *count += 1);
        Open(self.clone())
    }

    /// Ready when there has been no connection for a while.
    async fn lost(self) {
        let mut count = self.0.subscribe();
        loop {
            // The sender lives in self.
            drop(count.wait_for(|count| *count == 0).await);
            if timeout(GRACE, count.wait_for(|count| *count > 0)).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// A connection that is counted.
pub(super) fn counted<T: AsyncRead + AsyncWrite + Send + Unpin>(
    io: T,
    open: Open,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + use<T> {
    // What it is shown does not matter: it owns the place in the count, and goes with the stream.
    InspectReader::new(io, move |_: &[u8]| {
        let _ = &open;
    })
}

/// Calls over a link. Their errors are statuses that say what became of it.
#[derive(Debug, Clone)]
pub(super) struct Linked<S> {
    /// Makes the calls.
    pub(super) calls: S,
    /// What they go over.
    pub(super) link: Link,
    /// What whoever loses the connection may have done wrong.
    pub(super) remedy: &'static str,
}

impl<S, R> Service<R> for Linked<S>
where
    S: Service<R, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send + 'static, Response: 'static>,
{
    type Response = S::Response;
    type Error = Status;
    type Future = BoxFuture<'static, Result<S::Response, Status>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let remedy = self.remedy;
        self.calls.poll_ready(cx).map_err(|e| unavailable(e.into().as_ref(), remedy))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (answer, lost, remedy) = (self.calls.call(request), self.link.clone().lost(), self.remedy);
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|e| unavailable(e.into().as_ref(), remedy)),
                () = lost => Err(Status::unavailable(format!("{ENDED}{remedy}"))),
            }
        })
    }
}

const ENDED: &str = "the connection ended before the answer came";

fn unavailable(error: &(dyn Error + 'static), remedy: &str) -> Status {
    if find::<TimeoutExpired>(error).is_some() {
        return Status::deadline_exceeded("no answer came in time");
    }
    if let Some(dial) = find::<DialError>(error) {
        return Status::unavailable(causes(dial));
    }
    // What tonic wraps around its causes says nothing.
    Status::unavailable(format!("{ENDED}{remedy}: {}", causes(error.source().unwrap_or(error))))
}

/// An error of this kind among an error and its causes.
pub(super) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    error.downcast_ref().or_else(|| find(error.source()?))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};
    use tonic::Code;
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn never_answered(link: &Link) -> JoinHandle<Result<(), Status>> {
        let calls = service_fn(|()| pending::<Result<(), Infallible>>());
        tokio::spawn(Linked { calls, link: link.clone(), remedy: "" }.oneshot(()))
    }

    #[test]
    fn a_connection_counts_as_long_as_it_is_there() {
        let link = Link::default();
        let stream = counted(tokio::io::empty(), link.open());
        assert_eq!(*link.0.borrow(), 1);
        drop(stream);
        assert_eq!(*link.0.borrow(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_soon_after_its_connection() {
        let link = Link::default();
        let open = link.open();
        let call = never_answered(&link);
        sleep(Duration::from_secs(3600)).await;
        assert!(!call.is_finished(), "a connection that stands may be slow");
        drop(open);
        let began = Instant::now();
        let status = call.await.expect("no panic").expect_err("nobody answers");
        assert_eq!((status.code(), status.message()), (Code::Unavailable, ENDED));
        assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_with_the_next_connection() {
        let link = Link::default();
        drop(link.open());
        let call = never_answered(&link);
        sleep(GRACE / 2).await;
        let again = link.open();
        sleep(GRACE * 2).await;
        assert!(!call.is_finished());
        drop(again);
        call.await.expect("no panic").expect_err("nobody answers");
    }
}
