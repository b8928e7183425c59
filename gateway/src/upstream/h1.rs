//! HTTP/1.1 connections to one replica, driven by the request that uses them.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gateway_policy::Moment;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::signal::Signal;
use super::{UpstreamError, connect};
use crate::clock::Clock;
use crate::gathering::Gathering;
use crate::upload::RequestBody;

/// A connection unused for this long is closed rather than used: below the shortest keep-alive of the usual servers
/// (uvicorn's 5 s), so that a request rarely meets a connection that its server is just closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per replica and thread: more than any replica's sensible concurrency.
const MAX_IDLE: usize = 256;

/// Room for a large body's bytes between two reads: a quarter of the reads of hyper's default for tensors.
const READ_BUFFER_BYTES: usize = 512 << 10;

type Driver = http1::Connection<TokioIo<Gathering<TcpStream>>, RequestBody>;

/// One connection, its two halves together; boxed by its owners, so that passing it on moves a pointer.
pub(crate) struct H1Connection {
    sender: SendRequest<RequestBody>,
    /// Absent once it has ended.
    driver: Option<Driver>,
    signal: Signal,
}

/// The idle connections of one replica on one thread.
pub(crate) struct H1Pool {
    idle: Mutex<Vec<(Moment, Box<H1Connection>)>>,
    clock: Clock,
}

impl H1Pool {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { idle: Mutex::new(Vec::new()), clock }
    }

    /// The connection used last. Its server may have closed it: then its exchange gives the request back.
    pub(crate) fn take(&self) -> Option<Box<H1Connection>> {
        self.idle.lock().pop().map(|(_, connection)| connection)
    }

    /// Keeps a connection whose exchange is over, if it can be used again.
    fn give_back(&self, mut connection: Box<H1Connection>) {
        if connection.is_ready() || connection.settle() {
            let mut idle = self.idle.lock();
            if idle.len() < MAX_IDLE {
                idle.push((self.clock.now(), connection));
            }
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, now: Moment) {
        let expired: Vec<_> = {
            let mut idle = self.idle.lock();
            // Used last is taken first, so the oldest are in front.
            let stale = idle.partition_point(|(since, _)| now.saturating_since(*since) > IDLE_TIMEOUT);
            idle.drain(..stale).collect()
        };
        drop(expired);
    }

    /// Closes every idle connection.
    pub(crate) fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }
}

impl H1Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Box<Self>, UpstreamError> {
        let stream = connect(addr).await?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(READ_BUFFER_BYTES)
            .handshake(TokioIo::new(Gathering::new(stream)))
            .await
            .map_err(|source| UpstreamError::Unsent { source })?;
        let mut connection = Box::new(Self { sender, driver: Some(driver), signal: Signal::new() });
        connection.settle();
        Ok(connection)
    }

    /// Lets the connection finish what it can without waiting; whether it is ready for a request then.
    fn settle(&mut self) -> bool {
        // Nobody is to be woken by an idle connection.
        self.signal.detach();
        self.drive();
        self.is_ready()
    }

    fn is_ready(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Moves bytes. A driver that ends is dropped: that completes what it still owes to others.
    fn drive(&mut self) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(&mut self.signal.context()).is_ready()
        {
            self.driver = None;
        }
    }

    /// Sends `request` and waits for the head of its response. Dropping the future closes the connection.
    ///
    /// # Errors
    /// The connection ended. The error holds the request if none of it was written.
    pub(crate) async fn exchange(
        mut self: Box<Self>,
        request: Request<RequestBody>,
        pool: &Arc<H1Pool>,
    ) -> Result<Response<H1Body>, TrySendError<Request<RequestBody>>> {
        let mut response = pin!(self.sender.try_send_request(request));
        self.signal.raise();
        let response = poll_fn(|cx| {
            self.signal.attach(cx.waker());
            // The client's connection wakes this task too.
            if !self.signal.take() {
                return Poll::Pending;
            }
            self.drive();
            // Only the driver completes this future, so the driver's own wakers are all that is needed.
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await?;
        // Whoever reads the body drives the connection: taking what has arrived need not wake this task again.
        self.signal.detach();
        Ok(response.map(|incoming| H1Body { incoming, connection: Some(self), pool: Arc::clone(pool), ended: false }))
    }
}

/// A response body together with the connection that it arrives on, which goes back to its pool after the last byte.
pub(crate) struct H1Body {
    incoming: Incoming,
    connection: Option<Box<H1Connection>>,
    pool: Arc<H1Pool>,
    ended: bool,
}

impl H1Body {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Err(_))) => self.connection = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}

impl Body for H1Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = self.poll_incoming(cx);
        if polled.is_ready() {
            return polled;
        }
        let Some(connection) = &mut self.connection else {
            return Poll::Pending;
        };
        connection.signal.attach(cx.waker());
        connection.drive();
        self.poll_incoming(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for H1Body {
    fn drop(&mut self) {
        if self.is_end_stream()
            && let Some(connection) = self.connection.take()
        {
            self.pool.give_back(connection);
        }
    }
}
