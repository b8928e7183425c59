//! Bodies of the gateway's answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::account::{Account, Answer};
use crate::error::Reason;
use crate::timer::Timer;
use crate::upstream::{ConnectionError, H1Body};

/// How much of an answer is read before its head is passed on, as far as it is there already. Most answers are there
/// whole: their replica is free at once, however slowly their client reads.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// The body of an answer: the gateway's own, or a replica's with the request's account, which closes with the last byte.
///
/// An enum instead of a boxed trait object: the warm path allocates nothing for it.
pub(crate) enum ResponseBody {
    Own(Option<Bytes>),
    /// The gateway's own message of gRPC, followed by trailers that say it succeeded.
    OwnGrpc(VecDeque<Frame<Bytes>>),
    /// A replica's body of which nothing more is to come.
    Arrived {
        ahead: Ahead,
        _account: Account,
    },
    Relayed(Relayed),
}

impl ResponseBody {
    pub(crate) const fn empty() -> Self {
        Self::Own(None)
    }

    pub(crate) fn with_grpc_status(message: Bytes) -> Self {
        Self::OwnGrpc(VecDeque::from([Frame::data(message), Frame::trailers(crate::grpc::ok_trailers())]))
    }
}

/// The beginning of a replica's body, in the gateway's memory. A body of one frame takes no allocation.
#[derive(Default)]
pub(crate) struct Ahead {
    first: Option<Frame<Bytes>>,
    rest: VecDeque<Frame<Bytes>>,
    bytes: usize,
    /// Why nothing follows, if that is not the end.
    broken: Option<ConnectionError>,
}

/// A replica's body on its way to the client.
///
/// hyper polls a body only while its client takes bytes. So that a client which takes none cannot keep the replica, what
/// has not arrived is shared with a task that ends it at the deadline.
pub(crate) struct Relayed {
    ahead: Ahead,
    /// Empty once this is dropped.
    rest: Arc<Mutex<Option<Rest>>>,
    watcher: AbortHandle,
}

/// What of a replica's body has not arrived, with the request's account.
struct Rest {
    stage: Stage,
    account: Account,
    answer: Answer,
    reader: Option<Waker>,
}

enum Stage {
    Coming(UpstreamBody),
    Ended,
    PastDeadline,
}

/// A body as it arrives over either protocol.
pub(crate) enum UpstreamBody {
    H1(H1Body),
    H2(Incoming),
}

/// Why a relayed body ended early. The client sees its connection or stream reset, never a body that looks complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The replica's connection broke.
    #[error("the replica broke off its answer: {0}")]
    Upstream(#[from] ConnectionError),
    /// The deadline passed while the answer was still coming.
    #[error("the deadline passed before the answer was complete")]
    Deadline,
}

impl ResponseBody {
    /// Passes a replica's body on until `deadline`.
    pub(crate) fn relay(mut upstream: UpstreamBody, mut account: Account, answer: Answer, deadline: Timer) -> Self {
        let mut ahead = Ahead::default();
        // The next poll, by hyper, leaves the waker that counts.
        ahead.fill(&mut upstream, &mut Context::from_waker(Waker::noop()));
        if ahead.broken.is_some() {
            account.break_off(answer, Reason::ReplicaLost);
            return Self::Arrived { ahead, _account: account };
        }
        if upstream.is_end_stream() {
            account.complete(answer);
            return Self::Arrived { ahead, _account: account };
        }
        let rest = Rest { stage: Stage::Coming(upstream), account, answer, reader: None };
        let rest = Arc::new(Mutex::new(Some(rest)));
        let watched = Arc::clone(&rest);
        let watcher = tokio::spawn(async move {
            deadline.await;
            if let Some(rest) = &mut *watched.lock() {
                rest.pass_deadline();
            }
        });
        Self::Relayed(Relayed { ahead, rest, watcher: watcher.abort_handle() })
    }
}

