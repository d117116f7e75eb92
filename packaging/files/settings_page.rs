//! s2cs.toml(5).

use std::io;
use std::path::Path;

use roff::roman;

use super::comments::words;
use super::format::sentence;
use super::roff_text::{entry, page, paragraphs, see_also};
use super::settings::{Setting, Shown, TABLES, of_table, top_level};

const WORDS: [(&str, &str, &str); 2] = [
    ("PROTECTIONS", include_str!("../../src/session/protection.rs"), "Protection"),
    ("KINDS OF PROVIDERS", include_str!("../../src/auth/provider.rs"), "Kind"),
];

/// Writes it.
pub fn write(folder: &Path) -> io::Result<()> {
    let mut roff = page("s2cs.toml", "5", "the configuration of s2cs, the control server of a SciStream gateway");
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman("/etc/scistream/s2cs.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    paragraphs(
        &mut roff,
        "A TOML file, which s2cs --config FILE reads when it starts. All of it may be left out. A setting of the \
         command line has the same name, with dashes instead of underscores, and counts more than the file's.\n\n\
         s2cs check --config FILE tells every fault at once, and what a gateway still needs to start.",
    );
    roff.control("SH", ["SETTINGS"]);
    top_level().iter().for_each(|setting| describe(&mut roff, setting));
    for (name, heading, about, source, of) in TABLES {
        roff.control("SH", [heading]);
        paragraphs(&mut roff, &sentence(about));
        of_table(name, source, of).iter().for_each(|setting| describe(&mut roff, setting));
    }
    for (heading, source, name) in WORDS {
        roff.control("SH", [heading]);
        words(source, name).iter().for_each(|(word, says)| entry(&mut roff, word, "", says));
    }
    see_also(&mut roff, &["s2cs(8)", "backend.toml(5)"]);
    std::fs::write(folder.join("s2cs.toml.5"), roff.to_roff())
}

fn describe(roff: &mut roff::Roff, setting: &Setting) {
    let mut text = sentence(&setting.says);
    match &setting.shown {
        _ if !setting.otherwise.is_empty() => text.push_str(&format!(" Default: {}.", setting.otherwise)),
        Shown::Default(value) => text.push_str(&format!(" Default: {value}.")),
        Shown::Example(_) => {}
    }
    if let Shown::Example(example) = &setting.shown {
        text.push_str(&format!(" Example: {example}"));
    }
    entry(roff, &setting.key, &format!(" ({})", setting.kind), &text);
}
