//! What a gateway answers, checked before anything else reads it: the gateway may
//! be a stranger's, or no gateway at all.

use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::metadata::MetadataMap;
use tower::Service;

use super::ClientError;
use crate::session::Endpoint;

const DETAILS: &str = "grpc-status-details-bin";

/// Removes the details of a status that are not base64: tonic panics on them.
pub fn without_bad_details(headers: &mut HeaderMap) {
    if headers.contains_key(DETAILS) {
        let mut metadata = MetadataMap::from_headers(std::mem::take(headers));
        if metadata.get_bin(DETAILS).is_some_and(|details| details.to_bytes().is_err()) {
            metadata.remove_bin(DETAILS);
        }
        *headers = metadata.into_headers();
    }
}

/// A connection whose answers are [`without_bad_details`].
#[derive(Debug, Clone)]
pub(super) struct Checked<S>(pub(super) S);

type Check = fn(Response<Body>) -> Response<Body>;

impl<S: Service<Request<Body>, Response = Response<Body>>> Service<Request<Body>> for Checked<S> {
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MapOk<S::Future, Check>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request).map_ok(check)
    }
}

fn check(mut answer: Response<Body>) -> Response<Body> {
    without_bad_details(answer.headers_mut());
    // Where there is a message, the status follows it.
    answer.map(|body| {
        Body::new(body.map_frame(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                without_bad_details(trailers);
            }
            frame
        }))
    })
}

/// The listeners of an answer. They are shown, and become arguments of programs.
pub(super) fn listeners(gateway: &str, texts: Vec<String>) -> Result<Vec<String>, ClientError> {
    match texts.iter().find(|text| text.parse::<Endpoint>().is_err()) {
        Some(bad) => Err(ClientError::Nonsense { gateway: gateway.to_owned(), said: bad.clone() }),
        None => Ok(texts),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use scistream_proto as wire;
    use tonic::Code;
    use tower::service_fn;
    use wire::control_client::ControlClient;

    use super::*;

    fn bad_status() -> HeaderMap {
        let lines = [("grpc-status", "5"), ("grpc-message", "no"), (DETAILS, "-G")];
        lines.into_iter().map(|(name, value)| (name.parse().expect(name), value.parse().expect(value))).collect()
    }

    #[tokio::test]
    async fn details_that_are_no_base64_do_not_end_the_client() {
        // A status stands in the headers of an answer without a message, else in its trailers.
        let in_headers = service_fn(async |_: Request<Body>| {
            let mut answer = Response::new(Body::empty());
            answer.headers_mut().extend(bad_status());
            Ok::<_, Infallible>(answer)
        });
        let in_trailers = service_fn(async |_: Request<Body>| {
            let body = Body::empty().with_trailers(async { Some(Ok(bad_status())) });
            Ok::<_, Infallible>(Response::new(Body::new(body)))
        });
        let message = wire::Release::default();
        let from_headers = ControlClient::new(Checked(in_headers)).release(message.clone()).await;
        let from_trailers = ControlClient::new(Checked(in_trailers)).release(message).await;
        for outcome in [from_headers, from_trailers] {
            let status = outcome.expect_err("it is refused");
            assert_eq!((status.code(), status.message()), (Code::NotFound, "no"));
        }
    }

    #[test]
    fn details_that_are_no_base64_are_dropped_and_others_are_kept() {
        for (text, is_kept) in [("CAMSEA", true), ("CAMSEA==", true), ("-G", false), ("\u{7f}", false), ("", true)] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", "3".parse().expect("a value"));
            if let Ok(value) = text.parse() {
                headers.insert(DETAILS, value);
            }
            let was_there = headers.contains_key(DETAILS);
            without_bad_details(&mut headers);
            assert_eq!(headers.contains_key(DETAILS), is_kept && was_there, "{text}");
            assert!(tonic::Status::from_header_map(&headers).is_some());
        }
    }

    #[test]
    fn listeners_that_are_none_are_refused() {
        let good = vec!["192.0.2.1:5100".to_owned(), "[2001:db8::1]:5101".into(), "gw.example:5102".into()];
        assert_eq!(listeners("gw", good.clone()).expect("good"), good);
        for bad in ["--exec:80", "192.0.2.1:5100\nlisteners: x", "", "{listener}"] {
            let error = listeners("gw", vec![good[0].clone(), bad.into()]).expect_err("nonsense");
            assert!(matches!(&error, ClientError::Nonsense { said, .. } if said == bad), "{error}");
        }
    }
}
