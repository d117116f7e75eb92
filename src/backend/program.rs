//! Finding a backend's program on this host, and what it is.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use nix::errno::Errno;

use super::Manifest;

/// Where programs are looked for after `PATH`: services often have no sbin in theirs.
const FURTHER: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// All that programs are told by their environment, besides their sockets: what is in
/// ours is not for them.
pub const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// A program as it is installed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: String,
    /// The files that its template refers to, by name.
    pub files: BTreeMap<String, PathBuf>,
}

/// A program that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// It is not installed.
    #[error("the program {program} is not installed; install it: {install}")]
    Missing {
        /// Its file name.
        program: String,
        /// The remedy.
        install: String,
    },
    /// It lacks a part.
    #[error("{program} lacks its {part}; install it: {install}")]
    PartMissing {
        /// Its path.
        program: PathBuf,
        /// What is missing.
        part: String,
        /// The remedy.
        install: String,
    },
    /// It cannot be asked, because the system lets us start nothing more.
    #[error("the gateway may start no more processes, and needs one to ask {program} for its version")]
    NoProcesses {
        /// Its path.
        program: PathBuf,
    },
    /// It does not say its version as expected.
    #[error("{program} does not tell its version: {said}")]
    NoVersion {
        /// Its path.
        program: PathBuf,
        /// What it said instead.
        said: String,
    },
    /// It is older than the template needs.
    #[error("{program} is version {version}, and at least {least} is needed; install it: {install}")]
    TooOld {
        /// Its path.
        program: PathBuf,
        /// What it is.
        version: String,
        /// What is needed.
        least: String,
        /// The remedy.
        install: String,
    },
}

/// Programs that were found, remembered until their files change: asking a
/// program for its version takes longer than starting a session with it.
#[derive(Debug, Default)]
pub struct Programs(Mutex<HashMap<String, (FileStamp, Program)>>);

/// Tells one installed file from the next.
type FileStamp = (PathBuf, u64, SystemTime);

impl Programs {
    /// Looks for the program of `manifest`, see [`locate`].
    ///
    /// # Errors
    /// [`ProgramError`], which names what to install.
    pub fn find(&self, manifest: &Manifest) -> Result<Program, ProgramError> {
        let missing = || ProgramError::Missing { program: manifest.program.clone(), install: manifest.install.clone() };
        let path = locate(&manifest.program).ok_or_else(missing)?;
        let stamp = path.metadata().and_then(|m| Ok((path.clone(), m.ino(), m.modified()?))).map_err(|_| missing())?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&manifest.name) {
            Some((then, program)) if *then == stamp => return Ok(program.clone()),
            _ => {}
        }
        let program = Program::ask(manifest, path)?;
        known.insert(manifest.name.clone(), (stamp, program.clone()));
        Ok(program)
    }
}

impl Program {
    fn ask(manifest: &Manifest, path: PathBuf) -> Result<Self, ProgramError> {
        let said = match Command::new(&path)
            .args(&manifest.version.argv)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null())
            .output()
        {
            Ok(output) => said(&output),
            // fork(2) says so at a limit on processes.
            Err(e) if e.raw_os_error() == Some(Errno::EAGAIN as i32) => {
                return Err(ProgramError::NoProcesses { program: path });
            }
            Err(e) => e.to_string(),
        };
        let version = manifest
            .version
            .pattern
            .captures(&said)
            .and_then(|found| found.get(1))
            .map(|group| group.as_str().to_owned())
            .ok_or_else(|| ProgramError::NoVersion {
                program: path.clone(),
                said: said.lines().next().unwrap_or("nothing").chars().take(200).collect(),
            })?;
        if let Some(least) = &manifest.version.least
            && numbers(&version) < numbers(least)
        {
            let (least, install) = (least.clone(), manifest.install.clone());
            return Err(ProgramError::TooOld { program: path, version, least, install });
        }
        let mut files = BTreeMap::new();
        for needed in &manifest.files {
            if needed.unless.as_ref().is_some_and(|built_in| built_in.is_match(&said)) {
                continue;
            }
            let found = needed.paths.iter().find(|path| path.is_file()).ok_or_else(|| ProgramError::PartMissing {
                program: path.clone(),
                part: needed.name.clone(),
                install: needed.install.clone(),
            })?;
            files.insert(needed.name.clone(), found.clone());
        }
        Ok(Self { path, version, files })
    }
}

/// Where a program is, without asking it anything: beside our own executable, in
/// `PATH`, or in the folders for system programs.
#[must_use]
pub fn locate(program: &str) -> Option<PathBuf> {
    let is_program = |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if Path::new(program).is_absolute() {
        return Some(PathBuf::from(program)).filter(|path| is_program(path));
    }
    let beside_us = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside_us
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(FURTHER.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
}

/// Programs differ in where they print their version.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("2.10.1") > numbers("2.6.12-1+deb12u2"));
        assert!(numbers("1.22.1") >= numbers("1.22"));
    }
}
