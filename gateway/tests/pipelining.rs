//! Clients that send their next request before they have the last answer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use gateway::ModelRoute;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestGateway, eventually, scaled_model, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Of a request to the model with this body.
fn request(body: &str) -> String {
    let length = body.len();
    format!("POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn connect(gateway: &TestGateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Beyond any patience of a test: a deadline ends nothing here.
fn patient(model: ModelRoute) -> ModelRoute {
    ModelRoute { timeout: 10 * PATIENCE, ..model }
}

async fn one_has_left(gateway: &TestGateway) {
    eventually("one is counted as gone", || {
        gateway.metric("kferving_gateway_requests_total", &[("code", "499"), ("reason", "client-gone")]) == 1.0
    })
    .await;
    gateway.settles().await;
    assert_eq!(gateway.metric("kferving_gateway_requests_total", &[]), 1.0, "what it sent behind it was for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_is_held_frees_its_place_though_it_sent_more() {
    let behind = [request("2"), request(&"2".repeat(5_000)), "POST /v2/mod".to_owned(), "\r\n".to_owned()];
    for behind in behind {
        let gateway = TestGateway::start(vec![patient(scaled_model("digits"))]);
        let mut client = connect(&gateway).await;
        client.write_all((request("1") + &behind).as_bytes()).await.unwrap();
        eventually("it is held", || gateway.metric("kferving_gateway_held_requests", &[]) == 1.0).await;
        drop(client);
        one_has_left(&gateway).await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_is_served_frees_its_slot_though_it_sent_more() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![patient(static_model("digits", &[(wrapper.addr, 1)]))]);
    let mut client = connect(&gateway).await;
    client.write_all(request("1").as_bytes()).await.unwrap();
    eventually("it runs", || wrapper.running() == 1).await;
    client.write_all(request("2").as_bytes()).await.unwrap();
    drop(client);
    eventually("its run is cancelled", || wrapper.cancelled() == 1).await;
    one_has_left(&gateway).await;
    assert_eq!(wrapper.requests(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_answered_in_their_order_however_many_they_are() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::from_millis(1)));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let numbers = (0..300).map(|number| format!("<{number:0width$}>", width = 3 + number % 500));
    let bodies: Vec<String> = numbers.collect();
    let mut requests: String = bodies.iter().map(|body| request(body)).collect();
    // The last, which ends the connection, needs no replica.
    requests += "GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut client = connect(&gateway).await;
    let (mut read, mut write) = client.split();
    let mut received = String::new();
    let exchange = async { tokio::join!(write.write_all(requests.as_bytes()), read.read_to_string(&mut received)) };
    let (sent, read) = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    sent.unwrap();
    read.unwrap();
    let mut rest = received.as_str();
    for body in &bodies {
        let (answer, after) = rest.split_once(body.as_str()).unwrap_or_else(|| panic!("no answer to {body}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        rest = after;
    }
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("{\"live\":true}"), "{rest}");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_the_last_request_does_not_cost_its_answer() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![patient(static_model("digits", &[(wrapper.addr, 1)]))]);
    let last = request("1").replace("Host: a", "Host: a\r\nConnection: close");
    let all = last + &request(&"2".repeat(256 << 10));
    let mut client = connect(&gateway).await;
    let (mut read, mut write) = client.split();
    let mut received = String::new();
    let answering = async {
        eventually("it runs", || wrapper.running() == 1).await;
        wrapper.let_go(1);
        read.read_to_string(&mut received).await
    };
    // The gateway closes behind the answer, though it does not take what follows the request.
    let exchange = async { tokio::join!(write.write_all(all.as_bytes()), answering) };
    let (_, read) = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    read.unwrap();
    assert!(received.starts_with("HTTP/1.1 200 ") && received.ends_with('1'), "{received}");
    assert_eq!(wrapper.requests(), 1);
    drop(client);
    gateway.settles().await;
    gateway.stop().await;
}
