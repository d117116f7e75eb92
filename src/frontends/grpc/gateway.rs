//! The gateway service: list, flows, watch, renew, release, drain, capabilities.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{select, unfold};
use scistream_proto::gateway as wire;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt, iter, once};
use tonic::{Request, Response, Status};
use wire::gateway_server::Gateway;

use super::Reception;
use super::accept::Peer;
use super::control::answer;
use super::gatekeeper::{Ticket, requester};
use super::parse;
use super::status::no_longer_let_in;
use crate::auth::{Caller, Login};
use crate::engine::{Engine, Listed, Refusal, Requester, SessionEvent, SessionView, milliseconds};
use crate::flows::{Flow, Ledger, Traffic};
use crate::session::{Bandwidth, Health, Protection, TcpWishes};
use crate::supervisor::{ProcessView, Usage};

/// Serves the gateway service from an engine.
#[derive(Clone)]
pub(super) struct GatewayService {
    pub(super) engine: Engine,
    pub(super) reception: watch::Receiver<Reception>,
}

impl GatewayService {
    fn session(&self, view: &SessionView) -> wire::Session {
        let role = view.session.role;
        wire::Session {
            id: view.session.to_string(),
            role: role.to_string(),
            state: view.state.to_string(),
            degraded: match &view.health {
                Health::Healthy => String::new(),
                Health::Degraded { why } => why.clone(),
            },
            listeners: self.reception.borrow().manners.told(role, &view.listeners),
            targets: view.targets.iter().map(ToString::to_string).collect(),
            protection: view.protection.to_string(),
            revision: view.revision,
            created_ms: milliseconds(view.created),
            expires_ms: view.expires.map_or(0, milliseconds),
            sources: view.sources.networks().iter().map(ToString::to_string).collect(),
            owner: view.owner.to_string(),
            weakness: view.weakness.map(|weakness| weakness.to_string()).unwrap_or_default(),
            backend: view.backend.clone(),
            bandwidth: kilobytes(view.capacity.limit),
            rate: kilobytes(view.capacity.asked),
            weight: view.capacity.weight.get().into(),
            share: kilobytes(view.share),
            tcp: (view.tcp != TcpWishes::default()).then(|| tcp(&view.tcp)),
            traffic: view.traffic.as_ref().map(traffic),
            end: view.end.clone().unwrap_or_default(),
            processes: vec![],
        }
    }

    fn listed(&self, listed: &Listed) -> wire::Session {
        let processes = listed.processes.iter().map(|(view, usage)| process(view, *usage)).collect();
        wire::Session { processes, ..self.session(&listed.view) }
    }

    fn flows_of(&self, view: &SessionView, ledger: &Ledger) -> wire::SessionFlows {
        let flows = ledger.flows().map(|(listener, peer, measured)| flow(listener, peer, measured)).collect();
        wire::SessionFlows { session: Some(self.session(view)), flows }
    }

    fn event(&self, event: &SessionEvent) -> wire::Event {
        wire::Event {
            sequence: event.sequence,
            at_ms: milliseconds(event.at),
            what: event.what.clone(),
            session: Some(self.session(&event.session)),
        }
    }

    async fn renewed(&self, by: &Requester, message: wire::RenewRequest) -> Result<wire::ListResponse, Refusal> {
        let lifetime = parse::seconds(message.lifetime_seconds);
        let views = self.engine.renew(by, &parse::uid(&message.uid)?, lifetime).await?;
        Ok(wire::ListResponse { sessions: views.iter().map(|view| self.session(view)).collect(), sequence: 0 })
    }

    async fn released(&self, by: &Requester, message: wire::ReleaseRequest) -> Result<wire::ReleaseResponse, Refusal> {
        let released = self.engine.release(by, &parse::uid(&message.uid)?, parse::reason(&message.reason)).await?;
        Ok(wire::ReleaseResponse { released: number(released) })
    }
}

/// How often it is looked whether a watcher would be let in still.
const CHECK_PERIOD: Duration = Duration::from_secs(30);

/// The events, for as long as the watcher would be let in.
fn while_it_holds(
    events: impl Stream<Item = Result<wire::Event, Status>> + Send + 'static,
    ticket: Ticket,
) -> impl Stream<Item = Result<wire::Event, Status>> + Send {
    let events = events.map(Some).chain(once(None));
    let checks = unfold(ticket, |ticket| async move {
        loop {
            sleep(CHECK_PERIOD).await;
            if !ticket.holds().await {
                return Some((Some(Err(no_longer_let_in())), ticket));
            }
        }
    });
    // Over when the events are, or at the first fault, after which gRPC sends nothing.
    select(events, checks).take_while(Option::is_some).filter_map(|event| event)
}

