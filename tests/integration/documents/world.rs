//! The two facilities of the documents: gateways, applications and files under the names
//! that the documents use.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use regex::Regex;
use scistream::session::{Role, Uid};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::root;
use crate::support::command::{Ran, run};
use crate::support::gateway::S2CS;
use crate::support::ports::PortBlock;
use crate::support::program::Program;
use crate::support::rabbitmq::{RabbitMq, RabbitMqPlan};
use crate::support::tunnel::{ask, open_cons, open_prod};
use crate::support::{App, TestGateway, Tunnel};

/// Where the documents' gateways and users are.
pub struct World {
    /// gw-a.example.org.
    pub prod: TestGateway,
    /// gw-b.example.org.
    pub cons: TestGateway,
    /// Whatever listens at the producer's.
    pub app: App,
    /// Where users and operators type.
    pub folder: TempDir,
    /// For gateways of the commands' own, and for servers.
    pub ports: PortBlock,
    /// What was exported for the programs that follow.
    pub exported: Vec<(String, String)>,
    broker: Option<RabbitMq>,
}

/// A REQ that waits for its HELLO, in the background, and then sends UPDATE.
pub struct Waiting(JoinHandle<()>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl World {
    pub async fn new() -> Self {
        let prod = TestGateway::start(&[]).await;
        let cons = TestGateway::start(&[]).await;
        let folder = TempDir::with_prefix("documents-").expect("a folder");
        let world = Self {
            prod,
            cons,
            app: App::start().await,
            folder,
            ports: PortBlock::claim(),
            exported: vec![],
            broker: None,
        };
        world.lay_out().await;
        world
    }

    /// The files that commands name.
    async fn lay_out(&self) {
        let certificates = [("a.crt", &self.prod), ("b.crt", &self.cons)];
        let mut both = String::new();
        for (name, gateway) in certificates {
            let text = fs::read_to_string(gateway.certificate()).expect("a certificate");
            self.file(name, &text);
            both += &text;
        }
        // What users have who name none.
        self.file("server.crt", &both);
        self.file("gateway/globus.secret", "secret");
        self.file("secret", "secret");
        self.make_certificate(&self.folder.path().join("gateway")).await;
        for example in ["socat", "envoy"] {
            let theirs = root().join("packaging/doc/examples").join(example);
            let read = |name: &str| fs::read_to_string(theirs.join(name)).expect("an example");
            self.file(&format!("site/backends/{example}/backend.toml"), &read("backend.toml"));
            let template = format!("{example}.pl.tera");
            self.file(&format!("site/templates/{template}"), &read(&template));
        }
    }

    async fn make_certificate(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        run(S2CS, &["cert", "--host", "localhost", "--ip", "127.0.0.1"], folder).await.succeeded();
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
        fs::write(&path, text).expect("written");
        path
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A folder with a certificate and its key, where operators start gateways.
    pub fn gateway_folder(&self) -> PathBuf {
        self.folder.path().join("gateway")
    }

    /// Names and addresses of the documents as they are here.
    pub fn here(&self, text: &str) -> String {
        let app = self.app.endpoint();
        let target = Regex::new(r"\b(?:daq|broker)[12]?:[0-9]+").expect("a pattern");
        let text = target.replace_all(text, app.as_str());
        text.replace("gw-a.example.org:5000", &self.prod.address().to_string())
            .replace("gw-b.example.org:5000", &self.cons.address().to_string())
    }

    /// A configuration file of the documents as it is here, shown to s2cs.
    pub async fn check(&self, text: &str) -> Ran {
        let file = self.configuration(text);
        let file = file.display().to_string();
        run(S2CS, &["check", "--config", &file], &self.gateway_folder()).await
    }

    /// Writes such a file.
    pub fn configuration(&self, text: &str) -> PathBuf {
        let range = self.ports.range();
        let mut text = self.operators(text);
        // What a piece of a file leaves to the rest of it.
        for (key, rest) in [
            ("port =", format!("port = {}\n", range.start())),
            ("port_range", format!("port_range = \"{}-{}\"\n", range.start() + 1, range.end())),
            ("state_dir", format!("state_dir = \"{}\"\n", self.path("gateway/state"))),
            ("site_dir", format!("site_dir = \"{}\"\n", self.path("site"))),
        ] {
            let said = text.contains(key) || key == "port =" && text.contains("listen =");
            if !said {
                text = format!("{rest}{text}");
            }
        }
        self.file("gateway/s2cs.toml", &text)
    }

    /// What operators write: addresses of this host, ports that are free, files that are there.
    pub fn operators(&self, text: &str) -> String {
        let range = self.ports.range();
        let mut text = text.to_owned();
        for (theirs, ours) in [
            ("192.0.2.1:5000", format!("127.0.0.1:{}", range.start())),
            ("192.0.2.1", "127.0.0.1".into()),
            ("\"10.0.0.1\"", "\"127.0.0.2\"".into()),
            ("5100-5200", format!("{}-{}", range.start() + 1, range.end())),
            ("/etc/scistream/secret", self.path("secret")),
            ("/etc/scistream/server", self.path("gateway/server")),
            ("/etc/scistream/s2cs.toml", self.path("gateway/s2cs.toml")),
            ("/etc/scistream/", self.path("site/")),
            ("/var/log/scistream/", self.path("")),
            ("/run/scistream/", self.path("")),
        ] {
            text = text.replace(theirs, &ours);
        }
        text
    }

    /// A tunnel for commands that need one.
    pub async fn tunnel(&self) -> Tunnel {
        Tunnel::open(&self.prod, &self.cons, &self.app.endpoint(), 1).await
    }

    /// The producer's half alone, with its listeners.
    pub async fn half(&self, target: &str) -> (Uid, Vec<String>) {
        let uid = Uid::random().expect("randomness");
        let half = open_prod(&uid, &self.prod, &target.parse().expect("an endpoint"), 1).await;
        (uid, half.listeners)
    }

    /// The consumer's end of a tunnel to `target`.
    pub async fn way_to(&self, target: SocketAddr) -> (Uid, SocketAddr) {
        let (uid, listeners) = self.half(&target.to_string()).await;
        let half = open_cons(&uid, &self.cons, listeners, 1).await;
        (uid, half.listeners[0].parse().expect("an address"))
    }

    /// A server at the producer's, on a port of ours.
    pub async fn server(&self, nth: u16, program: &str, arguments: &[&str]) -> (Program, SocketAddr) {
        let port = self.ports.range().start() + nth;
        let words: Vec<_> = arguments.iter().map(|word| word.replace("PORT", &port.to_string())).collect();
        let mut server = Program::start(program, &words.iter().map(String::as_str).collect::<Vec<_>>());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        server.listens_on(address).await;
        (server, address)
    }

    /// The broker of the documents, from the first time that it is asked for.
    pub async fn broker(&mut self) -> &RabbitMq {
        let broker = match self.broker.take() {
            Some(broker) => broker,
            None => RabbitMqPlan::new().start("").await,
        };
        self.broker.insert(broker)
    }

    /// A user's REQ at either gateway, which waits for the HELLO of a command.
    pub async fn request(&self, uid: &Uid, role: Role, onward: Vec<String>) -> Waiting {
        let gateway = match role {
            Role::Prod => self.prod.client().await,
            Role::Cons => self.cons.client().await,
        };
        let ask = ask(uid, role, 1, vec![]);
        Waiting(tokio::spawn(async move {
            let answer = gateway.request(&ask).await.expect("REQ is answered");
            let targets = if role == Role::Prod { answer.prod_listeners } else { onward };
            drop(ask.start(&gateway, answer.listeners, targets).await.expect("UPDATE is answered"));
        }))
    }

    /// Gives back whatever a UID holds.
    pub async fn give_back(&self, uid: &str) {
        let Ok(uid) = Uid::parse(uid) else { return };
        for gateway in [&self.prod, &self.cons] {
            // At most one of them may know nothing of it.
            drop(gateway.client().await.release(&uid).await);
        }
    }
}
