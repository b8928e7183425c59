//! A request on its way out.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::H1Error;
use crate::departures::{Departing, SMALL_BYTES};
use crate::upload::{RequestBody, Upload, UploadFailed};

/// Room for a usual head.
const HEAD_BYTES: usize = 512;

/// What a request says before its body.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// What they say of the body's framing is left out: it follows from the body that is sent.
    pub(crate) headers: &'a HeaderMap,
    /// `Host`, if it is not among them.
    pub(crate) host: &'a (dyn Fn() -> HeaderValue + Sync),
    /// Further headers: the replica's identity, an expectation.
    pub(crate) added: [Option<(HeaderName, HeaderValue)>; 2],
}

/// What is still to be written of a request.
pub(super) struct Outgoing {
    state: State,
    /// Written first: the head, with a small body behind it, or what delimits a chunk.
    front: Vec<u8>,
    front_written: usize,
    /// Written next: a piece of the body.
    data: Bytes,
    /// Where the rest of the body comes from.
    source: Option<Upload>,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been written, nor taken from the body.
    Untouched,
    Sending,
    Sent,
    /// The replica takes no more.
    GivenUp,
}

/// How a streamed body is delimited.
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks; whether one has been written.
    Chunked { begun: bool },
}

impl Outgoing {
    pub(super) fn new(head: &RequestHead<'_>, body: RequestBody) -> Self {
        let length = body.size_hint().exact();
        let copied = match &body {
            RequestBody::Full(Some(data)) if HEAD_BYTES + data.len() <= SMALL_BYTES => data.len(),
            _ => 0,
        };
        let mut front = Vec::with_capacity(HEAD_BYTES + copied);
        write_head(head, length, &mut front);
        let (data, source) = match body {
            RequestBody::Full(Some(data)) if copied > 0 => {
                front.extend_from_slice(&data);
                (Bytes::new(), None)
            }
            RequestBody::Full(data) => (data.unwrap_or_default(), None),
            RequestBody::Streaming(upload) => (Bytes::new(), Some(upload)),
            RequestBody::Empty => (Bytes::new(), None),
        };
        let framing = length.map_or(Framing::Chunked { begun: false }, Framing::Length);
        Self { state: State::Untouched, front, front_written: 0, data, source, framing }
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.state == State::Untouched
    }

    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    /// Sends no more: the replica has stopped reading.
    pub(super) fn give_up(&mut self) {
        self.state = State::GivenUp;
        self.source = None;
    }

    /// The replica wants the body: it is no longer held back.
    pub(super) fn consent(&self) {
        if let Some(upload) = &self.source {
            upload.open_gate();
        }
    }

    /// Writes what can be written; ready when nothing more is to be written.
    pub(super) fn poll_send(&mut self, stream: &mut Departing, cx: &mut Context<'_>) -> Poll<Result<(), H1Error>> {
        while matches!(self.state, State::Untouched | State::Sending) {
            if self.front_written < self.front.len() || !self.data.is_empty() {
                ready!(self.poll_write(stream, cx))?;
                self.state = State::Sending;
                continue;
            }
            let Some(upload) = &mut self.source else {
                self.state = State::Sent;
                self.front = Vec::new();
                break;
            };
            match ready!(upload.poll_frame(cx)).transpose()? {
                // Trailers are not passed on, as RFC 9110, 6.5.1 lets anyone do.
                Some(frame) => self.put(frame.into_data().unwrap_or_default())?,
                None => self.end()?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, stream: &mut Departing, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let front = &self.front[self.front_written..];
        let written = ready!(if self.state == State::Untouched && self.data.is_empty() && self.source.is_none() {
            // All of the request: whether any of it was sent is asked for if it fails.
            Pin::new(stream).poll_write(cx, front)
        } else if self.data.is_empty() {
            stream.poll_write_now(cx, &[IoSlice::new(front)])
        } else if front.is_empty() {
            stream.poll_write_now(cx, &[IoSlice::new(&self.data)])
        } else {
            stream.poll_write_now(cx, &[IoSlice::new(front), IoSlice::new(&self.data)])
        })?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_front = written.min(front.len());
        self.front_written += of_front;
        self.data.advance(written - of_front);
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece of the body.
    fn put(&mut self, data: Bytes) -> Result<(), UploadFailed> {
        if data.is_empty() {
            return Ok(());
        }
        self.clear_front();
        match &mut self.framing {
            // The head has announced a length: a body of another would be taken for the next request.
            Framing::Length(left) => *left = left.checked_sub(data.len() as u64).ok_or(UploadFailed)?,
            Framing::Chunked { begun } => {
                let end_of_last = if std::mem::replace(begun, true) { "\r\n" } else { "" };
                write_to(&mut self.front, format_args!("{end_of_last}{:x}\r\n", data.len()));
            }
        }
        self.data = data;
        Ok(())
    }

    /// The body is complete.
    fn end(&mut self) -> Result<(), UploadFailed> {
        self.source = None;
        self.clear_front();
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err(UploadFailed),
            Framing::Chunked { begun } => {
                self.front.extend_from_slice(if begun { b"\r\n0\r\n\r\n" } else { b"0\r\n\r\n" });
            }
        }
        Ok(())
    }

    fn clear_front(&mut self) {
        self.front.clear();
        self.front_written = 0;
    }
}

/// Writes the head of a request with a body of `length` bytes, or of chunks.
fn write_head(head: &RequestHead<'_>, length: Option<u64>, out: &mut Vec<u8>) {
    for part in [head.method.as_str(), " ", head.target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut line = |name: &HeaderName, value: &HeaderValue| {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    let mut has_host = false;
    for (name, value) in head.headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            has_host |= *name == HOST;
            line(name, value);
        }
    }
    if !has_host {
        line(&HOST, &(head.host)());
    }
    for (name, value) in head.added.iter().flatten() {
        line(name, value);
    }
    match length {
        // Only where a body would be expected does its absence need saying (RFC 9110, 8.6).
        Some(0) if matches!(*head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE) => {
            out.extend_from_slice(b"\r\n");
        }
        Some(length) => {
            for part in ["content-length: ", itoa::Buffer::new().format(length), "\r\n\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        None => out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
    }
}

fn write_to(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}
