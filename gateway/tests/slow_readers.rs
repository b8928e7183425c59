//! Clients that ask and do not take what they are given.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod h2_frames;
mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway::{Limits, ModelRoute};
use h2_frames::{END_HEADERS, END_STREAM, H2Attacker, Heard, data, header_block, headers, ping, window_update};
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const INFER: &str = "/v2/models/digits/infer";
const STALL: Duration = Duration::from_millis(500);
const STALLED: &str = "kferving_gateway_connections_stalled_total";
const CONNECTIONS: &str = "kferving_gateway_connections";

fn start(limits: Limits) -> (FakeWrapper, TestGateway) {
    start_with(Behaviour::Echo(Duration::ZERO), limits)
}

fn start_with(behaviour: Behaviour, limits: Limits) -> (FakeWrapper, TestGateway) {
    let wrapper = FakeWrapper::start(behaviour);
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 100)])], limits);
    (wrapper, gateway)
}

/// An answer that is longer than the gateway reads ahead.
const LONG: usize = 1 << 20;

/// A connection that takes a few kilobytes and then nothing.
async fn connect_narrow(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(addr).await.unwrap()
}

async fn assert_serves_on(gateway: TestGateway) {
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, 200);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_a_long_answer_loses_its_connection() {
    let (_wrapper, gateway) = start(Limits { answer_stall_timeout: STALL, ..Limits::default() });
    let mut stream = connect_narrow(gateway.addr).await;
    let body = vec![b'x'; 16 << 20];
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer begins while the request is still coming: the gateway may end the connection before it is sent.
    let _ = stream.write_all(&body).await;
    eventually("the connection is closed", || gateway.metric(CONNECTIONS, &[]) == 0.0).await;
    assert_eq!(gateway.metric(STALLED, &[]), 1.0);
    assert_serves_on(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_on_and_on_without_reading_loses_its_connection() {
    let (_wrapper, gateway) = start(Limits { answer_stall_timeout: STALL, ..Limits::default() });
    let mut stream = connect_narrow(gateway.addr).await;
    let requests = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let flood = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the gateway closes the connection");
    eventually("the connection is closed", || gateway.metric(CONNECTIONS, &[]) == 0.0).await;
    assert_eq!(gateway.metric(STALLED, &[]), 1.0);
    assert_serves_on(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_is_given_all_the_time_that_it_needs() {
    let (_wrapper, gateway) = start(Limits { answer_stall_timeout: STALL, ..Limits::default() });
    let mut stream = connect_narrow(gateway.addr).await;
    let body = vec![b'x'; 1 << 20];
    let head =
        format!("POST {INFER} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let started = Instant::now();
    let (mut piece, mut received) = (vec![0; 16 << 10], 0);
    loop {
        match stream.read(&mut piece).await.unwrap() {
            0 => break,
            count => received += count,
        }
        // Four times the limit in all, and a tenth of it at a time.
        if started.elapsed() < 4 * STALL {
            tokio::time::sleep(STALL / 10).await;
        }
    }
    assert!(started.elapsed() >= 4 * STALL, "it was slow enough to show something");
    assert!(received > body.len(), "the whole answer arrived: {received}");
    assert_eq!(gateway.metric(STALLED, &[]), 0.0);
    assert_serves_on(gateway).await;
}

/// A head that asks for an inference.
fn infer() -> Vec<u8> {
    header_block(&[(":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "digits.vision")])
}

async fn ask(attacker: &mut H2Attacker, stream: u32) {
    attacker.send(&headers(stream, END_HEADERS, &infer())).await;
    attacker.send(&data(stream, END_STREAM, b"x")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_keeps_neither_place_nor_permit_of_an_answer_that_is_there() {
    // As long a stall as the test has patience: only the answer's arrival may free what it had.
    let limits = Limits { caller_concurrency: Some(2), answer_stall_timeout: 10 * PATIENCE, ..Limits::default() };
    let (_wrapper, gateway) = start(limits);
    let mut attacker = H2Attacker::connect_with(gateway.addr, &[(4, 0)]).await;
    for stream in [1, 3] {
        ask(&mut attacker, stream).await;
        attacker.heard_until(&[Heard::Status(200)]).await;
    }
    eventually("both answers have been counted", || {
        gateway.metric("kferving_gateway_requests_total", &[("code", "200")]) == 2.0
    })
    .await;
    // The permits of the same caller are there again.
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, 200);
    drop(attacker);
    assert_serves_on(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_keeps_no_permit_beyond_the_deadline() {
    let limits = Limits { caller_concurrency: Some(1), answer_stall_timeout: 10 * PATIENCE, ..Limits::default() };
    let wrapper = FakeWrapper::start(Behaviour::Long(LONG));
    let timeout = Duration::from_secs(1);
    let model = ModelRoute { timeout, ..static_model("digits", &[(wrapper.addr, 100)]) };
    let gateway = TestGateway::with_limits(vec![model], limits);
    let mut attacker = H2Attacker::connect_with(gateway.addr, &[(4, 0)]).await;
    ask(&mut attacker, 1).await;
    attacker.heard_until(&[Heard::Status(200)]).await;
    eventually("the answer has been counted", || {
        gateway.metric("kferving_gateway_requests_total", &[("code", "200")]) == 1.0
    })
    .await;
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, 200);
    drop(attacker);
    assert_serves_on(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_stays_closed_ends_the_connection_though_it_answers_pings() {
    let (wrapper, gateway) = start(Limits { answer_stall_timeout: STALL, ..Limits::default() });
    // A short answer, a long one, and one of which the client takes the first byte.
    for (window, length) in [(0, 100), (0, LONG), (1, 100)] {
        wrapper.behave(Behaviour::Long(length));
        let before = gateway.metric(STALLED, &[]);
        let mut attacker = H2Attacker::connect_with(gateway.addr, &[(4, window)]).await;
        ask(&mut attacker, 1).await;
        let mut closed = false;
        let deadline = Instant::now() + PATIENCE;
        while !closed {
            assert!(Instant::now() < deadline, "window {window}, {length} bytes: never closed");
            attacker.send(&ping()).await;
            closed = attacker.heard_until(&[Heard::PingAck, Heard::GoAway]).await.contains(&Heard::Closed);
            tokio::time::sleep(STALL / 10).await;
        }
        // A client hears of the end before it is counted.
        eventually("it is counted", || gateway.metric(STALLED, &[]) - before == 1.0).await;
    }
    eventually("connections close", || gateway.metric(CONNECTIONS, &[]) == 0.0).await;
    assert_serves_on(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_opens_bit_by_bit_is_served_to_the_end() {
    let limits = Limits { answer_stall_timeout: STALL, ..Limits::default() };
    let (_wrapper, gateway) = start_with(Behaviour::Long(16_000), limits);
    let mut client = H2Attacker::connect_with(gateway.addr, &[(4, 0)]).await;
    ask(&mut client, 1).await;
    client.heard_until(&[Heard::Status(200)]).await;
    // In 20 pieces, in twice the limit.
    for _ in 0..20 {
        client.send(&window_update(1, 800)).await;
        assert_eq!(client.heard_until(&[Heard::Data, Heard::Reset, Heard::GoAway]).await.last(), Some(&Heard::Data));
        tokio::time::sleep(STALL / 10).await;
    }
    // Idle, with nothing owed, it stays open for longer than the limit.
    tokio::time::sleep(3 * STALL).await;
    client.send(&ping()).await;
    assert_eq!(client.heard_until(&[Heard::PingAck, Heard::GoAway]).await.last(), Some(&Heard::PingAck));
    assert_eq!(gateway.metric(STALLED, &[]), 0.0);
    drop(client);
    assert_serves_on(gateway).await;
}
