//! An application that listens, and remembers who came.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::{DEADLINE, with_deadline};

/// A listening application; each connection is handled in a thread.
pub struct Application {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Application {
    pub fn new(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("its address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, handle) = (connections.clone(), Arc::new(handle));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = with_deadline(stream.expect("accept"));
                count.fetch_add(1, Ordering::SeqCst);
                let handle = handle.clone();
                std::thread::spawn(move || handle(stream));
            }
        });
        Self { address, connections }
    }

    /// Sends back what it gets, while it gets it.
    pub fn echo() -> Self {
        Self::new(|stream| drop(echo(stream)))
    }

    /// Says who it is, and closes.
    pub fn named(name: u8) -> Self {
        Self::new(move |mut stream| {
            let mut request = [0];
            if stream.read_exact(&mut request).is_ok() {
                stream.write_all(&[name]).expect("answer");
            }
        })
    }

    /// Hands the connections to the test.
    pub fn manual() -> (Self, Accepted) {
        let (sender, receiver) = channel();
        let application = Self::new(move |stream| sender.send(stream).expect("the test waits"));
        (application, Accepted(receiver))
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub struct Accepted(Receiver<TcpStream>);

impl Accepted {
    pub fn next(&self) -> TcpStream {
        self.0.recv_timeout(DEADLINE).expect("nobody connected to the application")
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}

/// Sends all of it while it reads what comes back, to the end of file.
pub fn exchange(stream: TcpStream, bytes: Vec<u8>) -> Vec<u8> {
    let mut writer = stream.try_clone().expect("clone");
    let sending = std::thread::spawn(move || {
        writer.write_all(&bytes).expect("send");
        writer.shutdown(Shutdown::Write).expect("shutdown");
    });
    let mut answer = Vec::new();
    (&stream).read_to_end(&mut answer).expect("receive");
    sending.join().expect("sender");
    answer
}
