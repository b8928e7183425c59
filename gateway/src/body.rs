//! Bodies of the gateway's answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gateway_policy::Moment;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::account::{Account, Answer};
use crate::error::Error;
use crate::respond::grpc_trailers;
use crate::timer::Timer;
use crate::upload::Upload;
use crate::upstream::{ConnectionError, H1Body};

/// How much of an answer is read before its head is passed on, as far as it is there already. Most answers are there
/// whole: their replica is free at once, however slowly their client reads.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// The body of an answer: the gateway's own, or a replica's; while that comes it has the request's account.
///
/// An enum instead of a boxed trait object: the warm path allocates nothing for it.
pub(crate) enum ResponseBody {
    Own(Option<Bytes>),
    /// The gateway's own message of gRPC, followed by trailers that say it succeeded.
    OwnGrpc(VecDeque<Frame<Bytes>>),
    /// A replica's body that is there whole.
    Arrived(Ahead),
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
}

/// A replica's body on its way to the client.
///
/// hyper polls a body only while its client takes bytes. So that a client which takes none cannot keep the replica, what
/// has not arrived is shared with a task that ends it at the deadline.
pub(crate) struct Relayed {
    ahead: Ahead,
    rest: Arc<Mutex<Rest>>,
    watcher: AbortHandle,
}

/// How a client is told that its answer ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlyEnd {
    /// Its connection or stream is reset.
    Reset,
    /// By the trailers that end a call of gRPC over HTTP/2: they tell why.
    GrpcTrailers,
}

/// The end of a request's time.
pub(crate) struct Deadline {
    /// How long it had, from its beginning on.
    pub(crate) timeout: Duration,
    pub(crate) timer: Timer,
}

/// What of a replica's body has not arrived.
struct Rest {
    coming: Option<Coming>,
    /// What comes in its place, if it ends early.
    last: Option<Result<Frame<Bytes>, RelayError>>,
    early_end: EarlyEnd,
    timeout: Duration,
    reader: Option<Waker>,
}

/// A body that a replica is sending.
struct Coming {
    upstream: UpstreamBody,
    account: Account,
    answer: Answer,
    /// The request's body, if it was streamed: it may not have left yet, and how that ends is its client's doing.
    upload: Option<Upload>,
    /// Since when nothing has come that was waited for.
    silent_since: Option<Moment>,
}

/// A body as it arrives over either protocol.
pub(crate) enum UpstreamBody {
    H1(H1Body),
    H2(Incoming),
}

/// Why a relayed body ended early. The client sees its connection or stream reset, never a body that looks complete.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub(crate) struct RelayError(Error);

impl ResponseBody {
    /// Passes a replica's body on until `deadline`; `upload` is what may not have left of the request's.
    ///
    /// # Errors
    /// It broke off, and the client has nothing of it.
    pub(crate) fn relay(
        mut upstream: UpstreamBody,
        mut account: Account,
        mut answer: Answer,
        upload: Option<Upload>,
        deadline: (Deadline, EarlyEnd),
    ) -> Result<Self, Error> {
        let mut ahead = Ahead::default();
        // The next poll, by hyper, leaves the waker that counts.
        if let Err(broken) = ahead.fill(&mut upstream, &mut answer, &mut Context::from_waker(Waker::noop())) {
            let error = match upload.and_then(|upload| upload.failure()) {
                Some(error) => error,
                None => account.lose(answer, &broken),
            };
            account.refuse(&error);
            return Err(error);
        }
        if upstream.is_end_stream() {
            upload.iter().for_each(Upload::stop);
            account.complete(answer);
            return Ok(Self::Arrived(ahead));
        }
        let (Deadline { timeout, timer }, early_end) = deadline;
        let coming = Coming { upstream, account, answer, upload, silent_since: None };
        let rest = Rest { coming: Some(coming), last: None, early_end, timeout, reader: None };
        let rest = Arc::new(Mutex::new(rest));
        let watched = Arc::clone(&rest);
        let watcher = tokio::spawn(async move {
            timer.await;
            watched.lock().pass_deadline();
        });
        Ok(Self::Relayed(Relayed { ahead, rest, watcher: watcher.abort_handle() }))
    }
}

