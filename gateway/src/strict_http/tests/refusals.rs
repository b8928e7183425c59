//! Each way to be ambiguous, delivered at once and byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Outcome, PATIENCE, Seen, exchange, serve};
use crate::strict_http::Violation::{self, *};

/// A request line and a host, to be followed by further lines.
const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\n";

fn with(lines: &str) -> String {
    format!("{POST}{lines}\r\n")
}

/// Heads that are refused.
fn bad_heads() -> Vec<(String, Violation)> {
    let mut cases = vec![
        // Both framings, in either order, and with a length of nothing.
        (with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), LengthAndEncoding),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), LengthAndEncoding),
        // Encodings that somebody on the way may not understand.
        (with("Transfer-Encoding: identity, chunked\r\n"), TransferEncoding),
        (with("Transfer-Encoding: gzip, chunked\r\n"), TransferEncoding),
        (with("Transfer-Encoding: chunked, chunked\r\n"), TransferEncoding),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), TransferEncoding),
        (with("Transfer-Encoding: chunked;q=1\r\n"), TransferEncoding),
        (with("Transfer-Encoding: \x0bchunked\r\n"), HeaderLine),
        (with("Transfer-Encoding:\r\n"), TransferEncoding),
        ("POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), TransferEncoding),
        // Lengths.
        (with("Content-Length: 4\r\nContent-Length: 4\r\n"), SeveralContentLengths),
        (with("Content-Length: 4\r\ncontent-length: 5\r\n"), SeveralContentLengths),
        (with("Content-Length: 4, 4\r\n"), ContentLength),
        (with("Content-Length: +4\r\n"), ContentLength),
        (with("Content-Length: -1\r\n"), ContentLength),
        (with("Content-Length: 0x4\r\n"), ContentLength),
        (with("Content-Length: 4 4\r\n"), ContentLength),
        (with("Content-Length:\r\n"), ContentLength),
        (with("Content-Length: 18446744073709551616\r\n"), ContentLength),
        // Hosts.
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), NoHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), SeveralHosts),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n".to_owned(), SeveralHosts),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), HostMismatch),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), HostMismatch),
        ("GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        ("GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        ("GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        ("GET /?x=\"y\" HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Target),
        // Lines.
        ("GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), BareLineFeed),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), BareLineFeed),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), BareLineFeed),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), RequestLine),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n".to_owned(), HeaderLine),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n".to_owned(), HeaderLine),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), HeaderLine),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), HeaderLine),
        ("GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n".to_owned(), HeaderLine),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n".to_owned(), HeaderLine),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".to_owned(), HeaderLine),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), RequestLine),
        ("GET /\r\n\r\n".to_owned(), RequestLine),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), Version),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(), HeaderLine),
        // Methods.
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), ForbiddenMethod),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), ForbiddenMethod),
        ("REFUSED /1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), UnknownMethod),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), UnknownMethod),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned(), UpgradeToHttp2),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket, H2C\r\n\r\n".to_owned(), UpgradeToHttp2),
    ];
    for host in ["", "a b", "a/b", "a@b", "a,b", "a:b", "a:123456", ":80", "[::1", "[x]", "a%41", "\u{e4}"] {
        cases.push((format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Host));
    }
    cases
}

/// Heads beyond a limit, too long to be worth sending byte by byte.
fn long_heads() -> Vec<(String, Violation)> {
    let many = (0..100).map(|index| format!("X-{index}: 1\r\n")).collect::<String>();
    vec![
        (with(&many), TooManyHeaders),
        (with(&format!("X: {}\r\n", "x".repeat(420_000))), HeadTooLarge),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), HeadTooLarge),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000)), TargetTooLong),
        (format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(1_000)), UnknownMethod),
    ]
}

/// Chunked bodies that are broken.
fn bad_bodies() -> Vec<(&'static str, Violation)> {
    vec![
        ("10000000000000000\r\n", ChunkSize),
        ("-1\r\n", ChunkSize),
        ("0x1\r\n", ChunkSize),
        ("\r\n", ChunkSize),
        ("1 \r\nx\r\n0\r\n\r\n", ChunkSize),
        ("1\nx\r\n0\r\n\r\n", ChunkSize),
        ("1\rx", ChunkSize),
        ("g\r\n", ChunkSize),
        (";a\r\n", ChunkSize),
        ("1\r\nx\n0\r\n\r\n", ChunkEnd),
        ("1\r\nxx\r\n0\r\n\r\n", ChunkEnd),
        ("1\r\nx\rx", ChunkEnd),
        ("1;a\nb\r\nx\r\n0\r\n\r\n", ChunkExtension),
        ("1;\0\r\nx\r\n0\r\n\r\n", ChunkExtension),
        ("0\r\nX: 1\n\r\n", Trailers),
        ("0\r\nX: 1\rx", Trailers),
        ("0\r\n\rx", Trailers),
    ]
}

#[track_caller]
fn assert_refused(request: &str, violation: Violation, outcome: &Outcome) {
    let shown = &request[..request.len().min(200)];
    assert_eq!(outcome.statuses, [violation.status().as_u16()], "{shown:?} got {:?}", outcome.text);
    assert!(outcome.text.contains(&violation.to_string()), "{shown:?} got {:?}", outcome.text);
}

#[tokio::test]
async fn ambiguous_heads_never_reach_the_service() {
    for (request, violation) in bad_heads() {
        for pipe_bytes in [1, 64 << 10] {
            let outcome = exchange(request.as_bytes(), pipe_bytes).await;
            assert_refused(&request, violation, &outcome);
            assert!(outcome.seen.is_empty(), "{request:?} reached the service");
        }
    }
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    for (request, violation) in long_heads() {
        for pipe_bytes in [1000, 64 << 10] {
            let outcome = exchange(request.as_bytes(), pipe_bytes).await;
            assert_refused(&request, violation, &outcome);
            assert!(outcome.seen.is_empty());
        }
    }
}

