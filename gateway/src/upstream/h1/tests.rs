//! Exchanges with replicas that answer from a script, over real sockets.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::answer::{Framing, HEAD_BYTES};
use http::StatusCode;

use super::*;
use crate::strict_http::{Chunks, Taken};

/// Longer than any test takes, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a replica writes its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Whole,
    Bytes,
}

/// What a replica does after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Close,
    /// Keeps the connection open until the client closes it.
    Stay,
}

/// What became of a request.
struct Outcome {
    answer: Result<(StatusCode, HeaderMap, Result<Bytes, H1Error>), UpstreamError>,
    kept: bool,
    request: String,
}

impl Outcome {
    /// The body of an answer that came whole.
    fn body(self) -> Bytes {
        self.answer.unwrap().2.unwrap()
    }

    fn error(self) -> String {
        match self.answer {
            Err(UpstreamError::Broken { source }) => source.to_string(),
            Err(other) => panic!("expected it to have broken: {other}"),
            Ok((status, _, body)) => panic!("expected an error: {status}, {body:?}"),
        }
    }
}

/// Of a thread of which the runtime of the test takes the place.
fn departures() -> Arc<Departures> {
    let departures = Arc::new(Departures::default());
    tokio::spawn(Arc::clone(&departures).keep_sending());
    departures
}

/// The host of requests that name none.
fn no_host() -> HeaderValue {
    HeaderValue::from_static("unnamed")
}

/// Sends a request to a replica that reads it and answers `answer`.
async fn ask(method: Method, answer: &[u8], pieces: Pieces, after: After) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = answer.to_vec();
    let replica = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\nbody") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request is cut off");
        }
        let size = if pieces == Pieces::Whole { answer.len().max(1) } else { 1 };
        for piece in answer.chunks(size) {
            // A client that has seen enough closes.
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if after == After::Stay {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        String::from_utf8(request).unwrap()
    });
    let pool = Arc::new(H1Pool::new());
    let answer = tokio::time::timeout(PATIENCE, async {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("replica"))]);
        let head =
            RequestHead { method: &method, target: "/x?y", headers: &headers, host: &no_host, added: [None, None] };
        let body = RequestBody::Full(Some(Bytes::from_static(b"body")));
        let response = H1Connection::open(addr, &departures()).await?.exchange(&head, body, &pool).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        Ok((parts.status, parts.headers, body))
    })
    .await
    .expect("the exchange ends");
    let kept = !pool.idle.lock().connections.is_empty();
    pool.clear();
    Outcome { answer, kept, request: replica.await.unwrap() }
}

/// In both sizes of pieces, by a replica that stays.
async fn ask_both(method: &Method, answer: &str) -> [Outcome; 2] {
    let whole = ask(method.clone(), answer.as_bytes(), Pieces::Whole, After::Stay).await;
    [whole, ask(method.clone(), answer.as_bytes(), Pieces::Bytes, After::Stay).await]
}

