//! The two applications of the quickstart: a producer that listens and sends
//! checksummed bytes, and a consumer that connects, reads and checks them.
//!
//! Neither knows of any gateway.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const BLOCK: usize = 1 << 20;
const GB: u64 = 1_000_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["produce", address, gb] => gigabytes(gb).and_then(|bytes| produce(address, bytes)),
        ["consume", address, gb] => gigabytes(gb).and_then(|bytes| consume(address, bytes)),
        _ => Err("usage: stream produce|consume ADDRESS GB".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("stream: {e}");
            ExitCode::FAILURE
        }
    }
}

fn gigabytes(text: &str) -> Result<u64, Box<dyn Error>> {
    Ok(text.parse::<u64>()? * GB)
}

/// Serves one consumer: `bytes` bytes, then their CRC-32, then the end.
fn produce(address: &str, bytes: u64) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address)?;
    println!("producer listening on {address}");
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut block = random_block();
    let mut checksum = crc32fast::Hasher::new();
    let mut left = bytes;
    let mut number: u64 = 0;
    while left > 0 {
        // No two blocks are the same, so that a lost or doubled one is seen.
        block[..8].copy_from_slice(&number.to_le_bytes());
        number += 1;
        let length = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        checksum.update(&block[..length]);
        stream.write_all(&block[..length])?;
        left -= length as u64;
    }
    stream.write_all(&checksum.finalize().to_le_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    // The consumer's end says that it has read everything.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn consume(address: &str, bytes: u64) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    let mut checksum = crc32fast::Hasher::new();
    let mut buffer = vec![0; BLOCK];
    let (start, mut shown) = (Instant::now(), Instant::now());
    let mut read: u64 = 0;
    while read < bytes {
        let most = usize::try_from(bytes - read).map_or(BLOCK, |left| left.min(BLOCK));
        let length = stream.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(format!("the stream ended after {read} of {bytes} bytes").into());
        }
        checksum.update(&buffer[..length]);
        read += length as u64;
        if shown.elapsed() > Duration::from_millis(100) {
            show_progress(read, bytes, start.elapsed())?;
            shown = Instant::now();
        }
    }
    show_progress(read, bytes, start.elapsed())?;
    println!();
    let mut sent = [0; 4];
    stream.read_exact(&mut sent)?;
    let (sent, seen) = (u32::from_le_bytes(sent), checksum.finalize());
    if stream.read(&mut buffer)? != 0 {
        return Err("there are more bytes than were sent".into());
    }
    if sent != seen {
        return Err(format!("the checksum is {seen:08x}, and the producer's is {sent:08x}").into());
    }
    println!("checksum {seen:08x} on both sides, {:.2} Gbit/s on average", rate(read, start.elapsed()));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn rate(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 * 8.0 / 1e9 / elapsed.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn show_progress(read: u64, bytes: u64, elapsed: Duration) -> std::io::Result<()> {
    let (read_gb, all_gb) = (read as f64 / 1e9, bytes as f64 / 1e9);
    print!("\r  {read_gb:6.2} of {all_gb:.2} GB   {:6.2} Gbit/s ", rate(read, elapsed));
    std::io::stdout().flush()
}

/// Bytes that no compression on the way could make fewer (xorshift).
fn random_block() -> Vec<u8> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(BLOCK / 8).flatten().collect()
}
