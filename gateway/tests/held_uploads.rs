//! Long bodies whose requests wait for a replica.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use gateway::{GatewaySettings, Limits, ModelRoute};
use http::StatusCode;
use std::time::Duration;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, scaled_model, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const INFER: &str = "/v2/models/digits/infer";
const HELD: &str = "kferving_gateway_held_requests";
const READING: &str = "kferving_gateway_reading_bytes";
const REQUESTS: &str = "kferving_gateway_requests_total";
const CLIENT_GONE: [(&str, &str); 2] = [("code", "499"), ("reason", "client-gone")];

/// Longer than what is kept of a body to be sent again.
const BYTES: usize = 1_000_000;

/// What is read of a body before its request waits, at most: the rest is being read for as long as it does.
const BEGINNING: f64 = 600_000.0;

fn with_length(bytes: usize) -> String {
    format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
}

fn in_chunks(bytes: usize) -> String {
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    let chunks = chunk.repeat(bytes / 10_000);
    format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
}

/// A body with bytes that differ.
fn body() -> Vec<u8> {
    (0..BYTES).map(|index| (index % 251) as u8).collect()
}

fn post(client: TestClient, gateway: &TestGateway, body: Vec<u8>) -> JoinHandle<(StatusCode, bool)> {
    let url = gateway.url(INFER);
    tokio::spawn(async move {
        let answer = client.post(&url, body.clone()).await;
        (answer.status, answer.body == body)
    })
}

