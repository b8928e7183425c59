//! Replicas that reset calls of gRPC: before they take them, or in the middle of their answers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod h2_frames;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway::{GatewaySettings, ModelRoute};
use h2_frames::{END_HEADERS, END_STREAM, data, go_away, header_block, headers, reset_with, settings};
use http::Request;
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{Answer, TestClient, TestGateway, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const EJECTIONS: &str = "kferving_gateway_ejections_total";
const REQUESTS: &str = "kferving_gateway_requests_total";
const RETRIES: &str = "kferving_gateway_retries_total";

const HEADERS: u8 = 1;
const PREFACE_BYTES: usize = 24;

/// Codes of RFC 9113, section 7.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// A replica that answers each call with these frames.
struct FakeH2Replica {
    addr: SocketAddr,
    calls: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl FakeH2Replica {
    async fn start(answer: fn(stream: u32) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&counted), answer));
            }
        });
        Self { addr, calls, serving }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for FakeH2Replica {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Ends when the gateway closes the connection.
async fn serve(mut stream: TcpStream, calls: Arc<AtomicUsize>, answer: fn(u32) -> Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&settings(&[])).await?;
    stream.read_exact(&mut [0; PREFACE_BYTES]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await?;
        if head[3] == HEADERS {
            calls.fetch_add(1, Ordering::SeqCst);
            stream.write_all(&answer(u32::from_be_bytes([head[5], head[6], head[7], head[8]]))).await?;
        }
    }
}

/// A gateway of one thread: its calls share their connections to the replicas.
fn in_front_of(replicas: &[(SocketAddr, u32)]) -> TestGateway {
    let model = ModelRoute { timeout: Duration::from_secs(10), ..static_model("digits", replicas) };
    let settings = GatewaySettings { namespace: None, threads: 1, ..GatewaySettings::default() };
    TestGateway::with_settings(vec![model], settings)
}

/// A call of ModelInfer for `digits`.
async fn infer(client: &TestClient, gateway: &TestGateway) -> Answer {
    client.send(call(gateway)).await
}

fn call(gateway: &TestGateway) -> Request<Full<Bytes>> {
    Request::post(gateway.url("/inference.GRPCInferenceService/ModelInfer"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from(Bytes::from_static(b"\0\0\0\0\x08\x0a\x06digits")))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_not_processed_goes_to_another_replica() {
    let refusals: [fn(u32) -> Vec<u8>; 2] = [
        |stream| reset_with(stream, REFUSED_STREAM),
        // It has processed none of the streams so far.
        |_| go_away(0, 0),
    ];
    for refusal in refusals {
        let refusing = FakeH2Replica::start(refusal).await;
        let serving = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
        let gateway = in_front_of(&[(refusing.addr, 1), (serving.addr, 1)]);
        let client = TestClient::http2();
        let mut answered = 0;
        while refusing.calls() == 0 && answered < 200 {
            let answer = infer(&client, &gateway).await;
            assert_eq!(answer.header("grpc-status"), "", "{answer:?}");
            answered += 1;
        }
        assert!(refusing.calls() > 0, "the refusing replica was never picked");
        gateway.settles().await;
        assert!(gateway.metric(RETRIES, &[("cause", "replica-busy")]) >= 1.0);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_everybody_refuses_did_not_run_and_speaks_against_nobody() {
    let refusing = FakeH2Replica::start(|stream| reset_with(stream, REFUSED_STREAM)).await;
    let gateway = in_front_of(&[(refusing.addr, 1)]);
    let client = TestClient::http2();
    for _ in 0..2 {
        let answer = infer(&client, &gateway).await;
        assert_eq!((answer.header("grpc-status"), answer.header("kferving-reason")), ("14", "replica-busy"));
    }
    assert_eq!(refusing.calls(), 8, "each is sent four times");
    assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_reset_for_another_reason_may_have_run_and_is_sent_once() {
    let breaking = FakeH2Replica::start(|stream| reset_with(stream, INTERNAL_ERROR)).await;
    let gateway = in_front_of(&[(breaking.addr, 1)]);
    let answer = infer(&TestClient::http2(), &gateway).await;
    assert_eq!((answer.header("grpc-status"), answer.header("kferving-reason")), ("14", "replica-lost"));
    assert_eq!(breaking.calls(), 1);
    assert_eq!(gateway.metric(RETRIES, &[]), 0.0);
    gateway.stop().await;
}

/// The head of an answer and a message, without an end.
fn half_an_answer(stream: u32) -> Vec<u8> {
    let head = headers(stream, END_HEADERS, &[OK]);
    [head, data(stream, 0, b"\0\0\0\0\x02hi")].concat()
}

/// `:status` 200 in HPACK's static table.
const OK: u8 = 0x88;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_without_an_error_is_not_whole() {
    let cutting = FakeH2Replica::start(|stream| [half_an_answer(stream), reset_with(stream, NO_ERROR)].concat()).await;
    let gateway = in_front_of(&[(cutting.addr, 1)]);
    // Over HTTP/1 it is a 502, or breaks off.
    let outcome = TestClient::http1().try_send(call(&gateway)).await;
    assert!(!outcome.as_ref().is_ok_and(|answer| answer.header("grpc-status").is_empty()), "{outcome:?}");
    gateway.settles().await;
    assert_eq!(gateway.metric(REQUESTS, &[("reason", "replica-lost")]), 1.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_stays_whole_though_its_stream_is_reset_then() {
    let whole: [fn(u32) -> Vec<u8>; 2] = [
        |stream| {
            let trailers = headers(stream, END_HEADERS | END_STREAM, &header_block(&[("grpc-status", "0")]));
            [half_an_answer(stream), trailers, reset_with(stream, NO_ERROR)].concat()
        },
        |stream| {
            let head = [&[OK][..], &header_block(&[("grpc-status", "0")])].concat();
            [headers(stream, END_HEADERS | END_STREAM, &head), reset_with(stream, NO_ERROR)].concat()
        },
    ];
    for answer in whole {
        let replica = FakeH2Replica::start(answer).await;
        let gateway = in_front_of(&[(replica.addr, 1)]);
        assert_eq!(infer(&TestClient::http2(), &gateway).await.status, 200);
        gateway.settles().await;
        assert_eq!(gateway.metric(REQUESTS, &[("code", "200")]), 1.0);
        gateway.stop().await;
    }
}
