//! What comes over the control channel: messages, and the commands that they make.

use prost::Message;
use scistream::auth::Caller;
use scistream::engine::{Refusal, Requester};
use scistream::frontends::grpc::{parse, status};
use scistream::session::{Endpoint, ReleaseReason};
use scistream_proto::gateway;
use scistream_proto::{AppResponse, Hello, Release, Request, Response, UpdateTargets};

/// The most listeners that a gateway gives by default.
const MOST_LISTENERS: u16 = 64;

/// The names of all messages, as the `.proto` files have them, and how to read each.
macro_rules! messages {
    ($($message:ty),* $(,)?) => {
        /// Every message of the contracts.
        pub const MESSAGES: &[&str] = &[$(stringify!($message)),*];

        fn read_all(data: &[u8]) {
            $(let _: Option<$message> = read(data);)*
        }
    };
}

messages! {
    Request, Hello, UpdateTargets, Release, Response, AppResponse, gateway::Session, gateway::Tcp,
    gateway::Process, gateway::Traffic, gateway::ListRequest, gateway::ListResponse, gateway::GetRequest,
    gateway::FlowsRequest, gateway::FlowsResponse, gateway::SessionFlows, gateway::Flow, gateway::WatchRequest, gateway::Event,
    gateway::RenewRequest, gateway::ReleaseRequest, gateway::ReleaseResponse, gateway::DrainRequest,
    gateway::DrainResponse, gateway::CapabilitiesRequest, gateway::CapabilitiesResponse, gateway::Login,
    gateway::Backend,
}

/// The same bytes are read as every message; those that make a command make a harmless one.
pub fn check(data: &[u8]) {
    read_all(data);
    if let Some(message) = read::<Request>(data) {
        request(&message);
    }
    if let Some(message) = read::<Hello>(data) {
        let command = parse::uid(&message.uid).and_then(|uid| parse::announce(anyone(), uid, &message));
        match command {
            Ok(command) => assert_endpoints(&command.endpoints, &message.prod_listeners),
            Err(refusal) => assert_tells_nothing(&refusal, &message.uid),
        }
    }
    if let Some(message) = read::<UpdateTargets>(data) {
        let command = parse::uid(&message.uid).and_then(|uid| parse::retarget(anyone(), uid, &message));
        match command {
            Ok(command) => assert_endpoints(&command.targets, &message.remote_listeners),
            Err(refusal) => assert_tells_nothing(&refusal, &message.uid),
        }
    }
    if let Some(message) = read::<gateway::ReleaseRequest>(data)
        && let ReleaseReason::Because { said } = parse::reason(&message.reason)
    {
        super::assert_one_line(&said);
        assert!(!said.is_empty() && said.chars().count() <= 200, "{said:?}");
    }
    if let Some(message) = read::<gateway::RenewRequest>(data) {
        let lifetime = parse::seconds(message.lifetime_seconds);
        assert_eq!(lifetime.map_or(0, |lifetime| lifetime.as_secs()), message.lifetime_seconds);
    }
}

/// What is read is written, and read again as the same.
fn read<M: Message + Default>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    let written = message.encode_to_vec();
    // As bytes: a number may be none, which is not equal to itself.
    assert_eq!(M::decode(&*written).map(|again| again.encode_to_vec()).as_ref(), Ok(&written));
    Some(message)
}

fn anyone() -> Requester {
    Requester { caller: Caller::Anyone, address: None }
}

fn request(message: &Request) {
    match parse::uid(&message.uid).and_then(|uid| parse::reserve(anyone(), uid, message, MOST_LISTENERS)) {
        Ok(command) => {
            assert!(command.connections.get() <= MOST_LISTENERS);
            assert_eq!(i32::from(command.connections.get()), message.num_conn);
            assert_eq!(command.role.as_str(), message.role);
            super::assert_plain(&command.backend.unwrap_or_default(), b"-_.");
        }
        Err(refusal) => assert_tells_nothing(&refusal, &message.uid),
    }
}

/// Each is the one that was asked for, in the same place.
fn assert_endpoints(taken: &[Endpoint], asked: &[String]) {
    assert_eq!(taken.len(), asked.len());
    for (taken, asked) in taken.iter().zip(asked) {
        assert_eq!(asked.parse::<Endpoint>().as_ref(), Ok(taken));
        super::endpoint::check(asked.as_bytes());
    }
}

/// A refusal is one line for whoever called, without what may be their secret.
fn assert_tells_nothing(refusal: &Refusal, uid: &str) {
    let status = status(refusal);
    super::assert_one_line(status.message());
    assert!(status.message().len() < 1000, "{status}");
    assert!(uid.len() < 16 || !status.message().contains(uid), "the refusal shows the UID");
}
