//! Calls of gRPC that fail: over HTTP they look like successes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use gateway::ModelRoute;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, static_model};

const EJECTIONS: &str = "kferving_gateway_ejections_total";
const REQUESTS: &str = "kferving_gateway_requests_total";

/// A call of ModelInfer for `digits`.
fn infer(gateway: &TestGateway) -> Request<Full<Bytes>> {
    Request::post(gateway.url("/inference.GRPCInferenceService/ModelInfer"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from(Bytes::from_static(b"\0\0\0\0\x08\x0a\x06digits")))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_replica_refused_is_picked_again() {
    for reason in ["replica-busy", "draining", "shutting-down"] {
        let refusing = FakeWrapper::start(Behaviour::RefuseCall("14", reason));
        let serving = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
        let gateway = TestGateway::start(vec![static_model("digits", &[(refusing.addr, 1), (serving.addr, 1)])]);
        let client = TestClient::http2();
        let mut served = 0;
        while refusing.requests() == 0 && served < 200 {
            let answer = client.send(infer(&gateway)).await;
            assert_eq!(answer.header("grpc-status"), "", "{reason}: {answer:?}");
            served += 1;
        }
        assert!(refusing.requests() > 0, "{reason}: the refusing replica was never picked");
        gateway.settles().await;
        assert!(gateway.metric("kferving_gateway_retries_total", &[]) >= 1.0, "{reason}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_fail_eject_their_replica_and_show_no_service_time() {
    for behaviour in [Behaviour::RefuseCall("13", "internal"), Behaviour::FailCall("13")] {
        let replica = FakeWrapper::start(behaviour);
        let gateway = TestGateway::start(vec![static_model("digits", &[(replica.addr, 1)])]);
        let client = TestClient::http2();
        for failures in 1..=5 {
            assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0, "before failure {failures}");
            assert_eq!(client.send(infer(&gateway)).await.status, 200);
            gateway.settles().await;
        }
        assert_eq!(gateway.metric(EJECTIONS, &[]), 1.0);
        assert_eq!(gateway.metric(REQUESTS, &[("code", "500")]), 5.0, "counted as the gateway's own failures are");
        assert!(!gateway.gateway.explain("vision", "digits", 1).unwrap().devices[0].measured);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_caller_got_wrong_keeps_its_reason_and_speaks_against_nobody() {
    let replica = FakeWrapper::start(Behaviour::RefuseCall("3", "bad-request"));
    let gateway = TestGateway::start(vec![static_model("digits", &[(replica.addr, 1)])]);
    let client = TestClient::http2();
    for _ in 0..8 {
        let answer = client.send(infer(&gateway)).await;
        assert_eq!((answer.header("grpc-status"), answer.header("kferving-reason")), ("3", "bad-request"));
    }
    gateway.settles().await;
    assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0);
    assert_eq!(gateway.metric(REQUESTS, &[("code", "400"), ("reason", "bad-request")]), 8.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_calls_get_no_answer_is_used_no_more() {
    let replica = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let model = ModelRoute { timeout: Duration::from_secs(1), ..static_model("digits", &[(replica.addr, 4)]) };
    let gateway = TestGateway::with_settings(
        vec![model],
        gateway::GatewaySettings { namespace: None, threads: 1, ..gateway::GatewaySettings::default() },
    );
    let client = TestClient::http2();
    assert_eq!(client.send(infer(&gateway)).await.header("grpc-status"), "");
    assert_eq!(replica.connections(), 1);
    replica.behave(Behaviour::Silent);
    assert_eq!(client.send(infer(&gateway)).await.header("grpc-status"), "4");
    replica.behave(Behaviour::Echo(Duration::ZERO));
    assert_eq!(client.send(infer(&gateway)).await.header("grpc-status"), "");
    assert_eq!(replica.connections(), 2, "the silent one may be dead");
    gateway.settles().await;
    gateway.stop().await;
}

/// Calls over HTTP/2: the answer's bytes, and its trailers; of an answer that is nothing else, its headers.
async fn call(gateway: &TestGateway) -> (Bytes, HeaderMap) {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let calling = async {
        let (head, body) = client.request(infer(gateway)).await.unwrap().into_parts();
        let body = body.collect().await.expect("a call ends with trailers, not with a reset");
        (body.trailers().cloned().unwrap_or(head.headers), body.to_bytes())
    };
    let (trailers, bytes) = tokio::time::timeout(PATIENCE, calling).await.unwrap();
    (bytes, trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_begun_and_ends_early_says_why_in_its_trailers() {
    for (behaviour, status, code, reason) in
        [(Behaviour::EchoWithoutEnd, "4", "504", "deadline"), (Behaviour::EchoAndBreak, "14", "502", "replica-lost")]
    {
        let replica = FakeWrapper::start(behaviour.clone());
        let model = ModelRoute { timeout: Duration::from_secs(1), ..static_model("digits", &[(replica.addr, 1)]) };
        let gateway = TestGateway::start(vec![model]);
        let (bytes, trailers) = call(&gateway).await;
        // A reset may overtake what was sent before it (RFC 9113, section 6.4).
        let may_be_lost = matches!(behaviour, Behaviour::EchoAndBreak) && bytes.is_empty();
        assert!(bytes.len() == 13 || may_be_lost, "what had come is passed on: {bytes:?}");
        let trailer = |name: &str| trailers.get(name).map_or("", |value| value.to_str().unwrap());
        assert_eq!((trailer("grpc-status"), trailer("kferving-reason")), (status, reason), "{trailers:?}");
        assert!(!trailer("grpc-message").is_empty(), "{trailers:?}");
        gateway.settles().await;
        assert_eq!(gateway.metric(REQUESTS, &[("code", code), ("reason", reason)]), 1.0);
        assert_eq!(gateway.metric(REQUESTS, &[]), 1.0);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1_an_answer_that_ends_early_never_looks_complete() {
    let replica = FakeWrapper::start(Behaviour::EchoWithoutEnd);
    let model = ModelRoute { timeout: Duration::from_secs(1), ..static_model("digits", &[(replica.addr, 1)]) };
    let gateway = TestGateway::start(vec![model]);
    let outcome = TestClient::http1().try_send(infer(&gateway)).await;
    assert!(outcome.is_err(), "{outcome:?}");
    gateway.settles().await;
    gateway.stop().await;
}
