//! The consumer: connects, takes bytes, and times round trips and new connections.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ECHO;
use super::runtime::{build, commands, reply};
use super::streams::Streams;
use crate::failure::{Doing as _, Failure, Result};
use crate::support::statistics::Spread;

/// For one connection, or one round trip.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs until stdin ends.
///
/// # Errors
/// When it hears nothing sensible.
pub fn run() -> Result<()> {
    build()?.block_on(async {
        let (mut commands, mut streams) = (commands(), None);
        while let Some(line) = commands.recv().await {
            reply(obey(&line, &mut streams).await);
        }
        Ok(())
    })
}

async fn obey(line: &str, streams: &mut Option<Streams>) -> Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match *words.as_slice() {
        ["open", to, count] => {
            *streams = Some(Streams::open(parse(to)?, parse(count)?).await?);
            Ok("opened".into())
        }
        ["go", milliseconds, stuck] => {
            let asked = Duration::from_millis(parse(milliseconds)?);
            Ok(open(streams)?.go(asked, parse(stuck)?).await?.to_string())
        }
        ["until", total] => Ok(open(streams)?.until(parse(total)?).await?.as_nanos().to_string()),
        ["close"] => {
            let streams = streams.take().doing("end connections: none is open")?;
            Ok(streams.close().await?.to_string())
        }
        ["rtt", to, count, milliseconds] => {
            let times = round_trips(parse(to)?, parse(count)?, Duration::from_millis(parse(milliseconds)?)).await?;
            percentiles(&times)
        }
        ["setup", to, count, milliseconds] => {
            let begun = Instant::now();
            let times = set_up(parse(to)?, parse(count)?, Duration::from_millis(parse(milliseconds)?)).await?;
            Ok(format!("{} {}", percentiles(&times)?, begun.elapsed().as_nanos()))
        }
        _ => Err(Failure(format!("understand {line:?}"))),
    }
}

fn parse<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().ok().doing(format!("understand {word:?}"))
}

fn open(streams: &mut Option<Streams>) -> Result<&mut Streams> {
    streams.as_mut().doing("use connections: none is open")
}

/// How many there are, and the median and 99th percentile in nanoseconds.
fn percentiles(times: &[Duration]) -> Result<String> {
    let spread = Spread::of(times.iter().map(|time| time.as_secs_f64() * 1e9).collect()).doing("get any echo")?;
    Ok(format!("{} {:.0} {:.0}", spread.count, spread.median, spread.p99))
}

/// One byte there and back, again and again, on so many connections at once.
async fn round_trips(to: SocketAddr, count: usize, lasting: Duration) -> Result<Vec<Duration>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(within(first_echo(to)).await?);
    }
    let end = Instant::now() + lasting;
    let echoes = streams.into_iter().map(|mut stream| async move {
        let mut times = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            within(echo(&mut stream)).await?;
            times.push(start.elapsed());
        }
        Ok(times)
    });
    joined(echoes).await
}

/// New connections, each up to its first echo, so many at once.
async fn set_up(to: SocketAddr, count: usize, lasting: Duration) -> Result<Vec<Duration>> {
    let end = Instant::now() + lasting;
    let workers = (0..count).map(|_| async move {
        let mut times = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            within(first_echo(to)).await?;
            times.push(start.elapsed());
        }
        Ok(times)
    });
    joined(workers).await
}

async fn joined<F>(workers: impl Iterator<Item = F>) -> Result<Vec<Duration>>
where
    F: Future<Output = Result<Vec<Duration>>> + Send + 'static,
{
    let (mut set, mut all) = (workers.collect::<JoinSet<_>>(), Vec::new());
    while let Some(worker) = set.join_next().await {
        all.extend(worker.doing("wait for a worker")??);
    }
    Ok(all)
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.doing("get an echo in time")?.doing("get an echo")
}

async fn first_echo(to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[ECHO, b'1']).await?;
    stream.read_u8().await?;
    Ok(stream)
}

async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_u8(b'1').await?;
    stream.read_u8().await?;
    Ok(())
}
