//! Bodies of the gateway's answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::account::{Account, Answer};
use crate::error::Error;
use crate::relay::{Coming, Deadline, EarlyEnd, RelayError, Relayed};
use crate::upload::Upload;
use crate::upstream::{ConnectionError, H1Body, H2Body};

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

/// A body as it arrives over either protocol.
pub(crate) enum UpstreamBody {
    H1(H1Body),
    H2(H2Body),
}

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
        let coming = Coming { upstream, account, answer, upload, silent_since: None };
        Ok(Self::Relayed(Relayed::begin(ahead, coming, deadline)))
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

    pub(crate) fn next(&mut self) -> Option<Frame<Bytes>> {
        let frame = self.first.take().or_else(|| self.rest.pop_front())?;
        self.bytes -= frame.data_ref().map_or(0, Bytes::len);
        Some(frame)
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}

impl UpstreamBody {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ConnectionError>>> {
        match self {
            Self::H1(body) => Pin::new(body).poll_frame(cx).map_err(ConnectionError::from),
            Self::H2(body) => body.poll_frame(cx),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_end_stream(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
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
