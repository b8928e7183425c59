//! Clients that begin bodies and do not end them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod h2_frames;
mod support;

use std::time::Duration;

use gateway::Limits;
use h2_frames::{END_HEADERS, H2Attacker, Heard, data, header_block, headers, ping, reset_with};
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INFER: &str = "/v2/models/digits/infer";
const READING: &str = "kferving_gateway_reading_bytes";
const REQUESTS: &str = "kferving_gateway_requests_total";
const CLIENT_GONE: [(&str, &str); 2] = [("code", "499"), ("reason", "client-gone")];
const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

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
        assert_eq!(gateway.metric(REQUESTS, &CLIENT_GONE), 1.0);
        drop(client);
        gateway.stop().await;
    }
}

/// How a client leaves that has begun a body.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// It closes its sending side, and reads on.
    HalfCloses,
    Closes,
    Resets,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_its_body_has_left_and_has_not_erred() {
    let (wrapper, gateway) = start(Limits::default());
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: digits.vision\r\n");
    let begun = [
        // Bodies that are read before they are sent on, and one that is streamed.
        (format!("{head}Content-Length: 100\r\n\r\nx"), 0),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n9\r\nx"), 0),
        (format!("{head}Content-Length: 1000000\r\n\r\n{}", "x".repeat(500_000)), 1),
    ];
    let mut gone = 0.0;
    let mut sent_on = 0;
    for (request, reaches) in &begun {
        for leaves in [Leaves::HalfCloses, Leaves::Closes, Leaves::Resets] {
            let mut client = TcpStream::connect(gateway.addr).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            sent_on += reaches;
            let arrives = || if *reaches == 0 { gateway.metric(READING, &[]) > 0.0 } else { wrapper.running() == 1 };
            eventually("it arrives", arrives).await;
            match leaves {
                Leaves::HalfCloses => {
                    client.shutdown().await.unwrap();
                    let mut answer = String::new();
                    let reading = client.read_to_string(&mut answer);
                    tokio::time::timeout(PATIENCE, reading).await.expect("the gateway closes the connection").unwrap();
                    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 499 "), "{answer}");
                }
                Leaves::Closes => drop(client),
                Leaves::Resets => {
                    client.set_zero_linger().unwrap();
                    drop(client);
                }
            }
            gone += 1.0;
            let counted = || gateway.metric(REQUESTS, &[]) == gone;
            eventually(&format!("it is counted: {leaves:?}"), counted).await;
            assert_eq!(gateway.metric(REQUESTS, &CLIENT_GONE), gone, "{leaves:?}: {:?}", &request[..100]);
            eventually("the replica is idle", || wrapper.running() == 0).await;
        }
    }
    assert_eq!((wrapper.requests(), wrapper.bodies()), (sent_on, 0));
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_its_body_while_it_is_answered_has_left() {
    let (wrapper, gateway) = start(Limits::default());
    // A replica that has answered is asked for no consent before a long body is sent.
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, 200);
    wrapper.behave(Behaviour::EchoFrames);
    let mut client = TcpStream::connect(gateway.addr).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: digits.vision\r\nContent-Length: 1000000\r\n\r\n");
    client.write_all(&[head.as_bytes(), &[b'x'; 500_000]].concat()).await.unwrap();
    let mut answer = vec![0; 400_000];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut answer)).await.expect("it is answered").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    client.shutdown().await.unwrap();
    eventually("it is counted", || gateway.metric(REQUESTS, &[]) == 2.0).await;
    assert_eq!(gateway.metric(REQUESTS, &CLIENT_GONE), 1.0);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_its_client_gives_up_in_its_body_has_left_and_has_not_erred() {
    let (_wrapper, gateway) = start(Limits::default());
    let grpc = "/inference.GRPCInferenceService/ModelInfer";
    let mut gone = 0.0;
    for (path, content_type) in [(INFER, "application/json"), (grpc, "application/grpc")] {
        for reset_code in [Some(NO_ERROR), Some(CANCEL), None] {
            let mut client = connect(&gateway).await;
            client.send(&headers(1, END_HEADERS, &post(path, content_type))).await;
            client.send(&data(1, 0, b"x")).await;
            eventually("its body is read", || gateway.metric(READING, &[]) == 1.0).await;
            match reset_code {
                Some(code) => client.send(&reset_with(1, code)).await,
                None => drop(client),
            }
            gone += 1.0;
            eventually("it is counted", || gateway.metric(REQUESTS, &[]) == gone).await;
            assert_eq!(gateway.metric(REQUESTS, &CLIENT_GONE), gone, "{path}: {reset_code:?}");
        }
    }
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_wrong_is_its_clients_error_though_it_leaves_then() {
    let (wrapper, gateway) = start(Limits::default());
    let mut client = TcpStream::connect(gateway.addr).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: digits.vision\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.write_all(format!("{head}1\r\nxy").as_bytes()).await.unwrap();
    drop(client);
    let refused = || gateway.metric(REQUESTS, &[("code", "400"), ("reason", "bad-request")]);
    eventually("the chunk is refused", || refused() == 1.0).await;

    let mut client = connect(&gateway).await;
    let host = (":authority", "digits.vision");
    let longer = [(":method", "POST"), (":scheme", "http"), (":path", INFER), host, ("content-length", "2")];
    client.send(&headers(1, END_HEADERS, &header_block(&longer))).await;
    client.send(&data(1, 0, b"x")).await;
    eventually("its body is read", || gateway.metric(READING, &[]) == 1.0).await;
    client.send(&data(1, 0, b"yz")).await;
    eventually("more than was announced is refused", || refused() == 2.0).await;
    drop(client);
    assert_eq!((wrapper.requests(), gateway.metric(REQUESTS, &CLIENT_GONE)), (0, 0.0));
    gateway.settles().await;
    gateway.stop().await;
}
