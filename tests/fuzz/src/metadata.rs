//! The headers of the control channel: of a call, as a gateway reads them, and of
//! an answer, as a client does.
//!
//! ```text
//! grpc-status: 3
//! grpc-message: BAD_FORMAT: role: it is neither PROD nor CONS
//! ```

use scistream::auth::Token;
use scistream::client::{ClientError, without_bad_details};
use tonic::Status;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};

/// A token is one however it is sent, and is not shown. Whatever a gateway answers,
/// its user reads one line, and scripts one word.
pub fn check(data: &[u8]) {
    let mut headers = headers(data);
    headers.get_all("authorization").iter().filter_map(|value| value.to_str().ok()).for_each(authorization);
    without_bad_details(&mut headers);
    let Some(status) = Status::from_header_map(&headers) else { return };
    let error =
        ClientError::Refused { doing: "say HELLO", gateway: "gw.example:5000".into(), status: Box::new(status) };
    super::assert_one_line(&error.story());
    super::assert_plain(&error.code(), b"_");
}

fn authorization(value: &str) {
    let Some(token) = Token::parse(value) else { return };
    let text = value.rsplit(' ').find(|word| !word.is_empty()).expect("it holds a token");
    for same in [text.to_owned(), format!("Bearer {text}"), format!("bearer  {text}")] {
        assert_eq!(Token::parse(&same).expect("the same token").to_string(), token.to_string(), "{same}");
    }
    let shown = format!("{token} {token:?}");
    assert!(text.len() < 16 || !shown.contains(text), "the token is shown");
}

fn headers(data: &[u8]) -> HeaderMap {
    let lines = data.split(|byte| *byte == b'\n');
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        Some((name.ok()?, value.ok()?))
    };
    lines.filter_map(header).collect()
}
