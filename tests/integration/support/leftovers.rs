//! Looks at what a gateway has, or has left behind.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The processes that work in a folder, s2cs itself not being one of them.
pub fn processes_in(folder: &Path) -> Vec<(i32, String)> {
    let folder = folder.canonicalize().expect("the folder is there");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(cwd) = fs::read_link(entry.path().join("cwd")) else { continue };
        // A folder that was removed shows with a note behind its path.
        if cwd.starts_with(&folder) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push((pid, name.trim().to_owned()));
        }
    }
    found
}

/// The TCP ports of a range on which anybody listens.
pub fn listening(range: &RangeInclusive<u16>) -> Vec<u16> {
    listening_addresses(range).into_iter().map(|address| address.port()).collect()
}

/// The addresses on which anybody listens on a port of a range, by port.
pub fn listening_addresses(range: &RangeInclusive<u16>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| {
            fs::read_to_string(table).unwrap_or_default().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        })
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1)?;
            let state = fields.nth(1)?;
            (state == "0A").then(|| kernel_address(local))?
        })
        .filter(|address| range.contains(&address.port()))
        .collect();
    addresses.sort_unstable_by_key(|address| (address.port(), address.ip()));
    addresses
}

/// `0100007F:1388`: each four bytes of the address are a number of this host's order.
fn kernel_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Every file under a folder.
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            files.push(path.clone());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    files.sort();
    files
}
