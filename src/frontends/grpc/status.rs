//! From a refusal to a gRPC status: the one place where codes meet.

use std::time::Duration;

use tonic::{Code as Grpc, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::auth::GuardError;
use crate::causes::causes;
use crate::engine::{Code, Refusal};
use crate::policy::TargetError;
use crate::session::Rejection;

/// The domain of our error details (google.rpc.ErrorInfo).
const DOMAIN: &str = "scistream";
const BUSY_RETRY: Duration = Duration::from_secs(1);
const SILENT_RETRY: Duration = Duration::from_secs(10);
const QUOTA_RETRY: Duration = Duration::from_secs(30);

/// The status that a refusal travels with. Its message alone tells the whole
/// story, because deployed clients show nothing else.
#[must_use]
pub fn status(refusal: &Refusal) -> Status {
    let (code, remedy) = (refusal.code(), refusal.remedy());
    match code {
        Code::ServerErr => tracing::error!("{}", causes(refusal)),
        Code::NoResource => tracing::warn!("{}", causes(refusal)),
        _ => {}
    }
    let mut details = ErrorDetails::with_error_info(code.as_str(), DOMAIN, [("remedy".to_owned(), remedy.to_owned())]);
    match refusal {
        Refusal::BadField { field, why } => {
            details.add_bad_request_violation(*field, why);
        }
        Refusal::BadUid { why } => {
            details.add_bad_request_violation("uid", why);
        }
        Refusal::Rejected { why: Rejection::Busy, .. } => {
            details.set_retry_info(Some(BUSY_RETRY));
        }
        Refusal::Quota { .. } => {
            details.set_retry_info(Some(QUOTA_RETRY));
        }
        _ => {}
    }
    Status::with_error_details(grpc_code(refusal), format!("{}: {refusal}; {remedy}", code.as_str()), details)
}

/// The status of a caller who was let in, and would be no longer.
pub fn no_longer_let_in() -> Status {
    let (code, remedy) = (Code::AuthError.as_str(), "log in again, then go on after the last event that you saw");
    let details = ErrorDetails::with_error_info(code, DOMAIN, [("remedy".to_owned(), remedy.to_owned())]);
    let message = format!("{code}: your authentication token is no longer valid; {remedy}");
    Status::with_error_details(Grpc::Unauthenticated, message, details)
}

/// The status of a caller who is not let in.
#[must_use]
pub fn not_let_in(why: &GuardError) -> Status {
    let (code, grpc, remedy) = match why {
        GuardError::Missing { .. } => {
            (Code::AuthError, Grpc::Unauthenticated, "log in first: s2uc login --s2cs HOST:PORT")
        }
        GuardError::Invalid { .. } => {
            (Code::AuthError, Grpc::Unauthenticated, "log in again: s2uc login --s2cs HOST:PORT")
        }
        GuardError::Silent { .. } => (Code::Unavailable, Grpc::Unavailable, "try again later; running streams go on"),
        GuardError::TooOften { .. } => (Code::RateLimit, Grpc::ResourceExhausted, "wait a moment, then call again"),
    };
    let mut details = ErrorDetails::with_error_info(code.as_str(), DOMAIN, [("remedy".to_owned(), remedy.to_owned())]);
    match why {
        GuardError::TooOften { wait, .. } => details.set_retry_info(Some(*wait)),
        GuardError::Silent { .. } => details.set_retry_info(Some(SILENT_RETRY)),
        _ => &mut details,
    };
    Status::with_error_details(grpc, format!("{}: {why}; {remedy}", code.as_str()), details)
}

/// Draft-02 section on errors, with the gRPC code that says whose fault it is.
fn grpc_code(refusal: &Refusal) -> Grpc {
    match refusal {
        Refusal::BadField { .. } | Refusal::BadUid { .. } | Refusal::Target(TargetError::Unresolved { .. }) => {
            Grpc::InvalidArgument
        }
        Refusal::Unknown { .. } | Refusal::NoSuchSession => Grpc::NotFound,
        Refusal::EventsGone => Grpc::OutOfRange,
        Refusal::Exists(_) => Grpc::AlreadyExists,
        Refusal::Target(TargetError::Forbidden { .. }) => Grpc::PermissionDenied,
        _ => match refusal.code() {
            Code::NoResource | Code::RateLimit => Grpc::ResourceExhausted,
            Code::ConnError | Code::Unavailable => Grpc::Unavailable,
            Code::VersionErr => Grpc::FailedPrecondition,
            Code::Timeout => Grpc::DeadlineExceeded,
            Code::AuthError => Grpc::PermissionDenied,
            Code::InvalidUid | Code::BadFormat => Grpc::InvalidArgument,
            Code::ServerErr => Grpc::Internal,
        },
    }
}
