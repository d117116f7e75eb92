//! Text for files that people read in an editor.

use std::fmt::Write as _;

/// A comment of lines that are not longer than a screen.
pub fn comment(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 96 && line != "#" {
            writeln!(out, "{line}").expect("strings take all");
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(out, "{line}").expect("strings take all");
    out
}

/// A sentence: it begins with a capital letter and has its full stop.
pub fn sentence(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    if text.is_empty() { String::new() } else { format!("{text}.") }
}
