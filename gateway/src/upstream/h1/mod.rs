//! HTTP/1.1 connections to one replica, driven by the request that uses them.
//!
//! Forwarding is what a gateway is for, and a general client costs it more than all of its own work on a small request:
//! tasks or channels between two halves of a connection, buffers, and headers that are copied and looked up several times.
//! Here one future owns the connection: the head is written from the caller's headers in one piece with a small body, and
//! the answer is read onto the stack and kept in one allocation. What an answer may look like is checked strictly: a
//! replica's answer that could be read in two ways is an error, not a guess.

mod answer;
mod body;
mod outgoing;

pub(crate) use body::H1Body;
pub(crate) use outgoing::RequestHead;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_policy::Moment;
use http::{Method, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

use super::{UpstreamError, connect};
use crate::departures::{Departing, Departures};
use crate::strict_http::Violation;
use crate::upload::{RequestBody, UploadFailed};
use answer::AnswerHead;
use outgoing::Outgoing;

/// A connection unused for this long is closed rather than used: below the shortest keep-alive of the usual servers
/// (uvicorn's 5 s), so that a request rarely meets a connection that its server is just closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per replica and thread: more than any replica's sensible concurrency.
const MAX_IDLE: usize = 256;

/// Room for one read of a head and what follows it: most answers are there whole.
const READ_BYTES: usize = 8 << 10;

/// Interim answers before the final one. Servers send one or two; more are a loop.
const INTERIM_ANSWERS: u32 = 16;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum H1Error {
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The replica closed the connection too early.
    #[error("it was closed {0}")]
    Closed(&'static str),
    /// The head of the answer is not well-formed, or can be read in two ways.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The answer's chunks are not well-formed.
    #[error("the answer is malformed: {0}")]
    Chunks(Violation),
    /// The replica sent something that nobody had asked for.
    #[error("it carried bytes that belong to no answer")]
    Unsolicited,
    /// The client's body failed.
    #[error(transparent)]
    Upload(#[from] UploadFailed),
}

/// One connection; boxed by its owners, so that passing it on moves a pointer.
#[derive(Debug)]
pub(crate) struct H1Connection {
    stream: Departing,
}

/// The idle connections of one replica on one thread.
pub(crate) struct H1Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<(Moment, Box<H1Connection>)>,
    /// The time of the last sweep: how long a connection is idle is known as exactly as sweeps are frequent, and nobody
    /// reads the clock for it.
    swept: Moment,
}

impl H1Pool {
    pub(crate) fn new() -> Self {
        Self { idle: Mutex::default() }
    }

    /// The connection used last. Its server may have closed it: then its exchange says that nothing was sent.
    pub(crate) fn take(&self) -> Option<Box<H1Connection>> {
        self.idle.lock().connections.pop().map(|(_, connection)| connection)
    }

    /// Keeps a connection whose exchange is over.
    fn give_back(&self, connection: Box<H1Connection>) {
        let mut idle = self.idle.lock();
        if idle.connections.len() < MAX_IDLE {
            let since = idle.swept;
            idle.connections.push((since, connection));
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, now: Moment) {
        let expired: Vec<_> = {
            let mut idle = self.idle.lock();
            idle.swept = now;
            // Used last is taken first, so the oldest are in front.
            let stale = idle.connections.partition_point(|(since, _)| now.saturating_since(*since) > IDLE_TIMEOUT);
            idle.connections.drain(..stale).collect()
        };
        drop(expired);
    }

    /// Closes every idle connection.
    pub(crate) fn clear(&self) {
        let idle = std::mem::take(&mut self.idle.lock().connections);
        drop(idle);
    }
}

impl H1Connection {
    pub(crate) async fn open(addr: SocketAddr, departures: &Arc<Departures>) -> Result<Box<Self>, UpstreamError> {
        Ok(Box::new(Self { stream: Departing::new(connect(addr).await?, Arc::clone(departures)) }))
    }

    /// Sends a request and waits for the head of its answer. Dropping the future closes the connection.
    ///
    /// # Errors
    /// [`UpstreamError::Unsent`] if the connection ended before any of the request was written, and nothing of `body` was
    /// taken: it can be sent again.
    pub(crate) async fn exchange(
        mut self: Box<Self>,
        head: &RequestHead<'_>,
        body: RequestBody,
        pool: &Arc<H1Pool>,
    ) -> Result<Response<H1Body>, UpstreamError> {
        self.check_silence().map_err(|source| UpstreamError::Unsent { source: source.into() })?;
        let mut outgoing = Outgoing::new(head, body);
        let mut reader = HeadReader::new(head.method);
        let (mut answer, arrived) = poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = outgoing.poll_send(&mut self.stream, cx) {
                if outgoing.is_untouched() {
                    return Poll::Ready(Err(UpstreamError::Unsent { source: error.into() }));
                }
                if let H1Error::Upload(_) = error {
                    return Poll::Ready(Err(error.into()));
                }
                // A server may refuse a request before it has read it all: its answer tells more than the failed write.
                outgoing.give_up();
            }
            let head = ready!(reader.poll_head(&mut self.stream, &outgoing, cx));
            if self.stream.has_sent_nothing() {
                let error = head.err().unwrap_or(H1Error::Unsolicited);
                return Poll::Ready(Err(UpstreamError::Unsent { source: error.into() }));
            }
            Poll::Ready(head.map_err(UpstreamError::from))
        })
        .await?;
        let mut response = Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = std::mem::take(&mut answer.headers);
        let body = H1Body::new(self, arrived, &answer, outgoing, pool);
        Ok(response.map(|()| body))
    }

    /// Whether nothing has arrived since the last answer: neither an end nor bytes that belong to none. What the runtime
    /// has not heard of yet is not asked for: that would take a system call.
    fn check_silence(&self) -> Result<(), H1Error> {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
            Ok(0) => Err(H1Error::Closed("while it was idle")),
            Ok(_) => Err(H1Error::Unsolicited),
        }
    }
}

/// Reads up to the end of the final answer's head.
struct HeadReader<'a> {
    method: &'a Method,
    /// An incomplete head, or what follows an interim answer: usually nothing, ever.
    kept: BytesMut,
    interim_answers: u32,
}

impl<'a> HeadReader<'a> {
    fn new(method: &'a Method) -> Self {
        Self { method, kept: BytesMut::new(), interim_answers: 0 }
    }

    /// The head, and the bytes that arrived after it.
    fn poll_head(
        &mut self,
        stream: &mut Departing,
        outgoing: &Outgoing,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(AnswerHead, Bytes), H1Error>> {
        loop {
            // On the stack: it is in the cache, and a request that waits for its answer takes no memory for it.
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                let when = if self.kept.is_empty() { "before its answer" } else { "in the middle of an answer's head" };
                return Poll::Ready(Err(H1Error::Closed(when)));
            }
            let mut arrived = if self.kept.is_empty() {
                Bytes::copy_from_slice(read.filled())
            } else {
                self.kept.extend_from_slice(read.filled());
                self.kept.split().freeze()
            };
            while let Some(head) = AnswerHead::parse(&mut arrived, self.method)? {
                if !head.status.is_informational() {
                    return Poll::Ready(Ok((head, arrived)));
                }
                self.interim_answers += 1;
                if self.interim_answers > INTERIM_ANSWERS {
                    return Poll::Ready(Err(H1Error::Malformed("too many interim answers")));
                }
                if head.status == http::StatusCode::CONTINUE {
                    outgoing.consent();
                }
            }
            self.kept = BytesMut::from(arrived);
        }
    }
}

#[cfg(test)]
mod tests;
