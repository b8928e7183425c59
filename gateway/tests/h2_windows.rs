//! Streams of HTTP/2 that nobody takes from, beside others on the same connection.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod h2_frames;
mod support;

use std::time::Duration;

use bytes::Bytes;
use gateway::GatewaySettings;
use h2_frames::{END_HEADERS, END_STREAM, H2Attacker, Heard, data, header_block, headers};
use http::Request;
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, TestGateway, eventually, static_model};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const INFER: &str = "/v2/models/digits/infer";
const GRPC_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Streams that stand still, each with as much as it may have: more than a connection had room for when each had as much.
const STILL: u32 = 12;

fn post(path: &str, content_type: &str) -> Vec<u8> {
    let host = (":authority", "digits.vision");
    header_block(&[(":method", "POST"), (":scheme", "http"), (":path", path), host, ("content-type", content_type)])
}

/// A message of gRPC that names the model.
fn message() -> Vec<u8> {
    let message = b"\x0a\x06digits";
    [&[0, 0, 0, 0, message.len() as u8][..], message].concat()
}

/// One thread: its requests share their connection to the replica.
fn one_thread() -> GatewaySettings {
    GatewaySettings { threads: 1, ..GatewaySettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_leave_those_of_other_clients_their_way() {
    let wrapper = FakeWrapper::start(Behaviour::Long(2 << 20));
    let gateway = TestGateway::with_settings(vec![static_model("digits", &[(wrapper.addr, 0)])], one_thread());
    let mut attacker = H2Attacker::connect_with(gateway.addr, &[(4, 0)]).await;
    for stream in (0..STILL).map(|index| 2 * index + 1) {
        attacker.send(&headers(stream, END_HEADERS, &post(GRPC_INFER, "application/grpc"))).await;
        attacker.send(&data(stream, END_STREAM, &message())).await;
        attacker.heard_until(&[Heard::Status(200)]).await;
    }
    wrapper.behave(Behaviour::Long(100_000));
    // Long before those end that stand still.
    let request = Request::post(gateway.url(GRPC_INFER)).header("grpc-timeout", "5S");
    let request = request.header("content-type", "application/grpc").body(Full::new(Bytes::from(message()))).unwrap();
    let answer = TestClient::http2().try_send(request).await.expect("an answer that ends");
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 100_000));
    drop(attacker);
    gateway.settles().await;
    gateway.stop().await;
}

/// A replica that lets bodies come and reads none of them.
async fn read_heads_only(listener: TcpListener) {
    let mut open = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        open.push(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_no_replica_takes_leave_those_of_other_streams_their_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let replica = tokio::spawn(read_heads_only(listener));
    let other = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let models = vec![static_model("digits", &[(addr, 0)]), static_model("other", &[(other.addr, 0)])];
    let gateway = TestGateway::with_settings(models, one_thread());
    let client = TestClient::http2();
    let mut still = tokio::task::JoinSet::new();
    for _ in 0..STILL {
        let (client, url) = (client.clone(), gateway.url(INFER));
        still.spawn(async move { client.post(&url, vec![b'x'; 32 << 20]).await });
    }
    eventually("they run", || gateway.metric("kferving_gateway_in_flight_requests", &[]) == f64::from(STILL)).await;
    let request = Request::post(gateway.url("/v2/models/other/infer")).header("x-request-timeout", "5");
    let answer = client.send(request.body(Full::new(vec![b'x'; 60_000].into())).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 60_000));
    still.abort_all();
    replica.abort();
    gateway.stop().await;
}
