//! An HTTP/1.1 client connection that costs little and accounts exactly.
//!
//! A general client hides what a load test must know: which connection a request used, whether bytes of an answer had
//! arrived when it broke, when the first of them did. And at tens of thousands of requests a second on the core that the
//! upstream shares, its own cost would be measured instead of the proxy's. Heads are parsed by `httparse`.

mod answer;
mod body;

pub use answer::{Answer, Keep, Labels};

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;

use answer::Head;
use body::{Framing, Progress};

/// Longest head of an answer that is read: more is no answer of a server under test.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most headers of an answer.
const MAX_HEADERS: usize = 64;

/// How much room a read is given: an answer of a small inference in one system call.
const READ_BYTES: usize = 16 * 1024;

/// Room for a read of what is known to come: as much as the gateway takes at a time of a replica's answer.
const LARGE_READ_BYTES: usize = 512 * 1024;

/// Why a request got no complete answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("connecting failed: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke or was closed before the answer was complete.
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    /// The answer is not HTTP/1.1.
    #[error("the answer is not HTTP/1.1: {0}")]
    Malformed(String),
    /// No complete answer within the client's own patience.
    #[error("no answer in time")]
    TimedOut,
}

impl Failure {
    /// The name under which a report counts it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Broken(_) => "broken",
            Self::Malformed(_) => "malformed",
            Self::TimedOut => "timeout",
        }
    }
}

/// One connection; it carries one request at a time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Connect`]
    pub async fn open(addr: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(READ_BYTES) })
    }

    /// Whether the server has closed this idle connection, or sent bytes that nobody asked for: it cannot be used again.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let mut probe = [0; 1];
        !matches!(self.stream.try_read(&mut probe), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends `request` (head and body) and reads the answer to its end.
    ///
    /// # Errors
    /// Every [`Failure`] but `Connect` and `TimedOut`; the connection must not be used again.
    pub async fn exchange(&mut self, request: &[u8], keep: Keep) -> Result<Answer, Failure> {
        let sent_whole = self.send(request).await?;
        let (head, first_byte) = self.read_head(keep).await?;
        let mut body = BytesMut::new();
        let mut body_bytes = 0;
        let mut framing = head.framing;
        loop {
            match framing.advance(&mut self.buffer).map_err(Failure::Malformed)? {
                Progress::Data(chunk) => {
                    body_bytes += chunk.len() as u64;
                    if keep == Keep::Body {
                        body.extend_from_slice(&chunk);
                    }
                }
                Progress::Passed => {}
                Progress::NeedsMore => match self.read_more(framing.expected()).await {
                    Ok(()) => {}
                    Err(Failure::Broken(error))
                        if error.kind() == io::ErrorKind::UnexpectedEof && matches!(framing, Framing::UntilClose) =>
                    {
                        break;
                    }
                    Err(failure) => return Err(failure),
                },
                Progress::Complete => break,
            }
        }
        Ok(Answer {
            status: head.status,
            labels: head.labels,
            first_byte,
            done: Instant::now(),
            body: body.freeze(),
            body_bytes,
            reusable: head.keep_alive && sent_whole && !matches!(framing, Framing::UntilClose),
        })
    }

    /// False when the server answered before it took the whole request, as it does when it refuses it.
    async fn send(&mut self, request: &[u8]) -> Result<bool, Failure> {
        let mut rest = request;
        while !rest.is_empty() {
            match self.stream.try_write(rest) {
                Ok(0) => return Err(Failure::Broken(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready =
                        self.stream.ready(Interest::READABLE | Interest::WRITABLE).await.map_err(Failure::Broken)?;
                    if ready.is_readable() && self.fill_now()? {
                        return Ok(false);
                    }
                }
                // A server that refuses a body may reset after its answer: the answer counts if it has arrived.
                Err(error) => {
                    return if matches!(self.fill_now(), Ok(true)) { Ok(false) } else { Err(Failure::Broken(error)) };
                }
            }
        }
        Ok(true)
    }

    /// Takes what has arrived; false where nothing has.
    fn fill_now(&mut self) -> Result<bool, Failure> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.buffer) {
            Ok(0) => Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(Failure::Broken(error)),
        }
    }

    /// Reads what has arrived, of which `expected` bytes are known to come.
    async fn read_more(&mut self, expected: u64) -> Result<(), Failure> {
        let expected = usize::try_from(expected).unwrap_or(LARGE_READ_BYTES);
        self.buffer.reserve(expected.clamp(READ_BYTES, LARGE_READ_BYTES));
        match self.stream.read_buf(&mut self.buffer).await.map_err(Failure::Broken)? {
            0 => Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    async fn read_head(&mut self, keep: Keep) -> Result<(Head, Instant), Failure> {
        let mut first_byte = (!self.buffer.is_empty()).then(Instant::now);
        loop {
            if !self.buffer.is_empty() {
                let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
                let mut response = httparse::Response::new(&mut headers);
                match response.parse(&self.buffer).map_err(|error| Failure::Malformed(error.to_string()))? {
                    httparse::Status::Complete(length) => {
                        let head = Head::read(&response, keep).map_err(Failure::Malformed)?;
                        self.buffer.advance(length);
                        // 100-continue and its kind announce another head.
                        if !(100..200).contains(&head.status) {
                            return Ok((head, first_byte.unwrap_or_else(Instant::now)));
                        }
                        continue;
                    }
                    httparse::Status::Partial if self.buffer.len() > MAX_HEAD_BYTES => {
                        return Err(Failure::Malformed(format!("its head is above {MAX_HEAD_BYTES} bytes")));
                    }
                    httparse::Status::Partial => {}
                }
            }
            self.read_more(0).await?;
            first_byte.get_or_insert_with(Instant::now);
        }
    }
}

/// Gives an exchange so much time, connecting included if it connects.
///
/// # Errors
/// Its own, or [`Failure::TimedOut`]; its connection is dropped with it.
pub async fn within(
    patience: Duration,
    exchange: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Answer, Failure> {
    tokio::time::timeout(patience, exchange).await.unwrap_or(Err(Failure::TimedOut))
}

/// The bytes of a request with a body: keep-alive, of known length.
#[must_use]
pub fn post(host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Bytes {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    append_headers(&mut request, headers);
    request.extend_from_slice(body);
    request.into()
}

/// The bytes of a request without a body.
#[must_use]
pub fn get(host: &str, path: &str) -> Bytes {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes().into()
}

fn append_headers(request: &mut Vec<u8>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
