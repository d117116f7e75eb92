//! A gateway that says where to log in, and notes what clients send it. It
//! carries no stream: where a client sends which token is seen here alone.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use scistream_proto as wire;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, empty};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use wire::control_server::{Control, ControlServer};
use wire::gateway::gateway_server::{Gateway, GatewayServer};
use wire::gateway::*;

/// A call that came: its name, and the metadata `authorization`.
pub type Call = (&'static str, String);

#[derive(Debug, Clone, Default)]
struct Service {
    logins: Vec<Login>,
    authentication: Vec<String>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// The running gateway. Ends with the test.
#[derive(Debug)]
pub struct TellingGateway {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    task: JoinHandle<()>,
}

impl TellingGateway {
    /// One that takes tokens of these logins.
    pub async fn start(logins: Vec<Login>) -> Self {
        Self::of_this_release(Service { logins, authentication: vec!["tokens".into()], ..Service::default() }).await
    }

    /// One that has no authentication.
    pub async fn open_to_all() -> Self {
        Self::of_this_release(Service::default()).await
    }

    /// One that knows only the calls of the deployed release.
    pub async fn deployed() -> Self {
        let service = Service::default();
        let server = Server::builder().add_service(ControlServer::new(service.clone()));
        Self::serve(service.calls.clone(), |listener| server.serve_with_incoming(listener)).await
    }

    async fn of_this_release(service: Service) -> Self {
        let server = Server::builder()
            .add_service(GatewayServer::new(service.clone()))
            .add_service(ControlServer::new(service.clone()));
        Self::serve(service.calls.clone(), |listener| server.serve_with_incoming(listener)).await
    }

    async fn serve<F>(calls: Arc<Mutex<Vec<Call>>>, serve: impl FnOnce(TcpListenerStream) -> F) -> Self
    where
        F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let serving = serve(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.expect("it serves") });
        Self { address, calls, task }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The calls since the last look.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().expect("nobody panics with it"))
    }
}

impl Drop for TellingGateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    fn note<T>(&self, name: &'static str, request: &Request<T>) {
        let sent = request.metadata().get("authorization").map_or("", |value| value.to_str().expect("text"));
        self.calls.lock().expect("nobody panics with it").push((name, sent.to_owned()));
    }
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this gateway carries no streams"))
}

#[tonic::async_trait]
impl Gateway for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn capabilities(
        &self,
        request: Request<CapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        self.note("capabilities", &request);
        let (logins, authentication) = (self.logins.clone(), self.authentication.clone());
        Ok(Response::new(CapabilitiesResponse { logins, authentication, ..CapabilitiesResponse::default() }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.note("list", &request);
        Ok(Response::new(ListResponse::default()))
    }

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<Session>, Status> {
        not_here()
    }

    async fn flows(&self, _: Request<FlowsRequest>) -> Result<Response<FlowsResponse>, Status> {
        not_here()
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.note("watch", &request);
        Ok(Response::new(Box::pin(empty())))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<ListResponse>, Status> {
        not_here()
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        not_here()
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        not_here()
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn req(&self, request: Request<wire::Request>) -> Result<Response<wire::Response>, Status> {
        self.note("req", &request);
        let listeners = vec!["127.0.0.1:5100".into()];
        Ok(Response::new(wire::Response { listeners, ..wire::Response::default() }))
    }

    async fn hello(&self, request: Request<wire::Hello>) -> Result<Response<wire::AppResponse>, Status> {
        self.note("hello", &request);
        Ok(Response::new(wire::AppResponse::default()))
    }

    async fn update(&self, request: Request<wire::UpdateTargets>) -> Result<Response<wire::Response>, Status> {
        self.note("update", &request);
        Ok(Response::new(wire::Response::default()))
    }

    async fn release(&self, request: Request<wire::Release>) -> Result<Response<wire::Response>, Status> {
        self.note("release", &request);
        Ok(Response::new(wire::Response::default()))
    }
}
