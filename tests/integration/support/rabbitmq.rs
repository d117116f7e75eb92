//! A RabbitMQ of a test's own: its node, its port mapper, its folders and its ports are
//! nobody else's, and all of it ends with the test.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use super::application;
use super::ports::PortBlock;
use super::program::{Ended, Program};

/// Debian's own, which do not become another user as those in PATH do.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// A broker to come.
#[derive(Debug)]
pub struct RabbitMqPlan {
    ports: PortBlock,
    folder: TempDir,
}

/// A running broker.
#[derive(Debug)]
pub struct RabbitMq {
    // Ends first, while its port mapper is there.
    server: Program,
    _mapper: Program,
    environment: Vec<(String, String)>,
    plan: RabbitMqPlan,
}

impl RabbitMqPlan {
    pub fn new() -> Self {
        Self { ports: PortBlock::claim(), folder: TempDir::with_prefix("rabbitmq-").expect("a folder") }
    }

    fn address(&self, nth: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.range().start() + nth))
    }

    /// Where it will speak AMQP.
    pub fn amqp(&self) -> SocketAddr {
        self.address(0)
    }

    /// Where it will speak the stream protocol.
    pub fn streams(&self) -> SocketAddr {
        self.address(1)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let [distribution, mapper] = [2, 3].map(|nth| self.address(nth).port().to_string());
        // The port makes the name one that no other test's node has.
        let node = format!("broker-{}@localhost", self.amqp().port());
        let all = [
            ("HOME", path("home")),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("ERL_EPMD_PORT", mapper),
            ("RABBITMQ_NODENAME", node),
            ("RABBITMQ_DIST_PORT", distribution),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOGS", "-".into()),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".into()),
            // So that it is the process that we start, and not a child of that.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Starts it with these settings besides those of every test, and waits until it serves.
    pub async fn start(self, settings: &str) -> RabbitMq {
        let (amqp, streams) = (self.amqp(), self.streams());
        let text = format!("listeners.tcp.1 = {amqp}\nstream.listeners.tcp.1 = {streams}\n{settings}");
        fs::write(self.folder.path().join("rabbitmq.conf"), text).expect("written");
        fs::write(self.folder.path().join("enabled_plugins"), "[rabbitmq_stream].\n").expect("written");
        fs::create_dir(self.folder.path().join("home")).expect("a folder");
        let environment = self.environment();
        let mapper = self.address(3);
        let mut mapper_runs = application::start(&environment, &["epmd"]);
        mapper_runs.listens_on(mapper).await;
        let mut server = application::start(&environment, &[&format!("{PROGRAMS}/rabbitmq-server")]);
        // In this order.
        server.listens_on(self.amqp()).await;
        server.listens_on(self.streams()).await;
        RabbitMq { server, _mapper: mapper_runs, environment, plan: self }
    }
}

impl RabbitMq {
    pub fn amqp(&self) -> SocketAddr {
        self.plan.amqp()
    }

    pub fn server(&self) -> &Program {
        &self.server
    }

    /// Has it do what an operator asks for.
    pub async fn rabbitmqctl(&self, words: &[&str]) -> Ended {
        application::run(&self.environment, &[&[&*format!("{PROGRAMS}/rabbitmqctl")], words].concat()).await
    }
}
