//! One client connection, HTTP/1.1 or HTTP/2 with prior knowledge.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use poolctl_runtime::lame_duck::{self, LAME_DUCK};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::departures::Departing;
use crate::gateway::Worker;
use crate::inbound::Inbound;
use crate::respond::without_content;
use crate::standstill::{Standstill, Traffic};
use crate::strict_http::{Bypass, StrictHttp, Turns};
use crate::timer::SharedTimers;
use crate::upload::Source;

/// First bytes of the preface of HTTP/2 (RFC 9113, section 3.4): no method of HTTP/1 is called so.
const PREFACE_START: &[u8] = b"PRI ";

/// Room for a large body's bytes between two reads.
const READ_BUFFER_BYTES: usize = 512 << 10;

/// Streams that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 100;

/// Bytes in flight per HTTP/2 stream.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes in flight per HTTP/2 connection: what each of its streams may have, so that bodies which no replica takes leave the
/// others their way.
const CONNECTION_WINDOW_BYTES: u32 = MAX_STREAMS * STREAM_WINDOW_BYTES;

/// Longest header list over HTTP/2: as long as the head of an HTTP/1 request may be.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;

/// Silence after which an HTTP/2 peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long it has to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an HTTP/2 client that was idle has to take notice of the GOAWAY, before its connection is closed all the same.
const GOAWAY_PATIENCE: Duration = Duration::from_secs(20);

/// How long a client that sent a part of the preface is waited for before looking again: at first, and at most. The pause
/// doubles in between, so that many clients that stop there cost no time.
const SNIFF_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_SNIFF_PAUSE: Duration = Duration::from_millis(200);

/// Tells the connections of one thread to finish.
#[derive(Default)]
pub(crate) struct Drain {
    begun: AtomicBool,
    told: Notify,
}

impl Drain {
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Serves a connection until it ends, or until its requests are answered once `drain` has begun.
pub(crate) async fn serve(worker: Arc<Worker>, stream: TcpStream, peer: SocketAddr, drain: Arc<Drain>) {
    let limits = &worker.inner.settings.limits;
    let header_timeout = limits.header_timeout;
    // At most half of the time for the whole drain.
    let lame_duck = LAME_DUCK.min(limits.drain_timeout / 2);
    let sniffed = tokio::select! {
        biased;
        sniffed = tokio::time::timeout(header_timeout, is_http2(&stream)) => sniffed,
        () = over(&drain, lame_duck) => return,
    };
    let Ok(Ok(http2)) = sniffed else { return };
    let ended = if http2 {
        match serve_http2(&worker, stream, peer.ip(), &drain).await {
            Ok(ended) => ended,
            Err(Standstill::Idle) => return,
            Err(Standstill::Stalled) => {
                worker.inner.metrics.connections_stalled.inc();
                return;
            }
        }
    } else {
        serve_http1(&worker, stream, peer.ip(), &drain, lame_duck).await
    };
    if let Err(error) = ended {
        if is_stall(&error) {
            worker.inner.metrics.connections_stalled.inc();
        }
        tracing::debug!(%peer, %error, "a client connection broke");
    }
}

/// Serves an HTTP/1 connection until it ends.
async fn serve_http1(
    worker: &Arc<Worker>,
    stream: TcpStream,
    caller: IpAddr,
    drain: &Drain,
    lame_duck: Duration,
) -> Result<(), hyper::Error> {
    let limits = &worker.inner.settings.limits;
    let (bypass, turns) = (Arc::new(Bypass::default()), Arc::new(Turns::default()));
    let stream = Departing::new(stream, Arc::clone(&worker.departures));
    let stream = StrictHttp::new(stream, limits.header_timeout, Arc::clone(&bypass), Arc::clone(&turns));
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let from =
            |incoming| bypass.take().map_or_else(|| Source::Coming(Inbound::new(incoming, false)), Source::Arrived);
        let (answering, turns) = (worker.answer(request.map(from), caller), Arc::clone(&turns));
        async move {
            let mut response = answering.await;
            if drain.has_begun() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| turns.answer(body)))
        }
    });
    let mut connection = http1::Builder::new()
        .timer(SharedTimers(Arc::clone(&worker.timers)))
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let ended = drive(Pin::new(&mut connection), drain, lame_duck, http1::Connection::graceful_shutdown).await;
    let stream = connection.into_parts().io.into_inner();
    if ended.as_ref().is_err_and(hyper::Error::is_user) {
        // The service does not fail: the body of an answer has.
        stream.break_off();
    } else if let Err(error) = stream.end().await
        && error.kind() == io::ErrorKind::TimedOut
        && !ended.as_ref().is_err_and(is_stall)
    {
        worker.inner.metrics.connections_stalled.inc();
    }
    ended
}

