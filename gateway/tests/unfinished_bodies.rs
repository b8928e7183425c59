//! Clients that begin bodies and do not end them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod h2_frames;
mod support;

use std::time::Duration;

use gateway::Limits;
use h2_frames::{END_HEADERS, H2Attacker, Heard, data, header_block, headers, ping, reset_with};
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, TestGateway, eventually, static_model};

const INFER: &str = "/v2/models/digits/infer";
const READING: &str = "kferving_gateway_reading_bytes";
const REQUESTS: &str = "kferving_gateway_requests_total";
const NO_ERROR: u32 = 0;

fn start(limits: Limits) -> (FakeWrapper, TestGateway) {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 100)])], limits);
    (wrapper, gateway)
}

/// A connection whose windows are open: the gateway widens them when it has begun.
async fn connect(gateway: &TestGateway) -> H2Attacker {
    let mut attacker = H2Attacker::connect(gateway.addr).await;
    attacker.send(&ping()).await;
    attacker.heard_until(&[Heard::PingAck]).await;
    attacker
}

fn post(path: &str, content_type: &str) -> Vec<u8> {
    let host = (":authority", "digits.vision");
    header_block(&[(":method", "POST"), (":scheme", "http"), (":path", path), host, ("content-type", content_type)])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_read_is_bounded_over_the_whole_gateway() {
    let limit = 1 << 20;
    let (_wrapper, gateway) = start(Limits { reading_bytes: limit, ..Limits::default() });
    let mut attackers = Vec::new();
    for _ in 0..2 {
        let mut attacker = connect(&gateway).await;
        for stream in (0..20).map(|index| 2 * index + 1) {
            attacker.send(&headers(stream, END_HEADERS, &post(INFER, "application/json"))).await;
            attacker.send(&data(stream, 0, &[b'x'; 15_000]).repeat(4)).await;
        }
        attackers.push(attacker);
    }
    let refused = || gateway.metric(REQUESTS, &[("code", "503"), ("reason", "hold-full")]);
    // 40 bodies of 60,000 bytes each, of which 17 have room.
    eventually("the others are refused", || refused() >= 23.0).await;
    assert!(gateway.metric(READING, &[]) <= limit as f64);
    assert!(gateway.metric(READING, &[]) > 0.0);
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, 200, "a body that is there needs none");
    drop(attackers);
    eventually("nothing is being read", || gateway.metric(READING, &[]) == 0.0).await;
    assert_eq!(TestClient::http2().post(&gateway.url(INFER), vec![b'x'; 60_000]).await.status, 200);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_bytes_are_counted_as_any() {
    let (wrapper, gateway) = start(Limits::default());
    let mut client = connect(&gateway).await;
    client.send(&headers(1, END_HEADERS, &post(INFER, "application/json"))).await;
    for sent in 1..=20 {
        client.send(&data(1, 0, b"x").repeat(50)).await;
        eventually("they are read", || gateway.metric(READING, &[]) == f64::from(50 * sent)).await;
    }
    client.send(&data(1, h2_frames::END_STREAM, b"x")).await;
    assert!(client.heard_until(&[Heard::Data, Heard::Reset, Heard::GoAway]).await.contains(&Heard::Status(200)));
    assert_eq!((wrapper.bodies(), gateway.metric(READING, &[])), (1, 0.0));
    drop(client);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_grpc_counts_as_its_callers_from_its_head_on() {
    let (_wrapper, gateway) = start(Limits { caller_concurrency: Some(1), ..Limits::default() });
    let mut attacker = connect(&gateway).await;
    let method = "/inference.GRPCInferenceService/ModelInfer";
    attacker.send(&headers(1, END_HEADERS, &post(method, "application/grpc"))).await;
    // A ping may be answered before the call has begun: its body is read once it counts.
    attacker.send(&data(1, 0, b"x")).await;
    eventually("its body is read", || gateway.metric(READING, &[]) == 1.0).await;
    let refused = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!((refused.status.as_u16(), refused.header("kferving-reason")), (429, "caller-limit"));
    drop(attacker);
    eventually("it has left", || gateway.metric("kferving_gateway_connections", &[]) == 0.0).await;
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, 200);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_stream_is_reset_is_never_complete() {
    // One that is read before it is sent on, and one that is streamed.
    for (frames, reaches) in [(1, 0), (20, 1)] {
        let (wrapper, gateway) = start(Limits::default());
        let mut client = connect(&gateway).await;
        client.send(&headers(1, END_HEADERS, &post(INFER, "application/json"))).await;
        client.send(&data(1, 0, &[b'x'; 15_000]).repeat(frames)).await;
        client.send(&ping()).await;
        client.heard_until(&[Heard::PingAck]).await;
        eventually("it reaches the replica", || wrapper.requests() == reaches).await;
        client.send(&reset_with(1, NO_ERROR)).await;
        client.send(&ping()).await;
        client.heard_until(&[Heard::PingAck]).await;
        eventually("the request has ended", || gateway.metric(REQUESTS, &[]) == 1.0).await;
        gateway.settles().await;
        eventually("the replica is idle", || wrapper.running() == 0).await;
        assert_eq!((wrapper.requests(), wrapper.bodies()), (reaches, 0), "{frames} frames");
        assert_eq!(gateway.metric(REQUESTS, &[("code", "200")]), 0.0);
        drop(client);
        gateway.stop().await;
    }
}