#[tokio::test]
async fn the_body_ends_where_its_framing_says_and_the_connection_is_kept() {
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        ("HTTP/1.1 200\r\nContent-Length:5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\nx-b: 2\r\n\r\n", "hello"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok"),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "ok",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", ""),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", "ok"),
    ];
    for (answer, body) in answers {
        for outcome in ask_both(&Method::POST, answer).await {
            assert!(outcome.kept, "{answer:?}");
            assert_eq!(outcome.request, "POST /x?y HTTP/1.1\r\nhost: replica\r\ncontent-length: 4\r\n\r\nbody");
            assert_eq!(outcome.body(), body, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_on_which_a_body_may_come_that_may_not_is_not_used_again() {
    let head = Method::HEAD;
    for (method, answer, kept) in [
        (&head, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", false),
        (&head, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false),
        (&head, "HTTP/1.1 200 OK\r\n\r\n", false),
        (&head, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
        (&Method::POST, "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n", false),
        (&Method::POST, "HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n", false),
    ] {
        for outcome in ask_both(method, answer).await {
            assert_eq!(outcome.kept, kept, "{answer:?}");
            assert_eq!(outcome.body(), "");
        }
    }
}

#[tokio::test]
async fn a_connection_that_may_not_be_used_again_is_not() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nconnection: x, CLOSE\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        for outcome in ask_both(&Method::POST, answer).await {
            assert!(!outcome.kept, "{answer:?}");
            assert_eq!(outcome.body(), "ok", "{answer:?}");
        }
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_reach_no_other_request() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nx",
    ] {
        let outcome = ask(Method::POST, answer.as_bytes(), Pieces::Whole, After::Stay).await;
        assert!(!outcome.kept, "{answer:?}");
        outcome.body();
    }
}

#[tokio::test]
async fn a_body_without_framing_ends_with_its_connection() {
    for pieces in [Pieces::Whole, Pieces::Bytes] {
        let outcome = ask(Method::POST, b"HTTP/1.1 200 OK\r\n\r\nuntil the end", pieces, After::Close).await;
        assert!(!outcome.kept);
        assert_eq!(outcome.body(), "until the end");
        let outcome = ask(Method::POST, b"HTTP/1.0 200 OK\r\n\r\n", pieces, After::Close).await;
        assert_eq!(outcome.body(), "");
    }
}

#[tokio::test]
async fn headers_arrive_as_they_were_sent() {
    let answer = "HTTP/1.1 200 OK\r\nX-Twice: 1\r\nx-twice:  2 \r\nServer: s\r\nx-empty:\r\ncontent-length: 0\r\n\r\n";
    for outcome in ask_both(&Method::POST, answer).await {
        let (status, headers, _) = outcome.answer.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (&headers["server"], &headers["x-empty"], &headers[CONTENT_LENGTH]),
            (&"s".parse().unwrap(), &"".parse().unwrap(), &"0".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn an_answer_that_can_be_read_in_two_ways_is_an_error() {
    let many = "x: y\r\n".repeat(101);
    let long = "x".repeat(HEAD_BYTES);
    let interim = "HTTP/1.1 102 P\r\n\r\n".repeat(INTERIM_ANSWERS as usize + 1);
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", "more than one"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", "more than one"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", "decimal"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok", "decimal"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nok", "decimal"),
        ("HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n", "decimal"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n", "Transfer-Encoding"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "switches"),
        ("HTTP/2 200 OK\r\n\r\n", "first line"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "first line"),
        ("HTTP/1.1 099 No\r\n\r\n", "first line"),
        ("hello\r\n\r\n", "first line"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header line"),
        ("HTTP/1.1 200 OK\r\nspace : x\r\n\r\n", "header line"),
        ("HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n", "header line"),
        ("HTTP/1.1 200 OK\r\nx: \0\r\n\r\n", "header line"),
        (&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), "more than 100"),
        (&format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n"), "longer than 64 KiB"),
        (&interim, "interim"),
    ];
    for (answer, why) in answers {
        let outcome = ask(Method::POST, answer.as_bytes(), Pieces::Whole, After::Stay).await;
        assert!(!outcome.kept);
        let error = outcome.error();
        assert!(error.contains(why), "{answer:.80?}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_complete() {
    for pieces in [Pieces::Whole, Pieces::Bytes] {
        for (answer, when) in
            [("", "before its answer"), ("HTTP/1.1 200 OK\r\nx:", "in the middle of an answer's head")]
        {
            let error = ask(Method::POST, answer.as_bytes(), pieces, After::Close).await.error();
            assert!(error.ends_with(when), "{answer:?}: {error}");
        }
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhell",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ] {
            let outcome = ask(Method::POST, answer.as_bytes(), pieces, After::Close).await;
            assert!(!outcome.kept);
            let error = outcome.answer.unwrap().2.unwrap_err();
            assert!(matches!(error, H1Error::Closed(_)), "{answer:?}: {error}");
        }
    }
}

#[tokio::test]
async fn broken_chunks_break_the_body() {
    for chunks in
        ["x\r\n", "5\nhello", "5\r\nhelloo\r\n", "-1\r\n", "11112222333344445\r\n", "0\r\n\n", "5\r\nhello\r\n;\r\n"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        for outcome in ask_both(&Method::POST, &answer).await {
            assert!(!outcome.kept);
            let error = outcome.answer.unwrap().2.unwrap_err();
            assert!(matches!(error, H1Error::Chunks(_)), "{chunks:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_long_body_arrives_whole_in_every_framing() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    let mut chunked = Vec::new();
    for chunk in body.chunks(70_001) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let length = format!("content-length: {}\r\n", body.len());
    for (framing, bytes, kept) in
        [(length.as_str(), &body, true), ("transfer-encoding: chunked\r\n", &chunked, true), ("", &body, false)]
    {
        let answer = [format!("HTTP/1.1 200 OK\r\n{framing}\r\n").as_bytes(), bytes].concat();
        let after = if kept { After::Stay } else { After::Close };
        let outcome = ask(Method::POST, &answer, Pieces::Whole, after).await;
        assert_eq!(outcome.kept, kept, "{framing}");
        assert!(outcome.body() == body, "{framing}");
    }
}

#[tokio::test]
async fn an_idle_connection_that_is_no_longer_silent_sends_nothing() {
    for (sent, why) in
        [(&b""[..], "closed while it was idle"), (b"HTTP/1.1 408 Timeout\r\n\r\n", "belong to no answer")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = H1Connection::open(listener.local_addr().unwrap(), &departures()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(sent).await.unwrap();
        server.shutdown().await.unwrap();
        connection.stream.readable().await.unwrap();
        let headers = HeaderMap::new();
        let head =
            RequestHead { method: &Method::POST, target: "/", headers: &headers, host: &no_host, added: [None, None] };
        let pool = Arc::new(H1Pool::new());
        let outcome = connection.exchange(&head, RequestBody::Empty, &pool).await;
        let Err(UpstreamError::Unsent { source }) = outcome else { panic!("it was sent") };
        assert!(source.to_string().contains(why), "{source}");
        let mut received = Vec::new();
        // Bytes that were not read reset the connection.
        let _ = server.read_to_end(&mut received).await;
        assert!(received.is_empty());
    }
}

#[test]
fn a_head_is_complete_with_its_last_byte_and_not_before() {
    let answer = b"HTTP/1.1 200 OK\r\nserver: s\r\ncontent-length: 2\r\n\r\n";
    for end in 0..answer.len() {
        let mut bytes = Bytes::copy_from_slice(&answer[..end]);
        assert!(AnswerHead::parse(&mut bytes, &Method::GET).unwrap().is_none());
        assert_eq!(bytes, answer[..end], "nothing is taken");
    }
    let mut bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let head = AnswerHead::parse(&mut bytes, &Method::GET).unwrap().unwrap();
    assert_eq!((head.framing, head.keep_alive), (Framing::Length(2), true));
    assert!(!head.headers.contains_key(CONNECTION));
    assert_eq!(bytes, "ok");
}

proptest! {
    #[test]
    fn chunks_give_back_what_was_put_in(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..12),
        cuts in proptest::collection::vec(1_usize..30, 1..20),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\nx: y\r\n\r\nrest");
        let (mut decoder, mut buffer, mut data, mut ended) = (Chunks::of_answer(), BytesMut::new(), Vec::new(), false);
        let (mut sent, mut cuts) = (0, cuts.into_iter().cycle());
        while !ended {
            match decoder.take(&mut buffer).unwrap() {
                Taken::Data(piece) => data.extend_from_slice(&piece),
                Taken::End => ended = true,
                Taken::More => {
                    prop_assert!(buffer.is_empty());
                    let next = (sent + cuts.next().unwrap_or(1)).min(wire.len());
                    buffer.extend_from_slice(&wire[sent..next]);
                    sent = next;
                }
            }
        }
        prop_assert_eq!(data, chunks.concat());
        prop_assert!(b"rest".starts_with(&buffer));
    }
}
