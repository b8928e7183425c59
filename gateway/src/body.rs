//! Bodies of the gateway's answers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::account::{Account, Answer};
use crate::error::Reason;
use crate::upstream::H1Body;

/// The body of an answer: the gateway's own, or a replica's with the request's account, which closes with the last byte.
///
/// An enum instead of a boxed trait object: the warm path allocates nothing for it.
pub(crate) enum ResponseBody {
    Own(Option<Bytes>),
    /// The gateway's own message of gRPC, followed by trailers that say it succeeded.
    OwnGrpc(VecDeque<Frame<Bytes>>),
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

/// A replica's body on its way to the client.
pub(crate) struct Relayed {
    upstream: UpstreamBody,
    account: Account,
    answer: Answer,
    deadline: Option<Pin<Box<Sleep>>>,
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
    Upstream(#[from] hyper::Error),
    /// The deadline passed while the answer was still coming.
    #[error("the deadline passed before the answer was complete")]
    Deadline,
}

impl Relayed {
    pub(crate) fn new(upstream: UpstreamBody, mut account: Account, answer: Answer, deadline: Pin<Box<Sleep>>) -> Self {
        if upstream.is_end_stream() {
            account.complete(answer);
            return Self { upstream, account, answer, deadline: None };
        }
        Self { upstream, account, answer, deadline: Some(deadline) }
    }
}

impl UpstreamBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::H1(body) => Pin::new(body).poll_frame(cx),
            Self::H2(body) => Pin::new(body).poll_frame(cx),
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
        let relayed = match &mut *self {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::OwnGrpc(frames) => return Poll::Ready(frames.pop_front().map(Ok)),
            Self::Relayed(relayed) => relayed,
        };
        match relayed.upstream.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if relayed.upstream.is_end_stream() {
                    relayed.account.complete(relayed.answer);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                relayed.account.break_off(relayed.answer, Reason::ReplicaLost);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                relayed.account.complete(relayed.answer);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let due = relayed.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
                if !due {
                    return Poll::Pending;
                }
                relayed.account.break_off(relayed.answer, Reason::Deadline);
                Poll::Ready(Some(Err(RelayError::Deadline)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::OwnGrpc(frames) => frames.is_empty(),
            Self::Relayed(relayed) => relayed.upstream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::OwnGrpc(_) => SizeHint::default(),
            Self::Relayed(relayed) => relayed.upstream.size_hint(),
        }
    }
}
