//! The bytes that come out of the filter, whatever the pieces that they go in and out by.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::PATIENCE;
use crate::strict_http::{Bypass, StrictHttp, Turns, Violation};

/// A socket from which given pieces arrive, one a read at most, and then the end.
struct FakeSocket(VecDeque<Vec<u8>>);

impl FakeSocket {
    fn new(bytes: &[u8], sizes: &[usize]) -> Self {
        let mut rest = bytes;
        let mut sizes = sizes.iter().cycle();
        let mut pieces = VecDeque::new();
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
            let (piece, after) = rest.split_at(size);
            pieces.push_back(piece.to_vec());
            rest = after;
        }
        Self(pieces)
    }
}

impl AsyncRead for FakeSocket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Closed,
    /// The last bytes say what was wrong with a head.
    Refused,
    Broken(Violation),
}

/// Everything that can be read, `sizes` bytes at most at a time.
fn drain(socket: FakeSocket, sizes: &[usize]) -> (Vec<u8>, End) {
    // Nothing goes past this reader: the way is taken.
    let bypass = Arc::new(Bypass::default());
    assert!(bypass.put(u64::MAX, b""));
    let mut stream = StrictHttp::new(socket, PATIENCE, bypass, Arc::new(Turns::endless()));
    let mut context = Context::from_waker(Waker::noop());
    let mut out = Vec::new();
    for size in sizes.iter().cycle() {
        let mut space = vec![0; *size];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut stream).poll_read(&mut context, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => break,
            Poll::Ready(Ok(())) => out.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => {
                let violation = error.get_ref().and_then(|inner| inner.downcast_ref()).copied();
                return (out, End::Broken(violation.expect("the socket itself does not fail")));
            }
            Poll::Pending => return (out, End::Refused),
        }
    }
    (out, End::Closed)
}

fn head(lines: &[(&str, String)], request_line: &str) -> Vec<u8> {
    let mut head = format!("{request_line}\r\nHost: digits.vision\r\n");
    for (name, value) in lines {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

/// A request that is well-formed, with a body that may itself look like a request.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        Just(b"GET / HTTP/1.1\nHost: a\n\n".to_vec()),
        Just(b"\r\n\r\n0\r\n\r\n".to_vec()),
    ];
    let framing = prop_oneof![Just(None), (1usize..80).prop_map(Some)];
    let empty_line = prop::bool::weighted(0.1);
    (body, framing, "[!-~]{0,300}", empty_line).prop_map(|(body, chunk, value, empty_line)| {
        let mut message = if empty_line { b"\r\n".to_vec() } else { Vec::new() };
        let extra = ("X-Extra", value);
        match chunk {
            None => {
                let length = ("Content-Length", body.len().to_string());
                message.extend(head(&[extra, length], "POST /v2/models/digits/infer HTTP/1.1"));
                message.extend(body);
            }
            Some(size) => {
                let encoding = ("transfer-encoding", "chunked".to_owned());
                message.extend(head(&[encoding, extra], "PUT http://digits.vision:80/x?y HTTP/1.1"));
                for chunk in body.chunks(size) {
                    message.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()));
                    message.extend(b"\r\n");
                }
                message.extend(b"0\r\nX-Sum: 1\r\n\r\n");
            }
        }
        message
    })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), Just(vec![1 << 16]), prop::collection::vec(1usize..600, 1..8)]
}

proptest! {
    #[test]
    fn well_formed_messages_come_out_as_they_went_in(
        messages in prop::collection::vec(message(), 1..6), arriving in sizes(), reading in sizes(),
    ) {
        let bytes = messages.concat();
        let (out, end) = drain(FakeSocket::new(&bytes, &arriving), &reading);
        prop_assert_eq!(end, End::Closed);
        prop_assert!(out == bytes);
    }

    /// Whatever a client sends, what is let through does not depend on how it was cut, and is nothing that it did not
    /// send.
    #[test]
    fn damaged_messages_come_out_the_same_however_they_are_cut(
        messages in prop::collection::vec(message(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), damaging_byte()), 1..4),
        arriving in sizes(),
        reading in sizes(),
    ) {
        let mut bytes = messages.concat();
        for (index, byte) in damage {
            *index.get_mut(&mut bytes[..]) = byte;
        }
        let whole = drain(FakeSocket::new(&bytes, &[]), &[1 << 20]);
        prop_assert_eq!(&drain(FakeSocket::new(&bytes, &arriving), &reading), &whole);
        let (out, end) = whole;
        let sent = match end {
            End::Refused => out.len() - out.rsplit(|byte| *byte == b'R').next().map_or(0, <[u8]>::len) - 1,
            End::Closed | End::Broken(_) => out.len(),
        };
        prop_assert!(bytes.starts_with(&out[..sent]));
    }
}

fn damaging_byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b'0'), Just(b'9'), Just(b'f'), any::<u8>()]
}

#[test]
fn half_a_head_is_no_request() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n";
    assert_eq!(drain(FakeSocket::new(bytes, &[3]), &[100]), (Vec::new(), End::Closed));
}
