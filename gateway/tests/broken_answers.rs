//! Replicas that begin an answer and do not end it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gateway::{Limits, ModelRoute};
use http::{Request, StatusCode};
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const INFER: &str = "/v2/models/digits/infer";
const EJECTIONS: &str = "kferving_gateway_ejections_total";
const REQUESTS: &str = "kferving_gateway_requests_total";

/// A good head, a good chunk and one that is none, in one piece: the gateway sees the break before it has sent a byte.
const BROKEN_AT_ONCE: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\nnone\r\n"];

/// Half of an answer, the other half never.
const BROKEN_LATER: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhe", b""];

/// A replica that answers each request with these pieces, and closes the connection after the last.
struct FakeReplica {
    addr: SocketAddr,
    serving: JoinHandle<()>,
}

impl FakeReplica {
    async fn start(pieces: &'static [&'static [u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, pieces));
            }
        });
        Self { addr, serving }
    }
}

impl Drop for FakeReplica {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut stream: TcpStream, pieces: &[&[u8]]) {
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\nx") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            // Long enough for the gateway to have sent on what came before.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if stream.write_all(piece).await.is_err() {
            return;
        }
    }
}

/// A replica that begins to answer when a request begins, and then reads on for as long as it is left.
async fn half_answering(answer: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let replica = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            open.push(tokio::spawn(async move {
                let mut first = [0; 1];
                stream.read_exact(&mut first).await.unwrap();
                let _ = stream.write_all(answer).await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }));
        }
    });
    (addr, replica)
}

/// The same in chunks.
const CHUNKS_BROKEN_LATER: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", b""];

/// The same, whole.
const CHUNKS: &[&[u8]] =
    &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", b"2\r\nll\r\n0\r\n\r\n"];

fn request(gateway: &TestGateway) -> Request<Full<Bytes>> {
    Request::post(gateway.url(INFER)).body(Full::from("x")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_before_anything_was_sent_is_a_502_that_says_why() {
    let replica = FakeReplica::start(BROKEN_AT_ONCE).await;
    let gateway = TestGateway::start(vec![static_model("digits", &[(replica.addr, 1)])]);
    for client in [TestClient::http1(), TestClient::http2()] {
        let answer = client.post(&gateway.url(INFER), "x").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
        assert_eq!(answer.header("kferving-reason"), "replica-lost");
        assert!(answer.json()["error"].is_string());
    }
    gateway.settles().await;
    assert_eq!(gateway.metric(REQUESTS, &[("code", "502"), ("reason", "replica-lost"), ("device", "cpu")]), 2.0);
    assert_eq!(gateway.metric(REQUESTS, &[]), 2.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_off_eject_their_replica_and_show_no_service_time() {
    for pieces in [BROKEN_AT_ONCE, BROKEN_LATER] {
        let replica = FakeReplica::start(pieces).await;
        let gateway = TestGateway::start(vec![static_model("digits", &[(replica.addr, 1)])]);
        let client = TestClient::http1();
        for failures in 1..=5 {
            assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0, "before failure {failures}");
            let outcome = client.try_send(request(&gateway)).await;
            assert!(outcome.as_ref().is_ok_and(|answer| answer.status == 502) || outcome.is_err(), "{outcome:?}");
            gateway.settles().await;
        }
        assert_eq!(gateway.metric(EJECTIONS, &[]), 1.0);
        assert!(!gateway.gateway.explain("vision", "digits", 1).unwrap().devices[0].measured);
        assert_eq!(gateway.metric(REQUESTS, &[("reason", "replica-lost")]), 5.0);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_breaks_off_at_once_does_not_draw_the_traffic() {
    let broken = FakeReplica::start(BROKEN_AT_ONCE).await;
    let good = FakeWrapper::start(Behaviour::Echo(Duration::from_millis(20)));
    let gateway = TestGateway::start(vec![static_model("digits", &[(broken.addr, 4), (good.addr, 4)])]);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, url) = (TestClient::http1(), gateway.url(INFER));
        clients.spawn(async move {
            let mut served = 0;
            for _ in 0..25 {
                served += u32::from(client.post(&url, "x").await.status == 200);
            }
            served
        });
    }
    let served: u32 = clients.join_all().await.into_iter().sum();
    assert!(served > 100, "{served} of 200 were served");
    assert!(gateway.metric(EJECTIONS, &[]) >= 1.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_falls_silent_in_its_answers_is_ejected_at_their_deadline() {
    // Half an answer, and the connection stays open for longer than any test takes.
    const SILENT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhe";
    let (addr, replica) = half_answering(SILENT).await;
    let model = ModelRoute { timeout: Duration::from_secs(3), ..static_model("digits", &[(addr, 8)]) };
    let gateway = TestGateway::start(vec![model]);
    let client = TestClient::http1();
    let requests = (0..5).map(|_| client.try_send(request(&gateway)));
    for outcome in futures::future::join_all(requests).await {
        assert!(outcome.is_err(), "{outcome:?}");
    }
    gateway.settles().await;
    assert_eq!(gateway.metric(EJECTIONS, &[]), 1.0);
    assert_eq!(gateway.metric(REQUESTS, &[("reason", "deadline")]), 5.0);
    replica.abort();
    gateway.stop().await;
}

/// The client is at fault when it announces a body and stops in the middle, whatever the replica has begun to answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_sending_cannot_eject_a_replica_that_answers_early() {
    let (addr, replica) =
        half_answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhe").await;
    let limits = Limits { body_idle_timeout: Duration::from_millis(300), ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(addr, 8)])], limits);
    let stop_in_the_middle = async || {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let head = format!("POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 100 << 10]).await.unwrap();
        let mut answer = Vec::new();
        // However the connection ends.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the gateway closes");
    };
    futures::future::join_all((0..8).map(|_| stop_in_the_middle())).await;
    gateway.settles().await;
    assert_eq!(gateway.metric(EJECTIONS, &[]), 0.0);
    assert_eq!(gateway.metric(REQUESTS, &[("reason", "replica-lost")]), 0.0);
    assert_eq!(gateway.metric(REQUESTS, &[]), 8.0);
    replica.abort();
    gateway.stop().await;
}

/// Asks in this version of HTTP; what came before the end, and whether that was a reset.
async fn ask_in(version: &str, gateway: &TestGateway) -> (String, bool) {
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let request = format!("POST {INFER} {version}\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    let is_reset = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    (String::from_utf8(answer).unwrap(), is_reset)
}

/// A client of HTTP/1.0 knows no chunks: it takes the end of the connection for that of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http10_can_tell_an_answer_that_breaks_off_from_a_whole_one() {
    for (pieces, is_whole) in [(CHUNKS, true), (CHUNKS_BROKEN_LATER, false)] {
        let replica = FakeReplica::start(pieces).await;
        let gateway = TestGateway::start(vec![static_model("digits", &[(replica.addr, 1)])]);
        let (answer, is_reset) = ask_in("HTTP/1.0", &gateway).await;
        assert_eq!(is_reset, !is_whole, "{answer}");
        assert!(!is_whole || answer.ends_with("\r\n\r\nhell"), "{answer}");
        let (answer, is_reset) = ask_in("HTTP/1.1", &gateway).await;
        assert!(!is_reset, "chunks tell by themselves: {answer}");
        assert_eq!(answer.ends_with("0\r\n\r\n"), is_whole, "{answer}");
        gateway.settles().await;
        gateway.stop().await;
    }
}