type Events = Pin<Box<dyn Stream<Item = Result<wire::Event, Status>> + Send>>;

#[tonic::async_trait]
impl Gateway for GatewayService {
    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let caller = requester(&request)?.caller;
        let (listed, sequence) = self.engine.list(&caller).await;
        let mut sessions: Vec<_> = listed.iter().map(|listed| self.listed(listed)).collect();
        if request.into_inner().ended {
            sessions.extend(self.engine.ended(&caller).iter().map(|view| self.session(view)));
        }
        Ok(Response::new(wire::ListResponse { sessions, sequence }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::Session>, Status> {
        let by = requester(&request)?;
        let found = self.engine.get(&by.caller, &request.into_inner().id).await;
        answer(found.map(|listed| self.listed(&listed)).ok_or(Refusal::NoSuchSession))
    }

    async fn flows(&self, request: Request<wire::FlowsRequest>) -> Result<Response<wire::FlowsResponse>, Status> {
        let mut all = self.engine.flows(&requester(&request)?.caller);
        let id = request.into_inner().id;
        all.retain(|(view, _)| id.is_empty() || view.session.is_named(&id));
        if all.is_empty() && !id.is_empty() {
            return answer(Err(Refusal::NoSuchSession));
        }
        let sessions = all.iter().map(|(view, ledger)| self.flows_of(view, ledger)).collect();
        Ok(Response::new(wire::FlowsResponse { sessions }))
    }

    type WatchStream = Events;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Events>, Status> {
        let by = requester(&request)?;
        let ticket = request.extensions().get::<Ticket>().cloned();
        let wire::WatchRequest { after, id } = request.into_inner();
        let subscription = match self.engine.watch(&by.caller, after) {
            Ok(subscription) => subscription,
            Err(refusal) => return answer(Err(refusal)),
        };
        let live = BroadcastStream::new(subscription.live).map(|event| {
            // A watcher that was too slow comes back with the number of the last event that it saw.
            event.map_err(|_| super::status::status(&Refusal::EventsGone))
        });
        let service = self.clone();
        let concerns = subscription.concerns;
        let wanted =
            move |event: &SessionEvent| concerns(event) && (id.is_empty() || event.session.session.is_named(&id));
        let events = iter(subscription.missed.into_iter().map(Ok)).chain(live).filter_map(move |event| match event {
            Ok(event) => wanted(&event).then(|| Ok(service.event(&event))),
            Err(status) => Some(Err(status)),
        });
        Ok(Response::new(match ticket {
            Some(ticket) => Box::pin(while_it_holds(events, ticket)),
            None => Box::pin(events),
        }))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let by = requester(&request)?;
        answer(self.renewed(&by, request.into_inner()).await)
    }

    async fn release(&self, request: Request<wire::ReleaseRequest>) -> Result<Response<wire::ReleaseResponse>, Status> {
        let by = requester(&request)?;
        answer(self.released(&by, request.into_inner()).await)
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainResponse>, Status> {
        let by = requester(&request)?;
        let here = request.extensions().get::<Peer>().is_some_and(Peer::is_on_this_host);
        let wait = Duration::from_secs(request.into_inner().wait_seconds);
        let drained = self.engine.drain_for(&by, here, wait).await;
        answer(drained.map(|released| wire::DrainResponse { released: number(released) }))
    }

    async fn capabilities(
        &self,
        request: Request<wire::CapabilitiesRequest>,
    ) -> Result<Response<wire::CapabilitiesResponse>, Status> {
        let overview = self.engine.overview();
        let manners = self.reception.borrow().manners.clone();
        let authentication = &manners.authentication;
        let for_strangers = wire::CapabilitiesResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            authentication: authentication.ways.clone(),
            logins: authentication.logins.iter().map(login).collect(),
            ..wire::CapabilitiesResponse::default()
        };
        // What a gateway has, and how full it is, is for those whom it knows.
        if !authentication.ways.is_empty() && requester(&request)?.caller == Caller::Anyone {
            return Ok(Response::new(for_strangers));
        }
        let (site, settings) = (&overview.site, &overview.settings);
        let backend = |manifest: &std::sync::Arc<crate::backend::Manifest>| {
            let found = site.programs.find(manifest);
            wire::Backend {
                name: manifest.name.clone(),
                summary: manifest.summary.clone(),
                version: found.as_ref().map(|program| program.version.clone()).unwrap_or_default(),
                missing: found.err().map(|e| e.to_string()).unwrap_or_default(),
                chained: !manifest.speaks_psk(),
                protections: Protection::ALL
                    .iter()
                    .filter(|protection| site.can_protect(manifest, **protection))
                    .map(ToString::to_string)
                    .collect(),
                filters_sources: manifest.abilities.source_filter,
                limits_bandwidth: manifest.abilities.bandwidth_limit,
            }
        };
        Ok(Response::new(wire::CapabilitiesResponse {
            backends: site.catalog.all().map(backend).collect(),
            backend: site.backend.name.clone(),
            terminator: site.terminator.name.clone(),
            protection: settings.protection.to_string(),
            first_port: (*overview.ports.start()).into(),
            last_port: (*overview.ports.end()).into(),
            free_ports: number(overview.free_ports),
            sessions: number(overview.sessions),
            max_sessions: number(settings.max_sessions),
            max_listeners: manners.max_listeners.into(),
            max_lifetime_seconds: settings.max_lifetime.map_or(0, |most| most.as_secs()),
            draining: overview.draining,
            enforces_rate: settings.bandwidth.enforce_rate,
            max_bandwidth: kilobytes(settings.bandwidth.most),
            gateway_bandwidth: kilobytes(settings.bandwidth.gateway),
            max_buffer: settings.tcp.max_buffer.unwrap_or_default(),
            congestions: settings.tcp.congestions.iter().map(ToString::to_string).collect(),
            ..for_strangers
        }))
    }
}

fn login(login: &Login) -> wire::Login {
    wire::Login {
        provider: login.provider.clone(),
        kind: if login.globus { "globus" } else { "oidc" }.into(),
        issuer: login.issuer.clone(),
        client_id: login.client_id.clone(),
        scopes: login.scopes.clone(),
        resource: login.resource.clone(),
        ..globus_endpoints(login)
    }
}

/// Globus names not all of its endpoints in its metadata, and shows the code on a page.
fn globus_endpoints(login: &Login) -> wire::Login {
    let at = |path: &str| format!("{}/v2/{path}", login.issuer);
    match login.globus {
        false => wire::Login::default(),
        true => wire::Login {
            authorization_endpoint: at("oauth2/authorize"),
            token_endpoint: at("oauth2/token"),
            revocation_endpoint: at("oauth2/token/revoke"),
            paste_redirect_uri: at("web/auth-code"),
            ..wire::Login::default()
        },
    }
}

/// 0 is no bound.
fn kilobytes(bandwidth: Option<Bandwidth>) -> u32 {
    bandwidth.map_or(0, Bandwidth::kilobytes_per_second)
}

fn tcp(own: &TcpWishes) -> wire::Tcp {
    wire::Tcp {
        send_buffer: own.send_buffer.unwrap_or_default(),
        receive_buffer: own.receive_buffer.unwrap_or_default(),
        congestion: own.congestion.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn traffic(traffic: &Traffic) -> wire::Traffic {
    wire::Traffic {
        bytes_in: traffic.total.bytes_in,
        bytes_out: traffic.total.bytes_out,
        connections: traffic.connections,
        connections_ever: traffic.connections_ever,
        retransmits: traffic.total.retransmits,
        in_per_second: traffic.rate.bytes_in,
        out_per_second: traffic.rate.bytes_out,
        rtt_us: microseconds(traffic.rtt),
    }
}

fn flow(listener: SocketAddr, peer: SocketAddr, flow: &Flow) -> wire::Flow {
    wire::Flow {
        listener: listener.to_string(),
        peer: peer.to_string(),
        bytes_in: flow.counters.bytes_in,
        bytes_out: flow.counters.bytes_out,
        retransmits: flow.counters.retransmits,
        in_per_second: flow.rate.bytes_in,
        out_per_second: flow.rate.bytes_out,
        rtt_us: microseconds(flow.rtt),
        congestion_window: flow.congestion_window,
        since_ms: flow.since_ms,
    }
}

fn process(view: &ProcessView, usage: Option<Usage>) -> wire::Process {
    let running = view.running.as_ref();
    wire::Process {
        backend: view.backend.clone(),
        version: view.version.clone().unwrap_or_default(),
        pid: running.and_then(|running| u32::try_from(running.pid().as_raw()).ok()).unwrap_or_default(),
        started_ms: running.and_then(|running| running.started).map_or(0, milliseconds),
        ready_after_ms: running.and_then(|running| running.ready_after).map(whole_milliseconds),
        restarts: view.restarts,
        last_end: view.last_end.clone().unwrap_or_default(),
        cpu_ms: usage.map(|usage| whole_milliseconds(usage.cpu)),
        memory_bytes: usage.map(|usage| usage.memory),
    }
}

fn whole_milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

fn microseconds(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