impl Ahead {
    /// Takes what is there already.
    fn fill(
        &mut self,
        upstream: &mut UpstreamBody,
        answer: &mut Answer,
        cx: &mut Context<'_>,
    ) -> Result<(), ConnectionError> {
        while self.bytes < READ_AHEAD_BYTES && !upstream.is_end_stream() {
            match upstream.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    if let Some(trailers) = frame.trailers_ref() {
                        answer.end_with(trailers);
                    }
                    match self.first {
                        None => self.first = Some(frame),
                        Some(_) => self.rest.push_back(frame),
                    }
                }
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        let frame = self.first.take().or_else(|| self.rest.pop_front())?;
        self.bytes -= frame.data_ref().map_or(0, Bytes::len);
        Some(frame)
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}

impl EarlyEnd {
    /// The status under which the answer is counted: the one that its client was told.
    const fn status(self, answer: Answer, error: &Error) -> StatusCode {
        match self {
            Self::Reset => answer.beginning.status,
            Self::GrpcTrailers => error.http_status(),
        }
    }

    fn tell(self, error: Error) -> Result<Frame<Bytes>, RelayError> {
        match self {
            Self::Reset => Err(RelayError(error)),
            Self::GrpcTrailers => Ok(Frame::trailers(grpc_trailers(&error))),
        }
    }
}

impl Rest {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let Some(coming) = &mut self.coming else {
            return Poll::Ready(self.last.take());
        };
        let Poll::Ready(polled) = coming.poll_frame(cx) else {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let is_last = coming.upstream.is_end_stream();
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                if is_last {
                    self.complete();
                }
                Some(Ok(frame))
            }
            None => {
                self.complete();
                None
            }
            Some(Err(broken)) => self.break_off(&broken),
        })
    }

    /// The last byte has come.
    fn complete(&mut self) {
        if let Some(coming) = self.coming.take() {
            coming.upload.iter().for_each(Upload::stop);
            coming.account.complete(coming.answer);
        }
    }

    /// None will come any more.
    fn break_off(&mut self, broken: &ConnectionError) -> Option<Result<Frame<Bytes>, RelayError>> {
        let Coming { mut account, answer, upload, .. } = self.coming.take()?;
        upload.iter().for_each(Upload::stop);
        let error = match upload.and_then(|upload| upload.failure()) {
            Some(error) => error,
            None => account.lose(answer, broken),
        };
        account.break_off(self.early_end.status(answer, &error), &error);
        Some(self.early_end.tell(error))
    }

    /// Gives the replica back, and tells whoever reads.
    fn pass_deadline(&mut self) {
        if let Some(mut coming) = self.coming.take() {
            let error = Error::Deadline(self.timeout);
            let silence = coming.silence();
            coming.upload.iter().for_each(Upload::stop);
            let status = self.early_end.status(coming.answer, &error);
            coming.account.pass_deadline(coming.answer, status, silence);
            self.last = Some(self.early_end.tell(error));
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Coming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ConnectionError>>> {
        let polled = self.upstream.poll_frame(cx);
        match &polled {
            Poll::Pending => {
                self.silent_since.get_or_insert_with(|| self.account.now());
            }
            Poll::Ready(polled) => {
                self.silent_since = None;
                if let Some(Ok(frame)) = polled
                    && let Some(trailers) = frame.trailers_ref()
                {
                    self.answer.end_with(trailers);
                }
            }
        }
        polled
    }

    /// For how long the replica has said nothing, though it had the whole request and somebody waited for the answer.
    fn silence(&mut self) -> Option<Duration> {
        let silence = self.account.now().saturating_since(self.silent_since?);
        // Something may have come of which the reader has not taken notice yet.
        if self.upstream.poll_frame(&mut Context::from_waker(Waker::noop())).is_ready() {
            return None;
        }
        match &self.upload {
            None => Some(silence),
            Some(upload) => upload.whole_for(silence),
        }
    }
}

impl Relayed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        match self.ahead.next() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.rest.lock().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        if !self.ahead.is_empty() {
            return false;
        }
        let rest = self.rest.lock();
        rest.coming.is_none() && rest.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.bytes as u64;
        match &*self.rest.lock() {
            Rest { coming: Some(coming), .. } => {
                let rest = coming.upstream.size_hint();
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
        let coming = self.rest.lock().coming.take();
        if let Some(mut coming) = coming {
            let silence = coming.silence();
            coming.account.leave(coming.answer, silence);
        }
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
            Self::Arrived(ahead) => Poll::Ready(ahead.next().map(Ok)),
            Self::Relayed(relayed) => relayed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::OwnGrpc(frames) => frames.is_empty(),
            Self::Arrived(ahead) => ahead.is_empty(),
            Self::Relayed(relayed) => relayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::OwnGrpc(_) => SizeHint::default(),
            Self::Arrived(ahead) => SizeHint::with_exact(ahead.bytes as u64),
            Self::Relayed(relayed) => relayed.size_hint(),
        }
    }
}
