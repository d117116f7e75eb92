//! Man pages of the programs and of their commands, from the command lines.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use roff::Roff;

use super::completions::programs;
use super::roff_text::{entry, paragraphs, see_also};

/// What `--help` does not say of a program.
struct Program {
    name: &'static str,
    section: &'static str,
    files: &'static [(&'static str, &'static str)],
    exit: &'static [(&'static str, &'static str)],
    see_also: &'static [&'static str],
}

const PROGRAMS: [Program; 5] = [
    Program {
        name: "s2cs",
        section: "8",
        files: &[
            ("/etc/scistream/s2cs.toml", "the configuration, see s2cs.toml(5)"),
            ("/etc/scistream/backends, /etc/scistream/templates", "backends of the site, see backend.toml(5)"),
            ("/usr/share/scistream", "the built-in manifests and templates, to read and to copy"),
            ("/var/lib/scistream", "sessions: their keys, journals, configurations and logs"),
            ("/var/log/scistream/audit.log", "who asked for what, and what became of it"),
        ],
        exit: &[
            ("0", "it did what it was asked to, or was told to end"),
            ("1", "it failed, and standard error says why"),
            ("78", "the configuration cannot be used; every fault of it is told"),
        ],
        see_also: &["s2cs.toml(5)", "backend.toml(5)", "s2uc(1)", "s2ds(8)", "s2fw(8)"],
    },
    Program {
        name: "s2uc",
        section: "1",
        files: &[("~/.local/share/scistream/tokens.json", "tokens of s2uc login")],
        exit: &[("0", "done"), ("other", "it failed; the message, or --json, tells why")],
        see_also: &["appctrl(1)", "s2cs(8)"],
    },
    Program {
        name: "appctrl",
        section: "1",
        files: &[],
        exit: &[("0", "done"), ("other", "it failed, or the application of run ended with this status")],
        see_also: &["s2uc(1)", "s2cs(8)"],
    },
    Program { name: "s2ds", section: "8", files: &[], exit: &[], see_also: &["s2cs(8)", "backend.toml(5)"] },
    Program {
        name: "s2fw",
        section: "8",
        files: &[("/run/scistream/s2fw.sock", "where s2cs asks")],
        exit: &[],
        see_also: &["s2cs(8)", "nft(8)", "firewall-cmd(1)"],
    },
];

/// A file a page.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for command in programs() {
        let about = PROGRAMS.iter().find(|program| program.name == command.get_name()).expect("every program is known");
        let mut command = command.disable_help_subcommand(true);
        command.build();
        pages(&command, about, folder)?;
    }
    Ok(())
}

fn pages(command: &Command, about: &Program, folder: &Path) -> io::Result<()> {
    for under in command.get_subcommands().filter(|under| !under.is_hide_set()) {
        pages(under, about, folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let page = Man::new(command.clone().version(super::VERSION))
        .title(name.to_uppercase())
        .section(about.section)
        .date("")
        .source(format!("SciStream {}", super::VERSION))
        .manual("SciStream");
    let mut out = File::create(folder.join(format!("{name}.{}", about.section)))?;
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut out)?;
    }
    out.write_all(rest(command, about, name == about.name).to_roff().as_bytes())
}

/// What comes after the options.
fn rest(command: &Command, about: &Program, is_program: bool) -> Roff {
    let mut roff = Roff::new();
    if let Some(help) = command.get_after_long_help().or(command.get_after_help()) {
        let help = help.to_string();
        let (title, text) = match help.split_once('\n') {
            Some((first, text)) if first.starts_with("Example") => ("EXAMPLES", text),
            _ => ("NOTES", help.as_str()),
        };
        roff.control("SH", [title]);
        paragraphs(&mut roff, text);
    }
    if !is_program {
        see_also(&mut roff, &[&format!("{}({})", about.name, about.section)]);
        return roff;
    }
    for (title, entries) in [("FILES", about.files), ("EXIT STATUS", about.exit)] {
        if !entries.is_empty() {
            roff.control("SH", [title]);
            entries.iter().for_each(|(word, text)| entry(&mut roff, word, "", text));
        }
    }
    see_also(&mut roff, about.see_also);
    roff
}