/// How a client leaves that has sent all of its request.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// It closes its sending side, and reads on.
    HalfCloses,
    Closes,
    Resets,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_behind_a_long_body_frees_its_place() {
    let gateway = TestGateway::start(vec![scaled_model("digits")]);
    let mut gone = 0.0;
    // Of the last the end is missing, and it leaves in its body.
    for request in [with_length(100_000), with_length(BYTES), in_chunks(BYTES) + "0\r\n\r\n", in_chunks(BYTES)] {
        for leaves in [Leaves::HalfCloses, Leaves::Closes, Leaves::Resets] {
            let mut client = TcpStream::connect(gateway.addr).await.unwrap();
            let sending = client.write_all(request.as_bytes());
            tokio::time::timeout(PATIENCE, sending).await.expect("all of it is taken").unwrap();
            eventually("it is held", || gateway.metric(HELD, &[]) == 1.0).await;
            match leaves {
                Leaves::HalfCloses => {
                    client.shutdown().await.unwrap();
                    let mut answer = Vec::new();
                    let reading = client.read_to_end(&mut answer);
                    tokio::time::timeout(PATIENCE, reading).await.expect("the gateway closes the connection").unwrap();
                }
                Leaves::Closes => drop(client),
                Leaves::Resets => {
                    client.set_zero_linger().unwrap();
                    drop(client);
                }
            }
            gone += 1.0;
            eventually(&format!("none is held: {leaves:?}"), || gateway.metric(HELD, &[]) == 0.0).await;
            eventually("it is counted", || gateway.metric(REQUESTS, &CLIENT_GONE) == gone).await;
        }
    }
    assert_eq!((gateway.metric(READING, &[]), gateway.metric(REQUESTS, &[])), (0.0, gone));
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_while_a_request_waited_reaches_its_replica_in_order() {
    for client in [TestClient::http1(), TestClient::http2()] {
        let serving = FakeWrapper::start(Behaviour::Gated);
        let refusing = FakeWrapper::start(Behaviour::Refuse(StatusCode::MISDIRECTED_REQUEST, "misdirected"));
        let alone = vec![static_model("digits", &[(serving.addr, 1)])];
        let gateway = TestGateway::start(alone.clone());
        let small = post(TestClient::http1(), &gateway, vec![1]);
        eventually("one runs", || serving.running() == 1).await;
        let upload = post(client, &gateway, body());
        let read_on = || gateway.metric(READING, &[]) >= BYTES as f64 - BEGINNING;
        eventually("it is read on", read_on).await;

        // One that has room does not hold the model: what is kept is still there for the other.
        gateway.gateway.set_models(vec![static_model("digits", &[(serving.addr, 1), (refusing.addr, 1)])]);
        eventually("it is refused", || refusing.requests() > 0).await;
        gateway.gateway.set_models(alone);
        eventually("it waits again", || gateway.metric(HELD, &[]) == 1.0).await;
        serving.let_go(2);
        assert_eq!(upload.await.unwrap(), (StatusCode::OK, true));
        assert_eq!(small.await.unwrap(), (StatusCode::OK, true));
        assert_eq!((refusing.bodies(), serving.bodies(), gateway.metric(READING, &[])), (0, 2, 0.0));
        gateway.settles().await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_on_leaves_room_to_bodies_that_cannot_wait_for_it() {
    let waiting = FakeWrapper::start(Behaviour::Gated);
    let other = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let limit = 4 << 20;
    let models = vec![static_model("digits", &[(waiting.addr, 1)]), static_model("other", &[(other.addr, 1)])];
    let gateway = TestGateway::with_limits(models, Limits { reading_bytes: limit, ..Limits::default() });
    let small = post(TestClient::http1(), &gateway, vec![1]);
    eventually("one runs", || waiting.running() == 1).await;
    let uploads: Vec<_> = (0..10).map(|_| post(TestClient::http1(), &gateway, body())).collect();
    eventually("they are held", || gateway.metric(HELD, &[]) == 10.0).await;
    eventually("half of the room is taken", || gateway.metric(READING, &[]) >= (limit / 2) as f64).await;
    assert!(gateway.metric(READING, &[]) < (limit * 3 / 4) as f64);
    let answer = TestClient::http1().post(&gateway.url("/v2/models/other/infer"), vec![b'x'; 60_000]).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 60_000));

    waiting.let_go(11);
    for upload in uploads {
        assert_eq!(upload.await.unwrap(), (StatusCode::OK, true));
    }
    assert_eq!(small.await.unwrap(), (StatusCode::OK, true));
    assert_eq!(gateway.metric(READING, &[]), 0.0);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_for_which_there_was_no_room_is_read_on_when_there_is() {
    let limits = Limits { reading_bytes: 200_000, ..Limits::default() };
    let settings = GatewaySettings { threads: 1, limits, ..GatewaySettings::default() };
    // At its deadline a request looks by itself.
    let model = ModelRoute { timeout: 10 * PATIENCE, ..scaled_model("digits") };
    let gateway = TestGateway::with_settings(vec![model], settings);
    // Half of the room and more is taken by bodies that have not come whole.
    let mut short = Vec::new();
    for read in [60_000.0, 120_000.0] {
        let request = with_length(61_000);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(&request.as_bytes()[..request.len() - 1000]).await.unwrap();
        eventually("it is being read", || gateway.metric(READING, &[]) == read).await;
        short.push(client);
    }
    let request = with_length(BYTES);
    let mut long = TcpStream::connect(gateway.addr).await.unwrap();
    long.write_all(&request.as_bytes()[..75_000]).await.unwrap();
    eventually("it is held", || gateway.metric(HELD, &[]) == 1.0).await;
    long.write_all(&[b'x'; 50_000]).await.unwrap();
    // The one thread has seen them by the time it answers this.
    assert_eq!(TestClient::http1().get(&gateway.url("/v1/models")).await.status, StatusCode::OK);
    drop(short);
    eventually("it alone is read on", || (50_000.0..60_000.0).contains(&gateway.metric(READING, &[]))).await;
    drop(long);
    eventually("all have left", || gateway.metric(REQUESTS, &CLIENT_GONE) == 3.0).await;
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused_while_its_request_waits() {
    let limits = Limits { max_body_bytes: 500_000, ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![scaled_model("digits")], limits);
    let (mut answers, mut requests) = TcpStream::connect(gateway.addr).await.unwrap().into_split();
    // The gateway may close before it has read all.
    let sending = tokio::spawn(async move { requests.write_all(in_chunks(BYTES).as_bytes()).await.map(|()| requests) });
    let mut answer = Vec::new();
    let reading = async {
        while !answer.ends_with(b"}") {
            assert_ne!(answers.read_buf(&mut answer).await.unwrap(), 0, "closed after {answer:?}");
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    drop(sending.await.unwrap());
    gateway.settles().await;
    gateway.stop().await;
}