#[tokio::test]
async fn broken_bodies_fail_where_they_break() {
    for (body, violation) in bad_bodies() {
        let request = with("Transfer-Encoding: chunked\r\n") + body;
        for pipe_bytes in [1, 64 << 10] {
            let outcome = exchange(request.as_bytes(), pipe_bytes).await;
            assert_refused(&request, violation, &outcome);
            assert_eq!(outcome.seen, ["broken"], "{request:?}");
        }
    }
}

#[tokio::test]
async fn a_million_one_byte_chunks_are_too_many() {
    let request = with("Transfer-Encoding: chunked\r\n") + &"1\r\nx\r\n".repeat(1_000_000);
    let outcome = exchange(request.as_bytes(), 64 << 10).await;
    assert_refused(&request, SmallChunks, &outcome);
}

#[tokio::test]
async fn long_extensions_and_trailers_are_refused() {
    let chunked = with("Transfer-Encoding: chunked\r\n");
    for (body, violation) in [
        (format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(5000)), ChunkExtension),
        (format!("0\r\nX: {}\r\n\r\n", "a".repeat(9000)), Trailers),
        (format!("0\r\n{}\r\n", "X: 1\r\n".repeat(101)), Trailers),
    ] {
        let request = chunked.clone() + &body;
        let outcome = exchange(request.as_bytes(), 64 << 10).await;
        assert_refused(&request, violation, &outcome);
    }
}

#[tokio::test]
async fn what_was_sent_before_is_answered_before() {
    let good = with("Content-Length: 2\r\n") + "ok";
    for pipe_bytes in [1, 64 << 10] {
        let requests = format!("{good}{good}{}{good}", with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"));
        let outcome = exchange(requests.as_bytes(), pipe_bytes).await;
        assert_eq!(outcome.statuses, [200, 200, 400]);
        assert_eq!(outcome.seen, ["POST /x 2", "POST /x 2"]);
    }
}

#[tokio::test]
async fn ordinary_requests_pass() {
    let requests = [
        with("Content-Length: 3\r\n") + "abc",
        with("Transfer-Encoding: Chunked\r\n") + "3;a=b\r\nabc\r\n00\r\nX-Sum: 1\r\n\r\n",
        "\r\nGET /a?b=c HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n".to_owned(),
        "GET http://A.b/x HTTP/1.1\r\nHost: a.B:80\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: a_b-c.d~\r\nX: \u{e4}\r\n\r\n".to_owned(),
        // Closes the connection.
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
    ]
    .concat();
    for pipe_bytes in [1, 64 << 10] {
        let outcome = exchange(requests.as_bytes(), pipe_bytes).await;
        assert_eq!(outcome.statuses, [200; 6], "{}", outcome.text);
        let expected = ["POST /x 3", "POST /x 3", "GET /a?b=c 0", "GET http://A.b/x 0", "OPTIONS * 0", "GET / 0"];
        assert_eq!(outcome.seen, expected);
    }
}

/// Bodies that go past hyper and bodies that do not, in the order of their requests; the lengths tell them apart.
#[tokio::test]
async fn each_request_gets_its_own_body() {
    let sized = |length: usize| with(&format!("Content-Length: {length}\r\n")) + &"b".repeat(length);
    let chunked = with("Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n";
    let in_two = sized(8);
    let (first_half, second_half) = in_two.split_at(in_two.len() - 4);
    let pieces = [
        (sized(1), 1),
        (sized(4), 1),
        (sized(5) + &sized(6), 2),
        (sized(0), 1),
        (with(""), 1),
        (with("") + &sized(7), 2),
        (first_half.to_owned(), 0),
        (second_half.to_owned() + &sized(9), 2),
        (with("Expect: 100-continue\r\nContent-Length: 2\r\n") + "bb", 1),
        (chunked.clone(), 1),
        (chunked + &sized(10), 2),
        (sized(4096), 1),
        (sized(4097), 1),
        (with("Content-Length:  11  \r\nX: 1\r\n") + &"b".repeat(11), 1),
    ];
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let seen = Seen::default();
    let server = tokio::spawn(serve(server, PATIENCE, seen.clone()));
    for (piece, answers) in pieces {
        client.write_all(piece.as_bytes()).await.unwrap();
        for _ in 0..answers {
            let mut received = Vec::new();
            while !received.ends_with(b"\r\n\r\nfine") {
                received.push(client.read_u8().await.unwrap());
            }
        }
    }
    drop(client);
    server.await.unwrap();
    let lengths: Vec<_> = seen.lock().iter().map(|seen| seen.rsplit_once(' ').unwrap().1.to_owned()).collect();
    assert_eq!(lengths.join(" "), "1 4 5 6 0 0 0 7 8 9 2 3 3 10 4096 4097 11");
}

/// A client that stays; `sent` is all it ever sends.
async fn left_alone(sent: &str) -> String {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let server = tokio::spawn(serve(server, Duration::from_millis(50), Seen::default()));
    client.write_all(sent.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    tokio::time::timeout(PATIENCE, client.read_to_end(&mut received)).await.expect("the server closes").unwrap();
    drop(client);
    server.await.unwrap();
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    assert!(left_alone("GET / HTTP/1.1\r\nHost").await.starts_with("HTTP/1.1 408 "));
    assert_eq!(left_alone("").await, "", "nothing to answer");
    let second = format!("{}GET / HT", with(""));
    let received = left_alone(&second).await;
    assert!(received.starts_with("HTTP/1.1 200 ") && received.contains("HTTP/1.1 408 "), "{received}");
}
