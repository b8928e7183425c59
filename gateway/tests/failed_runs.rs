//! Runs of the model that fail: by their inputs, or by their device.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use gateway::ModelRoute;
use gateway_policy::Device;
use http::{Request, StatusCode};
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, TestGateway, static_model};

const EJECTIONS: &str = "kferving_gateway_ejections_total";
const REQUESTS: &str = "kferving_gateway_requests_total";
const INFER: &str = "/v2/models/digits/infer";

const RUN_FAILED: Behaviour = Behaviour::Refuse(StatusCode::INTERNAL_SERVER_ERROR, "run-failed");

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_fail_wherever_they_run_eject_nobody() {
    let replicas = [FakeWrapper::start(RUN_FAILED), FakeWrapper::start(RUN_FAILED)];
    let gateway = TestGateway::start(vec![static_model("digits", &[(replicas[0].addr, 4), (replicas[1].addr, 4)])]);
    let client = TestClient::http1();
    for _ in 0..5 {
        for _ in 0..10 {
            let answer = client.post(&gateway.url(INFER), "x").await;
            assert_eq!((answer.status.as_u16(), answer.header("kferving-reason")), (500, "run-failed"));
        }
        // Somebody else's, answered by one replica or the other.
        replicas.iter().for_each(|replica| replica.behave(Behaviour::Echo(Duration::ZERO)));
        assert_eq!(client.post(&gateway.url(INFER), "x").await.status, StatusCode::OK);
        replicas.iter().for_each(|replica| replica.behave(RUN_FAILED));
    }
    gateway.settles().await;
    assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0);
    assert_eq!(gateway.metric(REQUESTS, &[("code", "500"), ("reason", "run-failed")]), 50.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_grpc_they_eject_nobody_either() {
    let replica = FakeWrapper::start(Behaviour::RefuseCall("13", "run-failed"));
    let gateway = TestGateway::start(vec![static_model("digits", &[(replica.addr, 1)])]);
    let client = TestClient::http2();
    for _ in 0..20 {
        let call = Request::post(gateway.url("/inference.GRPCInferenceService/ModelInfer"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::from(Bytes::from_static(b"\0\0\0\0\x08\x0a\x06digits")));
        let answer = client.send(call.unwrap()).await;
        assert_eq!((answer.header("grpc-status"), answer.header("kferving-reason")), ("13", "run-failed"));
    }
    gateway.settles().await;
    assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0);
    gateway.stop().await;
}

/// A model with a replica on CPU that takes longer than its objective, and one on GPU.
fn on_both_devices(cpu: &FakeWrapper, gpu: &FakeWrapper) -> ModelRoute {
    let mut model = static_model("digits", &[(cpu.addr, 8), (gpu.addr, 8)]);
    model.replicas[1].device = Device::Gpu;
    model.objective = Some(Duration::from_millis(20));
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_on_which_every_run_fails_is_left_for_the_other() {
    let (cpu, gpu) = (FakeWrapper::start(Behaviour::Echo(Duration::from_millis(30))), FakeWrapper::start(RUN_FAILED));
    let gateway = TestGateway::start(vec![on_both_devices(&cpu, &gpu)]);
    let client = TestClient::http1();
    let mut served = 0;
    for _ in 0..60 {
        let answer = client.post(&gateway.url(INFER), "x").await;
        served += u32::from(answer.status == StatusCode::OK);
    }
    assert!(served >= 30, "{served} of 60, {} on the device that fails", gpu.requests());
    gateway.settles().await;
    assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_that_a_device_still_gives_are_no_result() {
    let (cpu, gpu) = (FakeWrapper::start(Behaviour::Echo(Duration::from_millis(30))), FakeWrapper::start(RUN_FAILED));
    let gateway = TestGateway::start(vec![on_both_devices(&cpu, &gpu)]);
    let client = TestClient::http1();
    let mut served = 0;
    for _ in 0..60 {
        gpu.behave(Behaviour::Echo(Duration::ZERO));
        let statistics = client.get(&gateway.url("/v2/models/digits/stats")).await;
        assert_eq!(statistics.status, StatusCode::OK);
        gpu.behave(RUN_FAILED);
        let answer = client.post(&gateway.url(INFER), "x").await;
        served += u32::from(answer.status == StatusCode::OK);
    }
    assert!(served >= 30, "{served} of 60, {} on the device that fails", gpu.requests());
    gateway.stop().await;
}
