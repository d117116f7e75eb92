//! What others wrote, made fit for one line of a log or of a terminal.

use std::borrow::Cow;

/// Whether a character is what it looks like: no control character, which may
/// write over what stands elsewhere, no line separator, and none of those that
/// turn the direction of the text around it (Unicode Annex 9, section 2).
#[must_use]
pub fn is_harmless(character: char) -> bool {
    let breaks_the_line = matches!(character, '\u{2028}' | '\u{2029}');
    let turns_the_line = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !character.is_control() && !breaks_the_line && !turns_the_line
}

/// The text with a space for whatever is not harmless.
#[must_use]
pub fn in_one_line(text: &str) -> Cow<'_, str> {
    match text.chars().all(is_harmless) {
        true => text.into(),
        false => text.chars().map(|c| if is_harmless(c) { c } else { ' ' }).collect(),
    }
}

/// What somebody else's server says, on one line of bounded length.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| is_harmless(*c)).take(300).collect()
}

/// Where a text is not what it should be, and why. (The parser's own way to tell
/// it draws the line of the file.)
#[must_use]
pub fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let message = in_one_line(error.message());
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_write_over_another_nor_read_backwards() {
        assert_eq!(in_one_line("a\u{1b}[2Jb\nc\u{9b}d\u{202e}e\u{2028}f\u{7f}"), "a [2Jb c d e f ");
        for plain in ["", "PROD 192.0.2.1:5100 → [2001:db8::9]:5300", "schön, 漢字, שלום"] {
            assert!(matches!(in_one_line(plain), Cow::Borrowed(same) if same == plain));
        }
    }
}