/// Serves an HTTP/2 connection until it ends, or stands still for too long.
async fn serve_http2(
    worker: &Arc<Worker>,
    stream: TcpStream,
    caller: IpAddr,
    drain: &Drain,
) -> Result<Result<(), hyper::Error>, Standstill> {
    let limits = &worker.inner.settings.limits;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES);
    let traffic = Arc::new(Traffic::default());
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let is_head = request.method() == Method::HEAD;
        let request = request.map(|incoming| Source::Coming(Inbound::new(incoming, true)));
        let (answering, open) = (worker.answer(request, caller), traffic.begin());
        async move {
            let answer = answering.await;
            let answer = if is_head { without_content(answer) } else { answer };
            Ok::<_, Infallible>(answer.map(|body| open.answer(body)))
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let finish = http2::Connection::graceful_shutdown;
    let (stall, idle) = (limits.answer_stall_timeout, limits.idle_timeout);
    tokio::select! {
        // A first GOAWAY tells the client, and what it sent before it read that is still answered (RFC 9113, section 6.8).
        ended = drive(connection.as_mut(), drain, Duration::ZERO, finish) => return Ok(ended),
        standstill = traffic.stops(stall, idle) => if standstill == Standstill::Stalled {
            return Err(standstill);
        },
    }
    tokio::select! {
        ended = lame_duck::finish(connection, finish) => Ok(ended),
        standstill = traffic.stops(stall, idle.min(GOAWAY_PATIENCE)) => Err(standstill),
    }
}

/// Whether the kernel ended a connection because its client took nothing, or was not there to take it.
fn is_stall(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Polls a connection, and tells it to finish `lame_duck` after the drain has begun.
///
/// The drain is looked at as a flag: its notification is registered at the first poll only, so that a busy connection
/// does not take a shared lock each time that it is woken.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    drain: &Drain,
    lame_duck: Duration,
    finish: impl Fn(Pin<&mut C>),
) -> Result<(), hyper::Error>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    {
        let mut told = pin!(drain.told.notified());
        let mut registered = false;
        let ended = poll_fn(|cx| {
            if !registered {
                registered = true;
                let _ = told.as_mut().poll(cx);
            }
            match connection.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if drain.has_begun() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        if let Some(ended) = ended.await {
            return ended;
        }
    }
    if let Ok(ended) = tokio::time::timeout(lame_duck, connection.as_mut()).await {
        return ended;
    }
    lame_duck::finish(connection, finish).await
}

/// Resolves `patience` after the drain has begun.
async fn over(drain: &Drain, patience: Duration) {
    let told = drain.told.notified();
    if !drain.has_begun() {
        told.await;
    }
    tokio::time::sleep(patience).await;
}

/// Whether the client starts with the preface of HTTP/2. Nothing is consumed.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE_START.len()];
    let mut pause = SNIFF_PAUSE;
    loop {
        let seen = stream.peek(&mut start).await?;
        if seen == 0 || start[..seen] != PREFACE_START[..seen] {
            return Ok(false);
        }
        if seen == start.len() {
            return Ok(true);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_SNIFF_PAUSE);
    }
}