impl Ahead {
    /// Takes what is there already.
    fn fill(&mut self, upstream: &mut UpstreamBody, cx: &mut Context<'_>) {
        while self.bytes < READ_AHEAD_BYTES && !upstream.is_end_stream() {
            match upstream.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    match self.first {
                        None => self.first = Some(frame),
                        Some(_) => self.rest.push_back(frame),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.broken = Some(error);
                    return;
                }
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    fn next(&mut self) -> Option<Result<Frame<Bytes>, RelayError>> {
        let frame = self.first.take().or_else(|| self.rest.pop_front());
        match frame {
            Some(frame) => {
                self.bytes -= frame.data_ref().map_or(0, Bytes::len);
                Some(Ok(frame))
            }
            None => self.broken.take().map(|error| Err(error.into())),
        }
    }

    /// Of a body of which nothing more is to come.
    fn size_hint(&self) -> SizeHint {
        match self.broken {
            None => SizeHint::with_exact(self.bytes as u64),
            Some(_) => SizeHint::default(),
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty() && self.broken.is_none()
    }
}

impl Rest {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let upstream = match &mut self.stage {
            Stage::Coming(upstream) => upstream,
            Stage::Ended => return Poll::Ready(None),
            Stage::PastDeadline => return Poll::Ready(Some(Err(RelayError::Deadline))),
        };
        let polled = upstream.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) if !upstream.is_end_stream() => {}
            Poll::Ready(Some(Ok(_)) | None) => {
                self.account.complete(self.answer);
                self.stage = Stage::Ended;
            }
            Poll::Ready(Some(Err(_))) => {
                self.account.break_off(self.answer, Reason::ReplicaLost);
                self.stage = Stage::Ended;
            }
            Poll::Pending => self.reader = Some(cx.waker().clone()),
        }
        polled.map_err(RelayError::from)
    }

    /// Gives the replica back, and tells whoever reads.
    fn pass_deadline(&mut self) {
        if matches!(self.stage, Stage::Coming(_)) {
            self.stage = Stage::PastDeadline;
            self.account.break_off(self.answer, Reason::Deadline);
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Relayed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        if let Some(frame) = self.ahead.next() {
            return Poll::Ready(Some(frame));
        }
        self.rest.lock().as_mut().map_or(Poll::Ready(None), |rest| rest.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        let ended = |rest: &Rest| matches!(rest.stage, Stage::Ended);
        self.ahead.is_empty() && self.rest.lock().as_ref().is_none_or(ended)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.bytes as u64;
        match self.rest.lock().as_ref().map(|rest| &rest.stage) {
            Some(Stage::Coming(upstream)) => {
                let rest = upstream.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(ahead));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(ahead));
                }
                hint
            }
            _ => SizeHint::with_exact(ahead),
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.watcher.abort();
        // The client has left or has everything: the replica is free now, not when the watcher is gone.
        let rest = self.rest.lock().take();
        drop(rest);
    }
}

impl UpstreamBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ConnectionError>>> {
        match self {
            Self::H1(body) => Pin::new(body).poll_frame(cx).map_err(ConnectionError::from),
            Self::H2(body) => Pin::new(body).poll_frame(cx).map_err(ConnectionError::from),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(body) => body.size_hint(),
            Self::H2(body) => body.size_hint(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        match &mut *self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::OwnGrpc(frames) => Poll::Ready(frames.pop_front().map(Ok)),
            Self::Arrived { ahead, .. } => Poll::Ready(ahead.next()),
            Self::Relayed(relayed) => relayed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::OwnGrpc(frames) => frames.is_empty(),
            Self::Arrived { ahead, .. } => ahead.is_empty(),
            Self::Relayed(relayed) => relayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::OwnGrpc(_) => SizeHint::default(),
            Self::Arrived { ahead, .. } => ahead.size_hint(),
            Self::Relayed(relayed) => relayed.size_hint(),
        }
    }
}
