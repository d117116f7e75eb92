//! Where pipes are small, or not to be had at all, bytes go on as they should.

use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::unistd::geteuid;
use tokio::task::JoinSet;

use crate::support::footprint::Holdings;
use crate::support::lane::{Lane, Mode};
use crate::support::pattern::{Dice, Pattern};
use crate::support::plan::{Plan, receive, send};
use crate::support::program::Program;

/// Makes pipes until the kernel gives this user only the smallest, says so, and keeps
/// them until its standard input ends.
const HOLD_PIPES: &str = "
import fcntl, os, sys
held = []
while not held or fcntl.fcntl(held[-1][1], fcntl.F_GETPIPE_SZ) > 8192:
    held.append(os.pipe())
    try:
        fcntl.fcntl(held[-1][1], fcntl.F_SETPIPE_SZ, 1 << 20)
    except PermissionError:
        pass
print(len(held), flush=True)
sys.stdin.read()
";

/// A user that has no pipes left.
struct Poor {
    uid: u32,
    holder: Child,
}

impl Poor {
    /// Root has all the pipes it asks for, so another user is taken, whom nobody is.
    fn new() -> Self {
        let own = geteuid();
        let uid = if own.is_root() { 0x6000_0000 + std::process::id() } else { own.as_raw() };
        let mut command = Command::new("python3");
        command.args(["-c", HOLD_PIPES]).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        if own.is_root() {
            command.uid(uid).gid(uid);
        }
        let mut holder = command.spawn().expect("python3");
        let mut said = [0; 1];
        let read = holder.stdout.as_mut().expect("piped").read_exact(&mut said);
        read.expect("pipes could not be used up: see what python3 said");
        Self { uid, holder }
    }

    /// Starts `s2ds` as that user, who may not be able to read where it was built.
    fn s2ds(&self, config: &Path) -> Program {
        let folder = config.parent().expect("a file has a folder");
        let binary = folder.join("s2ds");
        std::fs::copy(env!("CARGO_BIN_EXE_s2ds"), &binary).expect("copy");
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut command = Command::new(binary);
        if geteuid().is_root() {
            for path in [folder, config, &folder.join("psk")] {
                chown(path, Some(self.uid), Some(self.uid)).expect("chown");
            }
            command.uid(self.uid).gid(self.uid);
        }
        let program = Program::start(command.arg(config));
        program.wait_for("s2ds: ready");
        program
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It ends by itself.
        drop(self.holder.wait());
    }
}

async fn everything_arrives(lane: &Lane) {
    let (mut dice, mut plans) = (Dice::new(5), JoinSet::new());
    for (client, server) in lane.connect_many(64).await {
        let (plan, rules) = (Plan::random(&mut dice, 1 << 20), lane.rules);
        plans.spawn(async move { plan.run(client, server, rules).await });
    }
    while let Some(ran) = plans.join_next().await {
        ran.expect("no panic").unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_user_has_used_up_its_own() {
    let poor = Poor::new();
    for mode in [Mode::Plain, Mode::UnixBetween, Mode::Tunnel("confidentiality")] {
        let lane = Lane::open_by(mode, "", |config| poor.s2ds(config));
        let holdings = lane.holdings();
        everything_arrives(&lane).await;
        lane.holds_no_more_than(&holdings);
    }
}

/// There are descriptors for the sockets of so many connections, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_descriptors_are_left_for_sockets_only() {
    const CONNECTIONS: u64 = 20;
    const SPARE: u64 = 4;
    for mode in [Mode::Plain, Mode::UnixBetween, Mode::Tunnel("confidentiality")] {
        let lane = Lane::open(mode, "");
        for program in &lane.programs {
            let needed = Holdings::of(program).descriptors as u64 + 2 * CONNECTIONS + SPARE;
            let limit = Command::new("prlimit")
                .args([format!("--pid={}", program.id()), format!("--nofile={needed}:{needed}")])
                .status();
            assert!(limit.expect("prlimit").success());
        }
        let ends: Vec<_> = lane.connect_many(CONNECTIONS).await.into_iter().map(Arc::new).collect();
        for size in [1, 70_000, 4 << 20] {
            let mut moving = JoinSet::new();
            for (ends, seed) in ends.iter().cloned().zip(0..) {
                moving.spawn(async move {
                    let ((client, server), pattern) = (&*ends, Pattern(seed));
                    tokio::try_join!(
                        send(client, pattern, size),
                        receive(server, pattern, size),
                        send(server, pattern, size),
                        receive(client, pattern, size)
                    )
                });
            }
            while let Some(moved) = moving.join_next().await {
                moved.expect("no panic").unwrap_or_else(|fault| panic!("{mode:?}: {fault}"));
            }
        }
    }
}
