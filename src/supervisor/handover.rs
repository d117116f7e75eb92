//! Has systemd make a process, in a unit of its own.
//!
//! A socket unit with `Accept=yes` makes systemd start an instance of a service for each
//! connection (`systemd.socket(5)`), which asks for no privilege: to connect is enough.
//! Over the connection goes what the instance is to become, with all descriptors; it
//! says its number, and becomes that. From then on the process is watched as one that an
//! earlier run has started: its parent is systemd.
//!
//! Proxies are of the same user, and most kernels cannot shut the socket to them. So the
//! order begins with the operator's word, see [`ControlSocket`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Pid, setsid};
use openssl::memcmp;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::process::Becoming;
use crate::backend::Sockets;
use crate::store::{ControlSocket, OperatorWord};

/// What systemd has to start a unit, and the unit to take its order.
const PATIENCE: Duration = Duration::from_secs(15);
/// `unix(7)`: no message holds more descriptors.
const MOST_DESCRIPTORS: usize = 253;
/// No order is longer.
const MOST_BYTES: usize = 64 << 10;

/// Where units are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionUnits {
    /// The socket that systemd listens on.
    pub socket: PathBuf,
    /// Where the operator's word is.
    pub state_dir: PathBuf,
}

/// What an instance is to become; the descriptors are its output and then those it inherits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    arguments: Vec<String>,
    folder: PathBuf,
    sockets: Sockets,
}

/// An order that could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It did not come, or is none.
    #[error("take the order from standard input, which systemd is to have connected")]
    Order(#[source] io::Error),
    /// Whoever gave it is not the control server.
    #[error("obey: whoever connected cannot read the state folder")]
    Stranger,
    /// The system refused.
    #[error("become what was ordered")]
    Become(#[source] io::Error),
}

impl SessionUnits {
    /// Hands over to a new unit; answers with the number of its process.
    pub(super) fn spawn(&self, what: Becoming) -> io::Result<Pid> {
        let word = ControlSocket::word(&ControlSocket::path(&self.state_dir))?;
        let text = |argument: OsString| {
            argument.into_string().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "an argument is no text"))
        };
        let arguments = what.arguments.into_iter().map(text).collect::<io::Result<_>>()?;
        let order = Order { arguments, folder: what.folder, sockets: what.sockets };
        let mut message = word.to_vec();
        serde_json::to_writer(&mut message, &order)?;
        message.push(b'\n');
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let descriptors: Vec<_> =
            std::iter::once(what.output.as_fd()).chain(what.inherited.iter().map(AsFd::as_fd)).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let sent = sendmsg(&stream, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
        stream.write_all(&message[sent..])?;
        let mut number = String::new();
        BufReader::new(stream).read_line(&mut number)?;
        number.trim().parse().map(Pid::from_raw).map_err(|_| {
            io::Error::other("systemd starts no unit for it: systemctl status scistream-session.socket tells why")
        })
    }
}

/// Takes an order from standard input, and becomes what it says. Returns only when that
/// fails.
#[must_use]
pub fn take_over(state_dir: &Path) -> HandoverError {
    let (order, mut stream, mut descriptors) = match receive(state_dir) {
        Ok(received) => received,
        Err(e) => return e,
    };
    // The group to be killed is the one that it leads. Systemd makes it the leader already.
    setsid().ok();
    if let Err(e) = stream.write_all(format!("{}\n", std::process::id()).as_bytes()) {
        return HandoverError::Order(e);
    }
    let output = File::from(descriptors.remove(0));
    let what = Becoming {
        arguments: order.arguments.into_iter().map(OsString::from).collect(),
        folder: order.folder,
        sockets: order.sockets,
        inherited: descriptors,
        output,
    };
    match what.command() {
        Ok(mut command) => HandoverError::Become(command.exec()),
        Err(e) => HandoverError::Become(e),
    }
}

fn receive(state_dir: &Path) -> Result<(Order, UnixStream, Vec<OwnedFd>), HandoverError> {
    let fault = HandoverError::Order;
    let word = ControlSocket::word(&ControlSocket::path(state_dir)).map_err(fault)?;
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(fault)?;
    let mut stream = UnixStream::from(input);
    stream.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
    let mut bytes = vec![0; MOST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(|e| fault(e.into()))?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    let mut length = got.bytes;
    // The word is of any bytes; what follows it is a line.
    while !bytes[..length].iter().skip(word.len()).any(|byte| *byte == b'\n') {
        match stream.read(&mut bytes[length..]).map_err(fault)? {
            0 => return Err(fault(io::ErrorKind::UnexpectedEof.into())),
            more => length += more,
        }
    }
    let (said, order) = bytes[..length].split_at(OperatorWord::default().len());
    if !memcmp::eq(said, &word) {
        return Err(HandoverError::Stranger);
    }
    let order = serde_json::from_slice(order).map_err(|e| fault(e.into()))?;
    if descriptors.is_empty() {
        return Err(fault(io::ErrorKind::InvalidData.into()));
    }
    Ok((order, stream, descriptors))
}
