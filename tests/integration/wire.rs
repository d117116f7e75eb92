//! The wire contract: both names of the service, health, reflection, and limits.

use scistream_proto as wire;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use wire::control_client::ControlClient;
use wire::sci_stream_control_client::SciStreamControlClient;

use crate::support::app::First;
use crate::support::raw::{channel, new_uid};
use crate::support::{App, Raw, TestGateway, exchange};

const SERVICES: [&str; 2] = ["scistream.Control", "scistream.SciStreamControl"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drafts_name_of_the_service_does_the_same() {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let draft = SciStreamControlClient::new(channel(&gateway).await);
    let uid = new_uid();
    let half = async |role: &str, announced: Vec<String>, targets: Vec<String>| {
        let request = wire::Request {
            uid: uid.clone(),
            role: role.into(),
            num_conn: 1,
            rate: 10_000,
            lifetime_seconds: 0,
            ..wire::Request::default()
        };
        let hello = wire::Hello { uid: uid.clone(), prod_listeners: announced, role: role.into() };
        let (mut one, mut other) = (draft.clone(), draft.clone());
        let (reserved, announced) = tokio::join!(one.request_stream(request), other.hello(hello));
        let announced = announced.expect("HELLO is taken").into_inner();
        let update = wire::UpdateTargets { uid: uid.clone(), remote_listeners: targets, role: role.into() };
        let serving = one.update_targets(update).await.expect("it serves").into_inner();
        let reserved = reserved.expect("REQ is answered").into_inner();
        assert_eq!(serving.listeners, reserved.listeners);
        (reserved, announced)
    };
    let (prod, announced) = half("PROD", vec![app.endpoint()], vec![]).await;
    assert_eq!((announced.message.as_str(), announced.listeners.len()), ("Sending Prod listeners...", 0));
    assert_eq!(prod.prod_listeners, [app.endpoint()]);
    let (cons, announced) = half("CONS", vec![], prod.listeners.clone()).await;
    assert_eq!(announced.listeners, cons.listeners);
    exchange(&cons.listeners[0], First::Consumer).await;
    draft.clone().release_stream(wire::Release { uid }).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_names_share_their_sessions() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let mut deployed = ControlClient::new(channel(&gateway).await);
    let mut draft = SciStreamControlClient::new(channel(&gateway).await);
    let uid = new_uid();
    let request = wire::Request {
        uid: uid.clone(),
        role: "PROD".into(),
        num_conn: 1,
        rate: 0,
        lifetime_seconds: 0,
        ..wire::Request::default()
    };
    let endpoints = vec!["127.0.0.1:5300".to_owned()];
    let hello = wire::Hello { uid: uid.clone(), prod_listeners: endpoints.clone(), role: "PROD".into() };
    let (reserved, announced) = tokio::join!(deployed.req(request), draft.hello(hello));
    announced.expect("HELLO is taken");
    assert_eq!(reserved.expect("REQ is answered").into_inner().prod_listeners, endpoints);
    let update = wire::UpdateTargets { uid: uid.clone(), remote_listeners: endpoints, role: "PROD".into() };
    draft.update_targets(update).await.expect("it serves");
    deployed.release(wire::Release { uid }).await.expect("released");
    gateway.assert_nothing_left();
}

/// Deployed clients say PROD for a CONS session, with the application's address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_clients_hello_for_the_consumer_is_understood() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let raw = Raw::connect(&gateway).await;
    let uid = new_uid();
    let wish = [format!("192.168.10.11:{}", gateway.port_range().end())];
    let (reserved, announced) = tokio::join!(raw.req(&uid, "CONS", 1, 10_000), raw.hello(&uid, "PROD", &wish));
    let port = format!("127.0.0.1:{}", gateway.port_range().end());
    assert_eq!(announced.expect("HELLO is taken").listeners, [port.as_str()]);
    assert_eq!(reserved.expect("REQ is answered").listeners, [port]);
    raw.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_of_both_services() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let mut health = HealthClient::new(channel(&gateway).await);
    for service in ["", SERVICES[0], SERVICES[1]] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect("known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(HealthCheckRequest { service: "scistream.Other".into() }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

/// The two versions of reflection have the same messages in packages of their own.
macro_rules! reflection {
    ($name:ident, $version:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let gateway = TestGateway::start(&["--ssl=False"]).await;
            let mut client = ServerReflectionClient::new(channel(&gateway).await);
            let ask = |what| ServerReflectionRequest { host: String::new(), message_request: Some(what) };
            let questions = [
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol("scistream.Control".into())),
                ask(MessageRequest::FileContainingSymbol("scistream.Nothing".into())),
            ];
            let stream = client.server_reflection_info(tokio_stream::iter(questions)).await.expect("it answers");
            let answers: Vec<_> = stream.into_inner().collect().await;
            let Some(Ok(MessageResponse::ListServicesResponse(list))) =
                answers[0].as_ref().map(|answer| answer.message_response.clone()).transpose()
            else {
                panic!("{answers:?}");
            };
            let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
            for service in SERVICES {
                assert!(names.contains(&service), "{names:?}");
            }
            let Some(Ok(MessageResponse::FileDescriptorResponse(files))) =
                answers[1].as_ref().map(|answer| answer.message_response.clone()).transpose()
            else {
                panic!("{answers:?}");
            };
            let text = String::from_utf8_lossy(&files.file_descriptor_proto[0]).into_owned();
            for word in ["prod_listeners", "remote_listeners", "num_conn", "RequestStream"] {
                assert!(text.contains(word), "{word} is not described");
            }
            let unknown = answers.get(2).is_some_and(|answer| match answer {
                Ok(answer) => matches!(answer.message_response, Some(MessageResponse::ErrorResponse(_))),
                Err(status) => status.code() == Code::NotFound,
            });
            assert!(unknown, "{answers:?}");
        }
    };
}

reflection!(reflection_describes_the_contract, v1);
reflection!(reflection_in_its_older_form_describes_the_contract, v1alpha);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_beyond_all_measure_is_refused_and_the_connection_goes_on() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let raw = Raw::connect(&gateway).await;
    let refused = raw.hello(&new_uid(), "PROD", &["a".repeat(1 << 20)]).await.expect_err("too large");
    assert_eq!(refused.code(), Code::OutOfRange, "{}", refused.message());
    raw.reserve(&new_uid(), "PROD", &["127.0.0.1:5300"]).await;
}
