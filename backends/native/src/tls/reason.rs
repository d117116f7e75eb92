//! Why a TLS connection broke, in words.

use std::io;

use openssl::error::ErrorStack;

/// A stream that ended without the `close_notify` that makes it whole.
pub fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "cut off without a close_notify")
}

/// OpenSSL's reasons, without its file names and line numbers; `None` when it gave none.
pub fn in_words(stack: &ErrorStack) -> Option<io::Error> {
    let reasons: Vec<&str> = stack.errors().iter().filter_map(|error| error.reason()).collect();
    let words = reasons.join(", ");
    if words.contains("unexpected eof") {
        return Some(cut_off());
    }
    (!words.is_empty()).then(|| io::Error::other(words))
}
