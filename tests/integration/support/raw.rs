//! Calls with anything in them, as a stranger could make them.

use std::fmt::Debug;

use scistream_proto as wire;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use wire::control_client::ControlClient;

use super::TestGateway;

/// A client that sends what it is given. The gateway must run with `--ssl=False`.
#[derive(Debug, Clone)]
pub struct Raw(ControlClient<Channel>);

impl Raw {
    pub async fn connect(gateway: &TestGateway) -> Self {
        Self(ControlClient::new(channel(gateway).await))
    }

    pub async fn req(&self, uid: &str, role: &str, connections: i32, rate: i32) -> Result<wire::Response, Status> {
        let message = wire::Request {
            uid: uid.into(),
            role: role.into(),
            num_conn: connections,
            rate,
            lifetime_seconds: 0,
            ..wire::Request::default()
        };
        Ok(self.0.clone().req(message).await?.into_inner())
    }

    pub async fn hello<T: ToString>(
        &self,
        uid: &str,
        role: &str,
        endpoints: &[T],
    ) -> Result<wire::AppResponse, Status> {
        let prod_listeners = endpoints.iter().map(ToString::to_string).collect();
        let message = wire::Hello { uid: uid.into(), prod_listeners, role: role.into() };
        Ok(self.0.clone().hello(message).await?.into_inner())
    }

    pub async fn update<T: ToString>(&self, uid: &str, role: &str, targets: &[T]) -> Result<wire::Response, Status> {
        let remote_listeners = targets.iter().map(ToString::to_string).collect();
        let message = wire::UpdateTargets { uid: uid.into(), remote_listeners, role: role.into() };
        Ok(self.0.clone().update(message).await?.into_inner())
    }

    pub async fn release(&self, uid: &str) -> Result<wire::Response, Status> {
        Ok(self.0.clone().release(wire::Release { uid: uid.into() }).await?.into_inner())
    }

    /// REQ and HELLO together; the session then waits for its UPDATE.
    pub async fn reserve<T: ToString>(&self, uid: &str, role: &str, endpoints: &[T]) -> wire::Response {
        let (reserved, announced) = tokio::join!(self.req(uid, role, 1, 0), self.hello(uid, role, endpoints));
        announced.expect("HELLO is taken");
        reserved.expect("REQ is answered")
    }
}

/// A connection to a gateway that runs with `--ssl=False`.
pub async fn channel(gateway: &TestGateway) -> Channel {
    let address = Endpoint::from_shared(format!("http://{}", gateway.address())).expect("a URI");
    address.connect().await.expect("the gateway answers")
}

/// A UID that nobody else has.
pub fn new_uid() -> String {
    scistream::session::Uid::random().expect("randomness").wire().to_owned()
}

/// A call must have been refused, with this gRPC code and the draft's word for it.
/// Answers with the message and the details.
pub fn assert_refused<T: Debug>(
    what: &str,
    outcome: Result<T, Status>,
    code: Code,
    reason: &str,
) -> (String, ErrorDetails) {
    let status = outcome.expect_err(what);
    assert_eq!(status.code(), code, "{what}: {}", status.message());
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{what}: no ErrorInfo with {}", status.message()));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "scistream"), "{what}");
    assert!(info.metadata.contains_key("remedy"), "{what}: nothing says what to do");
    assert!(status.message().starts_with(reason), "{what}: {}", status.message());
    (status.message().to_owned(), details)
}

/// The fields that a refusal names as malformed.
pub fn named_fields(details: &ErrorDetails) -> Vec<&str> {
    details.bad_request().iter().flat_map(|bad| &bad.field_violations).map(|one| one.field.as_str()).collect()
}
