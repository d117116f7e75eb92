//! The command lines: what people and scripts type, and what they read.

/// Prints a line, and one line only, whatever a gateway has put into it. Whoever reads may have stopped (`| head -1`), which must not
/// stop a command that holds a tunnel, nor make one panic.
macro_rules! say {
    ($($text:tt)*) => {{
        let mut out = std::io::stdout().lock();
        let line = format!($($text)*);
        drop(std::io::Write::write_fmt(&mut out, format_args!("{}\n", $crate::shown::in_one_line(&line))));
    }};
}

pub mod appctrl;
mod browser;
mod doctor;
mod drain;
mod gateway;
mod login;
mod logins;
mod mint;
mod policy;
mod processes;
pub mod s2cs;
pub mod s2fw;
pub mod s2uc;
mod sessions;
mod setup;
mod token;
mod top;
mod tunnel;
mod wishes;

use std::ffi::OsString;
use std::io;

use tracing_subscriber::EnvFilter;

/// The command lines of the programs, whole: what man pages and completions are made of.
#[must_use]
pub fn commands() -> [clap::Command; 4] {
    [s2cs::command(), s2uc::command(), appctrl::command(), s2fw::command()]
}

/// Logs of a client: warnings on stderr, more with `RUST_LOG`.
pub(crate) fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
}

/// The process's arguments, with underscores in flag names read as dashes: the
/// deployed release's flags are written both ways.
pub(crate) fn arguments() -> Vec<OsString> {
    normalized(std::env::args_os())
}

fn normalized(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut done = false;
    arguments
        .into_iter()
        .map(|argument| {
            done |= argument == "--";
            match argument.to_str() {
                Some(text) if !done && text.starts_with("--") => {
                    let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
                    format!("{}{value}", name.replace('_', "-")).into()
                }
                _ => argument,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_are_dashes_in_names_only() {
        let given = ["s2cs", "--listener_ip=a_b", "--port_range", "x_y", "--", "--not_mine"];
        let read = normalized(given.map(OsString::from));
        assert_eq!(read, ["s2cs", "--listener-ip=a_b", "--port-range", "x_y", "--", "--not_mine"]);
    }
}
