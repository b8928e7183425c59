//! Models that are removed while they are asked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use autoscaler_demand::ReplicaRemoving;
use autoscaler_demand::autoscaler_message::Kind as Told;
use autoscaler_demand::gateway_message::Kind as Tell;
use gateway::{DemandTarget, ModelRoute};
use support::autoscaler::FakeAutoscaler;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, scaled_model, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whose deadline ends nothing within a test.
fn patient(model: ModelRoute) -> ModelRoute {
    ModelRoute { timeout: 10 * PATIENCE, ..model }
}

/// A request of which a part of the body has been read: it has found its model.
async fn half_a_request(gateway: &TestGateway) -> TcpStream {
    let mut client = TcpStream::connect(gateway.addr).await.unwrap();
    let head = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n";
    client.write_all(format!("{head}12345").as_bytes()).await.unwrap();
    eventually("half of it is read", || gateway.metric("kferving_gateway_reading_bytes", &[]) == 5.0).await;
    client
}

/// What comes back for the other half.
async fn finish(mut client: TcpStream) -> String {
    client.write_all(b"67890").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_model_goes_before_it_has_arrived_is_answered_at_once() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    for model in [static_model("digits", &[(wrapper.addr, 1)]), scaled_model("digits")] {
        let gateway = TestGateway::start(vec![patient(model)]);
        let client = half_a_request(&gateway).await;
        gateway.gateway.set_models(Vec::new());
        let answer = finish(client).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("was removed"), "{answer}");
        gateway.settles().await;
        gateway.stop().await;
    }
    assert_eq!(wrapper.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_whose_model_goes_is_answered_at_once() {
    let gateway = TestGateway::start(vec![patient(scaled_model("digits"))]);
    let (client, url) = (TestClient::http1(), gateway.url("/v2/models/digits/infer"));
    let held = tokio::spawn(async move { client.post(&url, "x").await });
    eventually("it is held", || gateway.metric("kferving_gateway_held_requests", &[]) == 1.0).await;
    gateway.gateway.set_models(Vec::new());
    assert_eq!(held.await.unwrap().header("kferving-reason"), "model-not-found");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_goes_and_then_its_replica_leave_no_request_behind() {
    let directory = tempfile::tempdir().unwrap();
    let autoscaler = FakeAutoscaler::start(directory.path().join("demand.sock"));
    let gateway = TestGateway::start(vec![patient(scaled_model("digits"))]);
    gateway.gateway.connect_demand(
        DemandTarget::Unix(autoscaler.socket.clone()),
        "gateway-1",
        gateway.shutdown.clone(),
    );
    eventually("hello", || !autoscaler.heard().is_empty()).await;
    autoscaler.welcome(true).await;
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("digits", "u1", wrapper.addr, 4).await;
    let replicas = || gateway.gateway.snapshot().iter().map(|model| model.replicas.len()).sum::<usize>();
    eventually("the replica is there", || replicas() == 1).await;
    let client = half_a_request(&gateway).await;
    gateway.gateway.set_models(Vec::new());
    let removing = ReplicaRemoving { revision: "vision/digits-cpu-00001".to_owned(), uid: "u1".to_owned() };
    autoscaler.say(Told::Removing(removing)).await;
    eventually("the removal is acknowledged", || {
        autoscaler.heard().iter().any(|tell| matches!(tell, Tell::RemovalAck(_)))
    })
    .await;
    let answer = finish(client).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("was removed"), "{answer}");
    assert_eq!(wrapper.requests(), 0);
    gateway.settles().await;
    gateway.stop().await;
}
