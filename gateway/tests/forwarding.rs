//! What a replica reads of a request, and what a client of its answer, byte by byte.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use gateway::GatewaySettings;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, static_model};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const INFER: &str = "/v2/models/digits/infer";

/// A replica that a test plays itself.
struct Replica(TcpListener);

impl Replica {
    async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (Self(listener), addr)
    }

    async fn accept(&self) -> TcpStream {
        tokio::time::timeout(PATIENCE, self.0.accept()).await.unwrap().unwrap().0
    }
}

/// A gateway of one thread: its requests share their connections to the replica.
fn in_front_of(replica: SocketAddr) -> TestGateway {
    let settings = GatewaySettings { threads: 1, ..GatewaySettings::default() };
    TestGateway::with_settings(vec![static_model("digits", &[(replica, 4)])], settings)
}

/// Reads until what has arrived ends with `end`.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end) {
            let count = stream.read_buf(&mut read).await.unwrap();
            assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&read));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the end arrives");
    String::from_utf8(read).unwrap()
}

/// A client's connection, on which a request is written beside what the test does.
struct Client {
    answers: OwnedReadHalf,
    // Kept open: a client that closes its side has left.
    _writing: JoinHandle<OwnedWriteHalf>,
}

async fn send(gateway: &TestGateway, request: &str) -> Client {
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (answers, mut requests) = stream.into_split();
    let request = request.to_owned();
    let _writing = tokio::spawn(async move {
        requests.write_all(request.as_bytes()).await.unwrap();
        requests
    });
    Client { answers, _writing }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_replica_with_one_framing_of_its_own() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    let mut upstream = None;
    for (sent, received) in [
        (
            format!(
                "POST {INFER}?a=b HTTP/1.1\r\nHost: digits.vision\r\nContent-Length: 4\r\nX-A: 1\r\nx-a: 2\r\n\r\nbody"
            ),
            format!(
                "POST {INFER}?a=b HTTP/1.1\r\nhost: digits.vision\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 4\r\n\r\nbody"
            ),
        ),
        (
            format!(
                "POST http://digits.vision{INFER} HTTP/1.1\r\nhost: digits.vision\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
            ),
            format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: 4\r\n\r\nbody"),
        ),
        (
            format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\n\r\n"),
            format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "GET /v2/models/digits/stats HTTP/1.1\r\nhost: digits.vision\r\nexpect: x\r\n\r\n".to_owned(),
            "GET /v2/models/digits/stats HTTP/1.1\r\nhost: digits.vision\r\n\r\n".to_owned(),
        ),
    ] {
        let mut client = send(&gateway, &sent).await;
        let replica_stream = match &mut upstream {
            Some(stream) => stream,
            none => none.insert(replica.accept().await),
        };
        let end = &received[received.find("\r\n\r\n").unwrap()..];
        assert_eq!(read_until(replica_stream, end.as_bytes()).await, received);
        replica_stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await.unwrap();
        assert!(read_until(&mut client.answers, b"fine").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_of_unknown_length_reaches_the_replica_in_chunks() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    let body: String = (0..200_000).map(|index| char::from(b'a' + (index % 26) as u8)).collect();
    let chunks: String = body
        .as_bytes()
        .chunks(7_001)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    let request = format!(
        "POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\nx-sum: 1\r\n\r\n"
    );
    let (mut client, mut upstream) = tokio::join!(send(&gateway, &request), replica.accept());
    let head = read_until(&mut upstream, b"\r\n\r\n").await;
    // It waits for the replica's consent, which it gets.
    assert_eq!(
        head,
        format!(
            "POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
        )
    );
    upstream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    let received = read_until(&mut upstream, b"\r\n0\r\n\r\n").await;
    let (mut rest, mut whole) = (received.as_str(), String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap();
        if size == 0 {
            break;
        }
    }
    assert!(whole == body && rest.is_empty(), "trailers are not passed on");
    upstream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n").await.unwrap();
    assert!(read_until(&mut client.answers, b"fine").await.contains("content-length: 4\r\n"), "it was there whole");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_body_is_passed_on_and_its_connection_not_used_again() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    // The first answer shows that the replica holds the model: longer bodies are no longer held back.
    let request = format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: 1\r\n\r\nx");
    let (mut client, mut upstream) = tokio::join!(send(&gateway, &request), replica.accept());
    read_until(&mut upstream, b"\r\n\r\nx").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await.unwrap();
    read_until(&mut client.answers, b"fine").await;

    let part = "x".repeat(100_000);
    let request = format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: 900000\r\n\r\n{part}");
    let mut client = send(&gateway, &request).await;
    read_until(&mut upstream, part.as_bytes()).await;
    upstream.write_all(b"HTTP/1.1 422 No\r\ncontent-length: 5\r\n\r\nwrong").await.unwrap();
    assert!(read_until(&mut client.answers, b"wrong").await.starts_with("HTTP/1.1 422 "));
    drop(client);
    let closed = tokio::time::timeout(PATIENCE, upstream.read_to_end(&mut Vec::new())).await;
    closed.expect("a connection with half a request on it is closed").ok();
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_answers_and_closes_without_reading_is_heard() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    let part = "x".repeat(100_000);
    let request = format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: 900000\r\n\r\n{part}");
    let (mut client, mut upstream) = tokio::join!(send(&gateway, &request), replica.accept());
    read_until(&mut upstream, b"\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    drop(upstream);
    let answer = read_until(&mut client.answers, b"no").await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("kferving-reason: body-too-large"), "{answer}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_late_to_a_head_request_is_nobodys_answer() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    let request = "HEAD /v2/models/digits/config HTTP/1.1\r\nhost: digits.vision\r\n\r\n";
    let late = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let (mut client, mut upstream) = tokio::join!(send(&gateway, request), replica.accept());
    read_until(&mut upstream, b"\r\n\r\n").await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", late.len());
    upstream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_until(&mut client.answers, b"\r\n\r\n").await.starts_with("HTTP/1.1 200 "));

    let replica = tokio::spawn(async move {
        if upstream.read(&mut [0]).await.unwrap() > 0 {
            // As late as it can be: the next request is there.
            upstream.write_all(late.as_bytes()).await.unwrap();
            return;
        }
        let mut next = replica.accept().await;
        read_until(&mut next, b"\r\n\r\nx").await;
        next.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await.unwrap();
    });
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.body, "fine");
    replica.await.unwrap();
    gateway.stop().await;
}

/// The gateway expects `100-continue` of a replica that it does not know yet: the client did not.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_meets_no_expectation_is_asked_without() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    // Longer than what is read at once.
    let body = "x".repeat(2_000_000);
    let request = format!("POST {INFER} HTTP/1.1\r\nhost: digits.vision\r\ncontent-length: 2000000\r\n\r\n{body}");
    let (mut client, mut upstream) = tokio::join!(send(&gateway, &request), replica.accept());
    assert!(read_until(&mut upstream, b"\r\n\r\n").await.contains("\r\nexpect: 100-continue\r\n"));
    upstream.write_all(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut upstream = replica.accept().await;
    let again = read_until(&mut upstream, format!("\r\n\r\n{body}").as_bytes()).await;
    let head = &again[..again.len() - body.len()];
    assert!(!head.contains("expect"), "{head}");
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await.unwrap();
    assert!(read_until(&mut client.answers, b"fine").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(gateway.metric("kferving_gateway_requests_total", &[]), 1.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_answer_is_a_bad_gateway_and_runs_once() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    let playing = tokio::spawn(async move {
        let mut upstream = replica.accept().await;
        read_until(&mut upstream, b"\r\n\r\nx").await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";
        upstream.write_all(answer).await.unwrap();
        upstream
    });
    let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!((answer.status, answer.header("kferving-reason")), (StatusCode::BAD_GATEWAY, "replica-lost"));
    let message = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(message.contains("both Content-Length and Transfer-Encoding"), "{message}");
    drop(playing.await.unwrap());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_a_time_each_get_their_own_answer() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::from_millis(1)));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 64)])]);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..32_u32 {
        let url = gateway.url(INFER);
        clients.spawn(async move {
            let http = TestClient::http1();
            for request in 0..20_u32 {
                let body = format!("{client}-{request}-").repeat(1 + (request as usize * 397) % 3000);
                let answer = http.post(&url, body.clone()).await;
                assert_eq!(answer.status, StatusCode::OK);
                assert!(answer.body == body, "{client}-{request}");
            }
        });
    }
    clients.join_all().await;
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_over_http2_is_said_as_http1_says_it() {
    let wrapper = FakeWrapper::start(Behaviour::Headers);
    let gateway = in_front_of(wrapper.addr);
    let request = Request::post(gateway.url(INFER)).header("cookie", "a=1").header("cookie", "b=2");
    let answer = TestClient::http2().send(request.body(Full::from("x")).unwrap()).await;
    assert_eq!(answer.json()["cookie"], "a=1; b=2");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_content_has_none_over_either_version() {
    let (replica, addr) = Replica::start().await;
    let gateway = in_front_of(addr);
    let serving = tokio::spawn(async move {
        loop {
            let mut stream = replica.accept().await;
            read_until(&mut stream, b"x").await;
            let answer = "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    for client in [TestClient::http1(), TestClient::http2()] {
        let alive = client.call(Method::HEAD, &gateway.url("/v2")).await;
        let expected = client.get(&gateway.url("/v2")).await;
        assert_eq!((alive.status, alive.body.len()), (StatusCode::OK, 0));
        assert_eq!(alive.header("content-length"), expected.body.len().to_string());
        let missing = client.call(Method::HEAD, &gateway.url("/v2/models/none")).await;
        assert_eq!((missing.status, missing.body.len()), (StatusCode::NOT_FOUND, 0));
        let nothing = client.post(&gateway.url(INFER), "x").await;
        assert_eq!((nothing.status, nothing.header("content-length")), (StatusCode::NO_CONTENT, ""));
    }
    serving.abort();
    gateway.settles().await;
    gateway.stop().await;
}
