//! Looks at one session of a gateway from outside.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use scistream::client::Gateway;
use scistream::session::{Role, SessionId, Uid};
use scistream_proto::gateway::{Event, Session};
use tokio::time::timeout;
use tonic::Streaming;

use super::TestGateway;
use super::leftovers::processes_in;

/// No event that is waited for takes longer.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// A session's short id.
pub fn id(uid: &Uid, role: Role) -> String {
    SessionId { uid: uid.digest(), role }.to_string()
}

/// A session's folder.
pub fn folder(gateway: &TestGateway, uid: &Uid, role: Role) -> PathBuf {
    gateway.sessions_dir().join(id(uid, role))
}

/// A session's processes: those that lead their group, and their workers.
pub fn leaders_and_workers(gateway: &TestGateway, uid: &Uid, role: Role) -> (Vec<Proxy>, Vec<Proxy>) {
    let all = processes_in(&folder(gateway, uid, role)).into_iter().map(|(pid, name)| Proxy { pid, name });
    all.partition(|proxy| getpgid(Some(proxy.pid())).is_ok_and(|group| group == proxy.pid()))
}

/// A process of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub pid: i32,
    pub name: String,
}

impl Proxy {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// Kills it, without a word.
    pub fn kill(&self) {
        kill(self.pid(), Signal::SIGKILL).expect("a process of ours");
    }
}

/// Waits for the event of a session that `wanted` is looking for.
pub async fn event(client: &Gateway, events: &mut Streaming<Event>, mut wanted: impl FnMut(&Event) -> bool) -> Event {
    let search = async {
        loop {
            let event = client.next_event(events).await.expect("the gateway tells").expect("the feed does not end");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(DEADLINE, search).await.expect("an event that was waited for comes")
}

/// All sessions, which must be well.
pub async fn all_well(client: &Gateway) -> Vec<Session> {
    let sessions = client.list().await.expect("listed").sessions;
    for session in &sessions {
        assert_eq!((session.state.as_str(), session.degraded.as_str()), ("active", ""), "{}", session.id);
    }
    sessions
}
