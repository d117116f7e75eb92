//! SciStream's own front end: gRPC, as deployed and as draft-02 names it, with
//! health (grpc.health.v1) and reflection; and our own gateway service.

mod accept;
mod body;
mod control;
mod gatekeeper;
mod gateway;
pub mod parse;
mod seats;
mod status;

use std::io;
use std::time::Duration;

use scistream_proto::DESCRIPTORS;
use scistream_proto::control_server::ControlServer;
use scistream_proto::gateway::gateway_server::GatewayServer;
use scistream_proto::sci_stream_control_server::SciStreamControlServer;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::auth::Guard;
use crate::engine::Engine;
use crate::store::OperatorWord;
use crate::tls::ServerTls;

use control::ControlService;
pub use control::{Authentication, Manners};
pub use gatekeeper::Gatekeeper;
use gateway::GatewayService;
pub use status::{no_longer_let_in, not_let_in, status};

/// No message of the contract is larger.
const MOST_MESSAGE_BYTES: usize = 128 << 10;
/// Nor of those that strangers may send.
const MOST_BYTES_OF_STRANGERS: usize = 4 << 10;
const MOST_STREAMS_PER_CONNECTION: u32 = 256;
/// What a connection may send ahead of what is read: one message a stream, eight in all.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The front end failed.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The transport.
    #[error("serve gRPC")]
    Transport(#[from] tonic::transport::Error),
    /// The compiled contract does not describe itself.
    #[error("describe the contract for reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// How calls come in and are answered. Another one may take its place at any time, as
/// a whole; it counts for the next connection and the next call.
#[derive(Clone)]
pub struct Reception {
    /// How the network's door is protected; without it, it is not.
    pub tls: Option<ServerTls>,
    /// Who finds out who calls.
    pub guard: Guard,
    /// How they are answered.
    pub manners: Manners,
}

/// Where calls come in.
pub struct Doors {
    /// From the network.
    pub listener: TcpListener,
    /// From the operator on this host.
    pub operators: Option<Operators>,
    /// Who lets them in.
    pub gatekeeper: Gatekeeper,
}

/// Where the operator comes in.
pub struct Operators {
    /// The socket.
    pub listener: UnixListener,
    /// What an operator says first.
    pub word: OperatorWord,
}

/// Serves until `stop`, then lets calls that are under way end.
///
/// # Errors
/// [`GrpcError`]
pub async fn serve(
    engine: Engine,
    reception: watch::Receiver<Reception>,
    doors: Doors,
    stop: CancellationToken,
) -> Result<(), GrpcError> {
    let service = ControlService { engine: engine.clone(), reception: reception.clone() };
    let gateway = GatewayService { engine, reception: reception.clone() };
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<ControlServer<ControlService>>().await;
    health_reporter.set_serving::<SciStreamControlServer<ControlService>>().await;
    health_reporter.set_serving::<GatewayServer<GatewayService>>().await;
    let describe = || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    let (sender, streams) = mpsc::channel::<io::Result<accept::ControlStream>>(16);
    let mut accepting = JoinSet::new();
    if let Some(operators) = doors.operators {
        accepting.spawn(accept::accept_operators(operators, sender.clone()));
    }
    accepting.spawn(accept::accept(doors.listener, reception, sender));
    let outcome = Server::builder()
        .max_concurrent_streams(MOST_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(doors.gatekeeper)
        .add_service(ControlServer::new(service.clone()).max_decoding_message_size(MOST_MESSAGE_BYTES))
        .add_service(SciStreamControlServer::new(service).max_decoding_message_size(MOST_MESSAGE_BYTES))
        .add_service(GatewayServer::new(gateway).max_decoding_message_size(MOST_MESSAGE_BYTES))
        .add_service(health.max_decoding_message_size(MOST_BYTES_OF_STRANGERS))
        .add_service(describe().build_v1()?.max_decoding_message_size(MOST_BYTES_OF_STRANGERS))
        .add_service(describe().build_v1alpha()?.max_decoding_message_size(MOST_BYTES_OF_STRANGERS))
        .serve_with_incoming_shutdown(ReceiverStream::new(streams), stop.cancelled_owned())
        .await;
    accepting.shutdown().await;
    Ok(outcome?)
}
