//! Hostile HTTP/1 over raw sockets, against a gateway with a replica behind it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use gateway::Limits;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INFER: &str = "/v2/models/digits/infer";

/// A head up to the lines that a test adds.
const POST: &str = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: digits.vision\r\n";

/// Sends `bytes` and reads until the gateway closes the connection.
async fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut read, mut write) = stream.split();
    let mut received = Vec::new();
    // The gateway may answer and close before it has read all.
    let exchange = async { tokio::join!(write.write_all(bytes), read.read_to_end(&mut received)) };
    let (_, end) = tokio::time::timeout(PATIENCE, exchange).await.expect("the gateway closes the connection");
    end.unwrap();
    String::from_utf8_lossy(&received).into_owned()
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or(answer)
}

fn start(behaviour: Behaviour, limits: Limits) -> (FakeWrapper, TestGateway) {
    let wrapper = FakeWrapper::start(behaviour);
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 1)])], limits);
    (wrapper, gateway)
}

/// The gateway still serves, nothing is held or in flight, and no connection is left open.
async fn assert_unharmed(gateway: TestGateway) {
    let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, 200);
    gateway.settles().await;
    let connections = "kferving_gateway_connections";
    eventually("connections close", || gateway.metric(connections, &[]) == 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_are_refused_in_words_and_counted() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO), Limits::default());
    let cases = [
        (format!("{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("{POST}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("{POST}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), "400"),
        (format!("{POST}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy"), "400"),
        (format!("POST {INFER} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), "400"),
        (format!("{POST}Host: digits.vision\r\nContent-Length: 0\r\n\r\n"), "400"),
        ("GET /v2/models/<digits> HTTP/1.1\r\nHost: digits.vision\r\n\r\n".to_owned(), "400"),
        ("GET /v2/models/`digits` HTTP/1.1\r\nHost: digits.vision\r\n\r\n".to_owned(), "400"),
        ("GET /v2/models/digits?a=\"b\" HTTP/1.1\r\nHost: digits.vision\r\n\r\n".to_owned(), "400"),
        (format!("POST http://other{INFER} HTTP/1.1\r\nHost: digits.vision\r\n\r\n"), "400"),
        (format!("{POST}X: 1\nContent-Length: 0\r\n\r\n"), "400"),
        ("CONNECT digits.vision:80 HTTP/1.1\r\nHost: digits.vision:80\r\n\r\n".to_owned(), "405"),
        (format!("{POST}Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 0\r\n\r\n"), "501"),
        (format!("{} {INFER} HTTP/1.1\r\nHost: digits.vision\r\n\r\n", "M".repeat(1000)), "501"),
        (format!("{POST}{}\r\n", "X: 1\r\n".repeat(100)), "431"),
        (format!("{POST}X: {}\r\n\r\n", "x".repeat(420_000)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: digits.vision\r\n\r\n", "x".repeat(70_000)), "431"),
    ];
    for (request, expected) in &cases {
        let shown = &request[..request.len().min(150)];
        let answer = exchange(gateway.addr, request.as_bytes()).await;
        assert_eq!(status(&answer), *expected, "{shown:?}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("kferving-reason: bad-request"), "{shown:?}: {head}");
        assert!(head.contains("connection: close"), "{shown:?}: {head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].is_string(), "{shown:?}: {body}");
    }
    assert_eq!(wrapper.requests(), 0, "nothing reached the replica");
    let counted = gateway.metric("kferving_gateway_requests_total", &[("reason", "bad-request")]);
    assert_eq!(counted, cases.len() as f64);
    assert_unharmed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_body_that_breaks_never_reaches_a_replica() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO), Limits::default());
    for body in ["10000000000000000\r\n", "-1\r\n", "1\nx\r\n0\r\n\r\n", "2\r\nx\r\n0\r\n\r\n"] {
        let answer = exchange(gateway.addr, format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}").as_bytes()).await;
        assert_eq!(status(&answer), "400", "{body:?}: {answer}");
        assert!(answer.contains("chunk"), "says what is wrong: {answer}");
    }
    assert_eq!(wrapper.requests(), 0);
    assert_unharmed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_body_that_breaks_aborts_the_replica_and_its_connection() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO), Limits::default());
    let chunk = "10000\r\n".to_owned() + &"x".repeat(0x10000) + "\r\n";
    let request = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{}bad\n", chunk.repeat(4));
    let answer = exchange(gateway.addr, request.as_bytes()).await;
    assert_eq!(status(&answer), "400", "{answer}");
    assert_eq!(wrapper.bodies(), 0, "the replica never saw a body that looks complete");
    eventually("the replica is free", || wrapper.running() == 0).await;
    assert_unharmed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_tiny_chunks_costs_its_sender_the_connection() {
    let (_wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO), Limits::default());
    let request = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(1_000_000));
    let answer = exchange(gateway.addr, request.as_bytes()).await;
    assert_eq!(status(&answer), "400", "{answer}");
    assert_unharmed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_before_it_is_asked_for() {
    let limits = Limits { max_body_bytes: 1000, ..Limits::default() };
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO), limits);
    let expecting = format!("{POST}Content-Length: 1001\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&exchange(gateway.addr, expecting.as_bytes()).await), "413");
    let announced = format!("{POST}Content-Length: 100000000\r\n\r\n{}", "x".repeat(1_000_000));
    assert_eq!(status(&exchange(gateway.addr, announced.as_bytes()).await), "413");
    let chunked = format!(
        "{POST}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1001)
    );
    assert_eq!(status(&exchange(gateway.addr, chunked.as_bytes()).await), "413");
    assert_eq!(wrapper.requests(), 0);
    assert_unharmed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_silent_bodies_end_and_hold_no_slot() {
    let limits = Limits {
        header_timeout: Duration::from_millis(200),
        body_idle_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO), limits);
    let silent_body = format!("{POST}Content-Length: 100\r\n\r\n0123456789");
    let large_body = format!("{POST}Content-Length: 1000000\r\n\r\n{}", "x".repeat(500_000));
    let attacks = (0..20).flat_map(|_| [POST, "", silent_body.as_str(), large_body.as_str()]);
    let answers = attacks.map(|bytes| async { (bytes.len(), exchange(gateway.addr, bytes.as_bytes()).await) });
    for (length, answer) in futures::future::join_all(answers).await {
        if length == 0 {
            assert_eq!(answer, "", "nothing was asked");
        } else {
            assert_eq!(status(&answer), "408", "{answer}");
        }
    }
    eventually("no replica is occupied", || wrapper.running() == 0).await;
    assert_eq!(wrapper.bodies(), 0);
    assert_unharmed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_one_connection_and_of_the_gateway_end_there() {
    let (_wrapper, gateway) = start(Behaviour::Headers, Limits::default());
    let request = format!(
        "{POST}Content-Length: 1\r\nConnection: close, X-Auth\r\nX-Auth: secret\r\nKeep-Alive: timeout=5\r\n\
         TE: trailers\r\nUpgrade: websocket\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\n\
         Kferving-Revision: vision/other@sha256:00\r\nKferving-Anything: 1\r\nKnative-Serving-Revision: x\r\n\
         X-Kept: 1\r\nTraceparent: 00-1-2-01\r\n\r\nx"
    );
    let answer = exchange(gateway.addr, request.as_bytes()).await;
    let seen: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let mut names: Vec<_> = seen.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "traceparent", "x-kept"]);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_does_not_overtake_the_answer_before_it() {
    let (_wrapper, gateway) = start(Behaviour::Echo(Duration::from_millis(50)), Limits::default());
    let requests = format!("{POST}Content-Length: 2\r\n\r\nok{POST}Content-Length: x\r\n\r\n");
    let answer = exchange(gateway.addr, requests.as_bytes()).await;
    assert_eq!(status(&answer), "200", "{answer}");
    let second = answer.rfind("HTTP/1.1 ").unwrap();
    assert_eq!(status(&answer[second..]), "400", "{answer}");
    assert!(answer[..second].ends_with("ok"), "{answer}");
    assert_unharmed(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_in_a_hurry_cannot_eject_a_replica() {
    let (_wrapper, gateway) = start(Behaviour::Echo(Duration::from_millis(200)), Limits::default());
    for _ in 0..8 {
        let hurried = format!("{POST}Content-Length: 1\r\nConnection: close\r\nX-Request-Timeout: 0.01\r\n\r\nx");
        assert_eq!(status(&exchange(gateway.addr, hurried.as_bytes()).await), "504");
    }
    assert_eq!(gateway.metric("kferving_gateway_ejections_total", &[]), 0.0);
    assert_unharmed(gateway).await;
}
