//! backend.toml(5): manifests, and what templates see.

use std::io;
use std::path::Path;

use roff::Roff;

use super::comments::{Field, fields, words};
use super::format::sentence;
use super::roff_text::{as_it_is, entry, page, paragraphs, see_also};

const MANIFEST: &str = include_str!("../../src/backend/manifest.rs");
const CHAIN: &str = include_str!("../../src/backend/chain.rs");
const RENDER: &str = include_str!("../../src/backend/render.rs");
const PROTECTION: &str = include_str!("../../src/session/protection.rs");
const HAPROXY: &str = include_str!("../../backends/haproxy/backend.toml");

/// The tables of a manifest.
const TABLES: [(&str, &str); 8] = [
    ("[abilities]", "Abilities"),
    ("[version]", "Probe"),
    ("[[files]]", "NeededFile"),
    ("[sandbox]", "Allowance"),
    ("[check]", "Check"),
    ("[start]", "Start"),
    ("[reload]", "Reload"),
    ("[stop]", "Stop"),
];

const WORDS: [(&str, &str, &str); 4] = [
    ("sockets", MANIFEST, "Sockets"),
    ("when of [check]", MANIFEST, "CheckWhen"),
    ("psk", PROTECTION, "Protection"),
    ("proxy_protocol_in and proxy_protocol_out", CHAIN, "ProxyHeader"),
];

/// Writes it.
pub fn write(folder: &Path) -> io::Result<()> {
    let mut roff = page("backend.toml", "5", "what s2cs knows of a program that carries the bytes");
    roff.control("SH", ["SYNOPSIS"]);
    as_it_is(&mut roff, &["/etc/scistream/backends/NAME/backend.toml", "/etc/scistream/templates/NAME.tera"]);
    roff.control("SH", ["DESCRIPTION"]);
    paragraphs(
        &mut roff,
        "A backend is a manifest and a template. Those that come with s2cs are compiled into it; /usr/share/scistream \
         has them to read. A manifest of the same name under /etc/scistream takes the place of ours, and so does a \
         template of the same file name; others join them. s2cs backends lists what there is.\n\n\
         Every argv is a list of arguments, and nothing passes through a shell. In it {config} stands for the file \
         that the template was made into, {folder} for the session's folder, and {log} for the file that takes the \
         program's output. Patterns are regular expressions.",
    );
    roff.control("SH", ["MANIFEST"]);
    describe(&mut roff, &fields(MANIFEST, "Manifest"));
    for (heading, name) in TABLES {
        roff.control("SS", [heading]);
        describe(&mut roff, &fields(MANIFEST, name));
    }
    roff.control("SH", ["WORDS"]);
    for (of, source, name) in WORDS {
        roff.control("SS", [of]);
        words(source, name).iter().for_each(|(word, says)| entry(&mut roff, word, "", says));
    }
    roff.control("SH", ["TEMPLATE"]);
    paragraphs(
        &mut roff,
        "Templates are Tera's, much like Jinja's. They are given nothing that a caller chose but addresses, numbers and \
         words from lists, and never a key, only the path of its file. These are the names that they know:",
    );
    describe(&mut roff, &fields(RENDER, "View"));
    roff.control("SS", ["Of each of the listeners"]);
    describe(&mut roff, &fields(RENDER, "ListenerView"));
    roff.control("SH", ["EXAMPLE"]);
    as_it_is(&mut roff, &HAPROXY.lines().collect::<Vec<_>>());
    see_also(&mut roff, &["s2cs(8)", "s2cs.toml(5)"]);
    std::fs::write(folder.join("backend.toml.5"), roff.to_roff())
}

fn describe(roff: &mut Roff, fields: &[Field]) {
    for field in fields {
        let optional = if field.optional { ", optional" } else { "" };
        entry(roff, &field.name, &format!(" ({}{optional})", field.kind), &sentence(&field.says));
    }
}
