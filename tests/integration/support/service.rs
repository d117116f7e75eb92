//! Other people's services over HTTP, which say `ready PORT`, and end when
//! their standard input does, so none outlives its test.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scistream::http::HttpClient;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use url::form_urlencoded::Serializer;

const DEADLINE: Duration = Duration::from_secs(60);
const FORM: &str = "application/x-www-form-urlencoded";

/// A client of an authorization server, which proves itself with HTTP Basic.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub id: &'static str,
    pub secret: &'static str,
}

/// A running service. Killed, by id, when dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    port: u16,
    http: HttpClient,
    stderr: NamedTempFile,
}

impl Service {
    /// Starts a program, and waits until it is ready.
    pub async fn start(program: &Path, arguments: &[&str]) -> Self {
        assert!(program.exists(), "{} is missing: packaging/install-authorization-servers", program.display());
        let stderr = NamedTempFile::new().expect("a file");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.reopen().expect("a file"))
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = timeout(DEADLINE, said.next_line()).await.expect("it is ready in time").expect("text");
        let told = || std::fs::read_to_string(stderr.path()).unwrap_or_default();
        let port = line.as_deref().and_then(|line| line.strip_prefix("ready ")).and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it said {line:?} {}", told()));
        Self { child, port, http: HttpClient::new(None).expect("TLS"), stderr }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is, without a slash at the end.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        kill(Pid::from_raw(pid), signal).expect("our child");
    }

    /// Ends it; its port refuses connections from now on.
    pub async fn end(mut self) {
        self.child.kill().await.expect("our child");
    }

    /// What it answers to a form.
    pub async fn form(&self, path: &str, client: Option<Client>, fields: &[(&str, &str)]) -> Response<Bytes> {
        self.post(path, client, form(fields), FORM).await
    }

    /// What it answers to a JSON object.
    pub async fn json(&self, path: &str, asked: &Value) -> Response<Bytes> {
        self.post(path, None, asked.to_string(), "application/json").await
    }

    async fn post(&self, path: &str, client: Option<Client>, body: String, kind: &str) -> Response<Bytes> {
        let mut request = Request::post(format!("{}/{path}", self.base())).header(CONTENT_TYPE, kind);
        if let Some(Client { id, secret }) = client {
            let basic = openssl::base64::encode_block(format!("{id}:{secret}").as_bytes());
            request = request.header(AUTHORIZATION, format!("Basic {basic}"));
        }
        let request = request.body(Bytes::from(body)).expect("a request");
        self.http.call(request).await.unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.stderr.path()).unwrap_or_default();
            eprintln!("--- the service on port {}\n{said}", self.port);
        }
    }
}

/// Fields as a form or a query has them.
pub fn form(fields: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The JSON of an answer.
pub fn parsed(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

/// The access token of a token endpoint's answer.
pub fn access_token(answer: &Value) -> String {
    answer["access_token"].as_str().unwrap_or_else(|| panic!("no token came: {answer}")).to_owned()
}
