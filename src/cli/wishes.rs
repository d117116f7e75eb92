//! What a user may ask a gateway for in bandwidth and connections.

use clap::Args;

use crate::session::{BUFFERS, Congestion, TcpWishes};

#[derive(Args)]
pub(super) struct Wishes {
    /// What all connections are to move at most, in kB/s, both directions together, where the gateway
    /// keeps sessions to it; 0: as much as the gateway allows
    #[arg(long, default_value_t = 0, value_name = "KBPS", value_parser = clap::value_parser!(i32).range(0..))]
    pub(super) rate: i32,
    /// Size of the TCP send buffers in bytes, where the gateway lets you choose [default: the gateway's]
    #[arg(long, value_name = "BYTES", value_parser = buffer)]
    send_buffer: Option<u32>,
    /// Size of the TCP receive buffers in bytes, in the same way
    #[arg(long, value_name = "BYTES", value_parser = buffer)]
    receive_buffer: Option<u32>,
    /// The congestion control of TCP, such as bbr, in the same way
    #[arg(long, value_name = "NAME")]
    congestion: Option<Congestion>,
}

fn buffer(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| BUFFERS.contains(size));
    size.ok_or_else(|| format!("it must be from {} to {}", BUFFERS.start(), BUFFERS.end()))
}

impl Wishes {
    pub(super) fn tcp(&self) -> TcpWishes {
        let congestion = self.congestion.clone();
        TcpWishes { send_buffer: self.send_buffer, receive_buffer: self.receive_buffer, congestion }
    }
}
