//! Paragraphs of a man page.

use roff::{Roff, bold, roman};

/// Paragraphs, which an empty line divides. Those of several lines, and those that are
/// set in, keep their lines.
pub fn paragraphs(roff: &mut Roff, text: &str) {
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let lines: Vec<_> = paragraph.lines().collect();
        match lines.as_slice() {
            [line] if !line.starts_with(' ') => {
                roff.control("PP", []);
                roff.text([roman(*line)]);
            }
            lines => as_it_is(roff, lines),
        }
    }
}

/// Lines that stay as they are.
pub fn as_it_is(roff: &mut Roff, lines: &[&str]) {
    roff.control("PP", []);
    roff.control("nf", []);
    for line in lines {
        if line.is_empty() {
            roff.control("sp", []);
        } else {
            roff.text([roman(*line)]);
        }
    }
    roff.control("fi", []);
}

/// A word, and what it means.
pub fn entry(roff: &mut Roff, word: &str, more: &str, text: &str) {
    roff.control("TP", []);
    roff.text([bold(word), roman(more)]);
    roff.text([roman(text)]);
}

/// A page that begins.
pub fn page(name: &str, section: &str, about: &str) -> Roff {
    let mut roff = Roff::new();
    let source = format!("SciStream {}", super::VERSION);
    roff.control("TH", [&name.to_uppercase(), section, "", &source, "SciStream"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {about}"))]);
    roff
}

/// Pages that go on, `name(section)` each.
pub fn see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    let last = pages.len().saturating_sub(1);
    for (index, page) in pages.iter().enumerate() {
        let (name, section) = page.split_at(page.find('(').unwrap_or(page.len()));
        let comma = if index == last { "" } else { "," };
        roff.control("BR", [name, &format!("{section}{comma}")]);
    }
}
