//! What can go wrong for a client, and how it is told.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::DialError;
use super::link::find;
use crate::causes::causes;
use crate::shown::in_one_line;
use crate::tls::TlsError;

/// A call that did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address does not make a URI.
    #[error("understand the gateway's address")]
    Address,
    /// The trusted certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The gateway cannot be reached.
    #[error("reach the gateway")]
    Dial(#[source] tonic::transport::Error),
    /// It would let everyone in, and say nothing.
    #[error("limit who may connect at {gateway}: its release knows no sources; leave them out, or ask its operator")]
    NoSources {
        /// Which.
        gateway: String,
    },
    /// The gateway said what no gateway says.
    #[error("understand the answer of {gateway}: {said:?} is no HOST:PORT")]
    Nonsense {
        /// Whose answer.
        gateway: String,
        /// What it said.
        said: String,
    },
    /// The gateway said no.
    #[error("{doing} at {gateway}: {}", status.message())]
    Refused {
        /// Which call.
        doing: &'static str,
        /// Whose answer.
        gateway: String,
        /// The answer.
        status: Box<Status>,
    },
}

impl ClientError {
    /// The draft's error code, where the gateway sent one, else gRPC's.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::Refused { status, .. } => match status.get_details_error_info() {
                Some(info) if is_code(&info.reason) => info.reason,
                _ => format!("{:?}", status.code()).to_uppercase(),
            },
            Self::Nonsense { .. } => "NONSENSE".into(),
            Self::Address => "BAD_FORMAT".into(),
            Self::NoSources { .. } => "UNIMPLEMENTED".into(),
            Self::Tls(_) => "TLS".into(),
            Self::Dial(_) => "UNREACHABLE".into(),
        }
    }

    /// The whole story in one line.
    #[must_use]
    pub fn story(&self) -> String {
        match self {
            // What tonic wraps around our own error says nothing.
            Self::Dial(e) => {
                let story = find::<DialError>(e).map_or_else(|| causes(self), |ours| causes(ours));
                in_one_line(&format!("failed to {story}")).into_owned()
            }
            Self::Refused { status, gateway, .. } if status.code() == Code::Unauthenticated => {
                in_one_line(&format!("failed to {}; \"s2uc login --s2cs {gateway}\" gets a token", causes(self)))
                    .into_owned()
            }
            other => in_one_line(&format!("failed to {}", causes(other))).into_owned(),
        }
    }

    /// What the system said when the operator's socket could not be connected to.
    #[must_use]
    pub fn at_the_socket(&self) -> Option<std::io::ErrorKind> {
        match self {
            Self::Dial(e) => match find(e)? {
                DialError::Socket { source, .. } => Some(source.kind()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The gateway does not know the UID, which may be because it has not yet read the REQ.
    #[must_use]
    pub(crate) fn is_unknown_uid(&self) -> bool {
        match self {
            // The deployed release answers UNKNOWN with this text.
            Self::Refused { status, .. } => {
                status.code() == Code::NotFound
                    || (status.code() == Code::Unknown && status.message().contains("entry not found"))
            }
            _ => false,
        }
    }
}

/// Scripts take it as a word.
fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_gateway_cannot_write_over_what_a_terminal_shows() {
        let details = ErrorDetails::with_error_info("BAD\u{1b}[2J", "x", [(String::new(), String::new())]);
        let said = "no\u{1b}[2J\ns2uc: the tunnel stands\u{202e}";
        let status = Box::new(Status::with_error_details(Code::NotFound, said, details));
        let error = ClientError::Refused { doing: "say HELLO", gateway: "gw:5000".into(), status };
        assert_eq!(error.story(), "failed to say HELLO at gw:5000: no [2J s2uc: the tunnel stands ");
        assert_eq!(error.code(), "NOTFOUND");
    }
}
