//! Whether the kernel and OpenSSL can do TLS between them: found out once, by a
//! handshake with ourselves, never assumed.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use openssl::ssl::{Ssl, SslContext};
use openssl_ktls::SslStream;
use serde::Deserialize;

/// Far more than a handshake with oneself takes; a host that needs it does without.
const PATIENCE: Duration = Duration::from_secs(5);

/// When the kernel is to make and open the records of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelTls {
    /// When that should not be slower: both directions, with the best of the processor's
    /// own AES. With one direction in the kernel OpenSSL reads the other record by record,
    /// which costs more than our transport does.
    #[default]
    Auto,
    /// Whenever it can, be it one direction only.
    On,
    /// Never.
    Off,
}

/// What the kernel takes the keys of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    pub sends: bool,
    pub receives: bool,
    /// Whether it encrypts with the processor's instructions.
    pub accelerated: bool,
}

impl KernelTls {
    /// Whether to let the kernel take part.
    pub fn wants(self, found: Found) -> bool {
        match self {
            Self::Auto => found.sends && found.receives && found.accelerated,
            Self::On => found.sends || found.receives,
            Self::Off => false,
        }
    }
}

/// What there is, from two ends that are set up alike but for their roles.
pub fn find(server: &SslContext, client: &SslContext) -> Found {
    static FOUND: OnceLock<Found> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = attempt(server, client).unwrap_or_default();
        tracing::debug!(?found, "kernel TLS");
        found
    })
}

/// `None` where something is missing.
fn attempt(server: &SslContext, client: &SslContext) -> Option<Found> {
    let (near, _far) = connection().ok()?;
    // The first thing that most kernels lack, and the cheapest to ask for.
    setsockopt(&near, sockopt::TcpUlp::default(), &b"tls").ok()?;
    let (near, far) = connection().ok()?;
    let (server, client) = (Ssl::new(server).ok()?, Ssl::new(client).ok()?);
    // Neither end goes before the other has given the kernel its keys.
    let (near, _far) = thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let far = SslStream::new(far, server);
            far.accept().is_ok().then_some(far)
        });
        let near = SslStream::new(near, client);
        let connected = near.connect().is_ok();
        let far = accepting.join().ok()??;
        connected.then_some((near, far))
    })?;
    let ciphers = std::fs::read_to_string("/proc/crypto").unwrap_or_default();
    let accelerated = is_accelerated(&ciphers, has_vaes());
    Some(Found { sends: near.ktls_send_enabled(), receives: near.ktls_recv_enabled(), accelerated })
}

fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    // A stranger that got in first fails the handshake.
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_write_timeout(Some(PATIENCE))?;
    }
    Ok((near, far))
}

/// Whether the processor has AES for long registers. OpenSSL has used it since 3.1,
/// kernels only since 6.11.
fn has_vaes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("vaes");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Whether the best AES-GCM in `/proc/crypto` is not the one in plain C, nor one that
/// leaves the long registers alone that there are.
fn is_accelerated(ciphers: &str, vaes: bool) -> bool {
    let field = |cipher: &str, name: &str| {
        let value = |line: &str| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned());
        cipher.lines().find_map(value)
    };
    ciphers
        .split("\n\n")
        .filter(|cipher| field(cipher, "name").as_deref() == Some("gcm(aes)"))
        .filter(|cipher| field(cipher, "internal").as_deref() != Some("yes"))
        .max_by_key(|cipher| field(cipher, "priority").and_then(|priority| priority.parse::<u32>().ok()))
        .and_then(|cipher| field(cipher, "driver"))
        .is_some_and(|driver| {
            let in_c = driver.contains("generic)") || driver.contains("-generic,");
            !in_c && (!vaes || driver.contains("vaes"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_C: &str = "name         : gcm(aes)\ndriver       : gcm_base(ctr(aes-generic),ghash-generic)\n\
        module       : gcm\npriority     : 100\nrefcnt       : 1\nselftest     : passed\ninternal     : no\n";
    const INSTRUCTIONS: &str = "name         : gcm(aes)\ndriver       : generic-gcm-aesni\nmodule       : aesni_intel\n\
        priority     : 400\nrefcnt       : 1\nselftest     : passed\ninternal     : no\n";
    const INTERNAL: &str = "name         : gcm(aes)\ndriver       : __generic-gcm-aesni\nmodule       : aesni_intel\n\
        priority     : 500\nrefcnt       : 1\nselftest     : passed\ninternal     : yes\n";

    #[test]
    fn the_best_cipher_counts() {
        let old_processor = |ciphers: &str| is_accelerated(ciphers, false);
        assert!(!old_processor(""));
        assert!(!old_processor(IN_C));
        assert!(!old_processor(&format!("{IN_C}\n{INTERNAL}\n")));
        assert!(old_processor(&format!("{IN_C}\n{INSTRUCTIONS}\n")));
        assert!(old_processor(&format!("{INSTRUCTIONS}\n{IN_C}\n")));
        assert!(!old_processor(&INSTRUCTIONS.replace("gcm(aes)", "gcm(sm4)")));
        // An old kernel on a new processor, and a new one.
        assert!(!is_accelerated(INSTRUCTIONS, true));
        assert!(is_accelerated(&INSTRUCTIONS.replace("aesni\n", "vaes-avx10_512\n"), true));
    }

    #[test]
    fn only_what_cannot_be_slower_is_taken_unasked() {
        let all = Found { sends: true, receives: true, accelerated: true };
        assert!(KernelTls::Auto.wants(all) && KernelTls::On.wants(all) && !KernelTls::Off.wants(all));
        for less in
            [Found { receives: false, ..all }, Found { sends: false, ..all }, Found { accelerated: false, ..all }]
        {
            assert!(!KernelTls::Auto.wants(less) && KernelTls::On.wants(less), "{less:?}");
        }
        assert!(!KernelTls::On.wants(Found::default()));
    }
}
