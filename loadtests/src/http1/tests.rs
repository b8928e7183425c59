use std::convert::Infallible;
use std::io::Write as _;

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

type AnyBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// hyper's server: answers a request's body in the form that its path asks for.
async fn hyper_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    });
    addr
}

async fn answer(request: Request<Incoming>) -> Result<Response<AnyBody>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let response = Response::builder().header("server-timing", "queue;dur=1").header("kferving-replica", "r1");
    Ok(match path.as_str() {
        "/chunked" => {
            let frames = body.chunks(3).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect::<Vec<_>>();
            response.body(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
        }
        "/close" => response.header("connection", "close").body(Full::new(body).boxed_unsync()),
        "/nothing" => response.status(204).body(Full::default().boxed_unsync()),
        _ => response.body(Full::new(body).boxed_unsync()),
    }
    .unwrap())
}

/// A server that answers every connection with `bytes`, whatever is asked, and closes it.
async fn fake_server(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(bytes).await.unwrap();
        }
    });
    addr
}

async fn ask(addr: SocketAddr) -> Result<Answer, Failure> {
    Connection::open(addr).await.unwrap().exchange(&get("h", "/"), Keep::Body).await
}

#[tokio::test]
async fn one_connection_carries_requests_of_every_framing() {
    let addr = hyper_server().await;
    let mut connection = Connection::open(addr).await.unwrap();
    for path in ["/length", "/chunked", "/length", "/chunked"] {
        let body = b"the body of an inference";
        let answer = connection.exchange(&post("h", path, &[("x-a", "b")], body), Keep::Body).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &body[..]), "{path}");
        assert_eq!(answer.labels.server_timing.as_deref(), Some("queue;dur=1"));
        assert_eq!(answer.labels.replica.as_deref(), Some("r1"));
        assert!(answer.reusable && !connection.is_stale());
    }
    let answer = connection.exchange(&post("h", "/nothing", &[], b"x"), Keep::Nothing).await.unwrap();
    assert_eq!((answer.status, answer.body_bytes, answer.labels), (204, 0, Labels::default()));
    let answer = connection.exchange(&post("h", "/close", &[], b"last"), Keep::Body).await.unwrap();
    assert_eq!(&answer.body[..], b"last");
    assert!(!answer.reusable);
}

#[tokio::test]
async fn a_large_body_goes_both_ways() {
    let addr = hyper_server().await;
    let body = vec![7; 3_000_000];
    let answer = Connection::open(addr).await.unwrap().exchange(&post("h", "/", &[], &body), Keep::Body).await.unwrap();
    assert_eq!(answer.body.len(), body.len());
    assert!(answer.body.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn an_answer_before_the_request_is_read_counts_and_ends_the_connection() {
    let addr = fake_server(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno").await;
    let body = vec![0; 64 << 20];
    let answer = Connection::open(addr).await.unwrap().exchange(&post("h", "/", &[], &body), Keep::Body).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"no"[..]));
    assert!(!answer.reusable);
}

#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let addr = fake_server(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await;
    assert_eq!(&ask(addr).await.unwrap().body[..], b"x");
}

#[tokio::test]
async fn a_body_without_length_ends_with_its_connection() {
    let addr = fake_server(b"HTTP/1.1 200 OK\r\n\r\nall of it").await;
    let answer = ask(addr).await.unwrap();
    assert_eq!(&answer.body[..], b"all of it");
    assert!(!answer.reusable);
}

#[tokio::test]
async fn broken_and_malformed_answers_are_told_apart() {
    for (bytes, name) in [
        (&b""[..], "broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "broken"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "broken"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "malformed"),
        (b"what is this\r\n\r\n", "malformed"),
    ] {
        let failure = ask(fake_server(bytes).await).await.unwrap_err();
        assert_eq!(failure.name(), name, "{failure} for {:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(Connection::open(addr).await.unwrap_err().name(), "connect");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_stale() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = Connection::open(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    assert!(!connection.is_stale());
    stream.flush().unwrap();
    drop(stream);
    let deadline = Instant::now() + std::time::Duration::from_secs(10);
    while !connection.is_stale() && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(connection.is_stale());
}
