//! The message of a call has a deadline: who begins calls and never says what they are
//! about holds nothing for long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

/// How long a call's message may take. The longest is small, and sent in one piece.
const DEADLINE: Duration = Duration::from_secs(10);

/// The body of a call, as far as it comes in time; but for calls that go on asking.
pub(super) fn in_time(path: &str, body: Body) -> Body {
    if path.starts_with("/grpc.reflection.") { body } else { Body::new(InTime::new(body, DEADLINE)) }
}

struct InTime<B> {
    inner: Pin<Box<B>>,
    end: Pin<Box<Sleep>>,
}

impl<B> InTime<B> {
    fn new(inner: B, deadline: Duration) -> Self {
        Self { inner: Box::pin(inner), end: Box::pin(sleep(deadline)) }
    }
}

impl<B: HttpBody<Data = Bytes, Error = Status>> HttpBody for InTime<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.inner.as_mut().poll_frame(cx) {
            Poll::Pending => {
                let late = || Status::deadline_exceeded("TIMEOUT: the call's message did not come in time");
                self.end.as_mut().poll(cx).map(|()| Some(Err(late())))
            }
            ready => ready,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
