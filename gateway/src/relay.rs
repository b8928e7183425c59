//! A replica's answer on its way to a client, until it ends or its time is over.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gateway_policy::Moment;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::account::{Account, Answer};
use crate::body::{Ahead, UpstreamBody};
use crate::error::Error;
use crate::respond::grpc_trailers;
use crate::timer::Timer;
use crate::upload::Upload;
use crate::upstream::ConnectionError;

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
pub(crate) struct Coming {
    pub(crate) upstream: UpstreamBody,
    pub(crate) account: Account,
    pub(crate) answer: Answer,
    /// The request's body, if it was streamed: it may not have left yet, and how that ends is its client's doing.
    pub(crate) upload: Option<Upload>,
    /// Since when nothing has come that was waited for.
    pub(crate) silent_since: Option<Moment>,
}

/// Why a relayed body ended early. The client sees its connection or stream reset, never a body that looks complete.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub(crate) struct RelayError(Error);

impl EarlyEnd {
    /// The status under which the answer is counted: the one that its client was told, if it has not left.
    const fn status(self, answer: Answer, error: &Error) -> StatusCode {
        match (self, error) {
            (Self::Reset, Error::ClientGone) | (Self::GrpcTrailers, _) => error.http_status(),
            (Self::Reset, _) => answer.beginning.status,
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
    /// Passes on what is `ahead` and then what is coming, until `deadline`.
    pub(crate) fn begin(ahead: Ahead, coming: Coming, deadline: (Deadline, EarlyEnd)) -> Self {
        let (Deadline { timeout, timer }, early_end) = deadline;
        let rest = Rest { coming: Some(coming), last: None, early_end, timeout, reader: None };
        let rest = Arc::new(Mutex::new(rest));
        let watched = Arc::clone(&rest);
        let watcher = tokio::spawn(async move {
            timer.await;
            watched.lock().pass_deadline();
        });
        Self { ahead, rest, watcher: watcher.abort_handle() }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        match self.ahead.next() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.rest.lock().poll_frame(cx),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        if !self.ahead.is_empty() {
            return false;
        }
        let rest = self.rest.lock();
        rest.coming.is_none() && rest.last.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.bytes() as u64;
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
            coming.upload.iter().for_each(Upload::stop);
            coming.account.leave(coming.answer, silence);
        }
    }
}
