//! Clients that stay and ask nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod h2_frames;
mod support;

use std::time::Duration;

use gateway::Limits;
use h2_frames::{END_HEADERS, END_STREAM, H2Attacker, Heard, header_block, headers, ping};
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INFER: &str = "/v2/models/digits/infer";
const IDLE: Duration = Duration::from_millis(300);
const CONNECTIONS: &str = "kferving_gateway_connections";
const STALLED: &str = "kferving_gateway_connections_stalled_total";

fn start(behaviour: Behaviour) -> (FakeWrapper, TestGateway) {
    let wrapper = FakeWrapper::start(behaviour);
    let limits = Limits { idle_timeout: IDLE, ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 4)])], limits);
    (wrapper, gateway)
}

/// A head that asks for an inference.
fn infer() -> Vec<u8> {
    header_block(&[(":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "digits.vision")])
}

async fn all_closed(gateway: TestGateway) {
    eventually("connections close", || gateway.metric(CONNECTIONS, &[]) == 0.0).await;
    assert_eq!(gateway.metric(STALLED, &[]), 0.0, "nobody was given anything");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_that_asks_nothing_is_told_and_its_connection_closed() {
    let (_wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    // One that asks once, and keeps its connection in a pool.
    let client = TestClient::http2();
    assert_eq!(client.post(&gateway.url(INFER), "x").await.status, 200);
    // One that never asks, and sends pings for as long as it is let.
    let mut silent = H2Attacker::connect(gateway.addr).await;
    let mut heard = Vec::new();
    let pinging = async {
        while !heard.contains(&Heard::Closed) {
            silent.send(&ping()).await;
            heard.extend(silent.heard_until(&[Heard::PingAck]).await);
            tokio::time::sleep(IDLE / 20).await;
        }
    };
    tokio::time::timeout(PATIENCE, pinging).await.expect("pings keep no connection open");
    assert!(heard.contains(&Heard::GoAway), "{heard:?}");
    eventually("both are closed", || gateway.metric(CONNECTIONS, &[]) == 0.0).await;
    // A client that was told comes again.
    assert_eq!(client.post(&gateway.url(INFER), "x").await.status, 200);
    all_closed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_long_keeps_its_http2_connection() {
    let (wrapper, gateway) = start(Behaviour::Gated);
    let mut client = H2Attacker::connect(gateway.addr).await;
    client.send(&headers(1, END_HEADERS | END_STREAM, &infer())).await;
    eventually("it runs", || wrapper.running() == 1).await;
    tokio::time::sleep(4 * IDLE).await;
    wrapper.let_go(1);
    let heard = client.heard_until(&[Heard::Status(200), Heard::GoAway, Heard::Reset]).await;
    assert_eq!(heard.last(), Some(&Heard::Status(200)), "{heard:?}");
    assert!(client.heard_until_closed().await.contains(&Heard::GoAway), "now it is idle");
    all_closed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_preface_is_not_waited_for_without_end() {
    let (_wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    for start in ["PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "{start:?} keeps a connection open");
    }
    all_closed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http1_connection_between_two_requests_is_kept_as_long() {
    let (_wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let request = format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: 1\r\n\r\nx");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    closed.expect("it is closed").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('x'), "{answer}");
    all_closed(gateway).await;
}
