//! Request bodies on their way to a replica.
//!
//! A body up to the replay bound is read whole before a replica's slot is taken: a slow client then holds no slot, and the
//! request can go to another replica when the first refuses it. A longer one is streamed; until its first byte has left,
//! it can be taken back and sent elsewhere.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::error::Error;
use crate::gateway::Worker;
use crate::pace::Pace;
use crate::settings::{Limits, REPLAY_BYTES};
use crate::strict_http::Violation;
use crate::timer::Timer;

/// The body of a request as it comes to the gateway.
pub(crate) enum Source {
    /// To be read.
    Coming(Incoming),
    /// There already.
    Arrived(Bytes),
    /// Read, to find the model's name in it.
    Read(Payload),
}

/// The body of a request as its attempts see it.
pub(crate) enum Payload {
    /// Read whole; every attempt gets it.
    Replayable(Bytes),
    /// Streamed; an attempt can follow another only if that one took nothing from it.
    Streaming(Upload),
}

impl Payload {
    /// Reads a body up to the replay bound.
    pub(crate) async fn read(body: Source, worker: &Worker) -> Result<Self, Error> {
        let limits = &worker.inner.settings.limits;
        let limit = limits.max_body_bytes;
        let mut incoming = match body {
            Source::Coming(incoming) if incoming.size_hint().lower() <= limit => incoming,
            Source::Arrived(bytes) if bytes.len() as u64 <= limit => return Ok(Self::Replayable(bytes)),
            Source::Coming(_) | Source::Arrived(_) => return Err(Error::BodyTooLarge { limit }),
            Source::Read(payload) => return Ok(payload),
        };
        let mut prefix = VecDeque::new();
        let mut length = 0_u64;
        while !incoming.is_end_stream() {
            // Beyond the bound nothing is gained by reading on: the rest streams. Up to it also a long body is read before a
            // replica's slot is taken, so that a client that only announces one takes none.
            if length > REPLAY_BYTES {
                return Ok(Self::Streaming(Upload::new(prefix, length, incoming, limits)));
            }
            let Some(frame) = next_frame(&mut incoming, worker).await? else {
                break;
            };
            if let Ok(data) = frame.into_data() {
                length += data.len() as u64;
                if length > limit {
                    return Err(Error::BodyTooLarge { limit });
                }
                // As most bodies come.
                if prefix.is_empty() && incoming.is_end_stream() {
                    return Ok(Self::Replayable(data));
                }
                prefix.push_back(data);
            }
        }
        Ok(Self::Replayable(joined(prefix, length)))
    }

    /// Length in bytes as far as it is known, for the size class and the hold's byte count.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Replayable(bytes) => bytes.len() as u64,
            Self::Streaming(upload) => upload.length,
        }
    }

    /// The bytes that the gateway itself keeps while the request waits.
    pub(crate) fn bytes_kept(&self) -> u64 {
        match self {
            Self::Replayable(bytes) => bytes.len() as u64,
            Self::Streaming(upload) => upload.prefix_length,
        }
    }

    /// The first bytes, for peeking.
    pub(crate) fn first_bytes(&self) -> Bytes {
        match self {
            Self::Replayable(bytes) => bytes.clone(),
            Self::Streaming(upload) => upload.first_bytes(),
        }
    }

    /// The body for the next attempt; `None` when an earlier attempt has taken from it.
    pub(crate) fn attempt(&self) -> Option<RequestBody> {
        match self {
            Self::Replayable(bytes) if bytes.is_empty() => Some(RequestBody::Empty),
            Self::Replayable(bytes) => Some(RequestBody::Full(Some(bytes.clone()))),
            Self::Streaming(upload) => (!upload.state.lock().started).then(|| RequestBody::Streaming(upload.clone())),
        }
    }

    /// For how much of `took`, the time since it was sent, the replica has had the whole body; `None` if it has not got it.
    pub(crate) fn whole_for(&self, took: Duration) -> Option<Duration> {
        match self {
            Self::Replayable(_) => Some(took),
            Self::Streaming(upload) => upload.whole_for(took),
        }
    }

    /// Why streaming stopped, if it was the client's doing.
    pub(crate) fn failure(&self) -> Option<Error> {
        match self {
            Self::Replayable(_) => None,
            Self::Streaming(upload) => upload.failure(),
        }
    }

    /// What may still be on its way to the replica when that answers.
    pub(crate) fn into_upload(self) -> Option<Upload> {
        match self {
            Self::Replayable(_) => None,
            Self::Streaming(upload) => Some(upload),
        }
    }
}

/// The next frame; a client that sends nothing for too long is told so. No timer is set for a body that has arrived.
async fn next_frame(incoming: &mut Incoming, worker: &Worker) -> Result<Option<Frame<Bytes>>, Error> {
    let idle = worker.inner.settings.limits.body_idle_timeout;
    let mut silence: Option<Timer> = None;
    let frame = poll_fn(|cx| match Pin::new(&mut *incoming).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        Poll::Pending => {
            let silence = silence.get_or_insert_with(|| worker.timers.at(Instant::now() + idle));
            Pin::new(silence).poll(cx).map(|()| Err(Error::BodyStalled(idle)))
        }
    });
    frame.await?.transpose().map_err(|error| unreadable(&error))
}

fn unreadable(error: &hyper::Error) -> Error {
    Violation::in_error(error)
        .map_or_else(|| Error::BadRequest(format!("reading the request body failed: {error}")), Error::Http)
}

fn joined(mut parts: VecDeque<Bytes>, length: u64) -> Bytes {
    match parts.len() {
        0 => Bytes::new(),
        1 => parts.pop_front().unwrap_or_default(),
        _ => {
            let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            whole.freeze()
        }
    }
}

/// A body that is streamed, shared by the request and the attempt that sends it.
#[derive(Clone)]
pub(crate) struct Upload {
    state: Arc<Mutex<UploadState>>,
    length: u64,
    prefix_length: u64,
    exact: Option<u64>,
}

struct UploadState {
    prefix: VecDeque<Bytes>,
    incoming: Incoming,
    /// Bytes that may still come.
    allowance: u64,
    limit: u64,
    /// Whether an attempt took anything.
    started: bool,
    /// When the last byte was given out.
    whole_since: Option<Instant>,
    /// While set, nothing is given out: the replica was asked with `expect: 100-continue` and has not answered.
    gate: Gate,
    pace: Pace,
    /// Due when the client has been waited for too long.
    patience: Pin<Box<Sleep>>,
    failure: Option<Error>,
}

#[derive(Default)]
enum Gate {
    #[default]
    Open,
    Closed(Option<Waker>),
}

impl Upload {
    fn new(prefix: VecDeque<Bytes>, prefix_length: u64, incoming: Incoming, limits: &Limits) -> Self {
        let remaining = incoming.size_hint();
        let exact = remaining.exact().map(|remaining| remaining + prefix_length);
        let mut pace = Pace::new(limits);
        pace.arrived(prefix_length, Instant::now);
        let state = UploadState {
            prefix,
            allowance: limits.max_body_bytes.saturating_sub(prefix_length),
            limit: limits.max_body_bytes,
            incoming,
            started: false,
            whole_since: None,
            gate: Gate::Open,
            pace,
            patience: Box::pin(tokio::time::sleep(limits.body_idle_timeout)),
            failure: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            length: exact.unwrap_or(prefix_length + remaining.lower()),
            prefix_length,
            exact,
        }
    }

    fn first_bytes(&self) -> Bytes {
        let state = self.state.lock();
        joined(state.prefix.clone(), self.prefix_length)
    }

    /// The next piece of the body.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        self.state.lock().poll_next(cx)
    }

    /// For how much of `took` the replica has had the whole body; `None` if it has not got it.
    pub(crate) fn whole_for(&self, took: Duration) -> Option<Duration> {
        self.state.lock().whole_since.map(|since| since.elapsed().min(took))
    }

    /// Why it stopped, if it did.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state.lock().failure.clone()
    }

    /// Gives nothing out until [`Upload::open_gate`].
    pub(crate) fn close_gate(&self) {
        self.state.lock().gate = Gate::Closed(None);
    }

    /// Lets the bytes go.
    pub(crate) fn open_gate(&self) {
        if let Gate::Closed(Some(waker)) = std::mem::take(&mut self.state.lock().gate) {
            waker.wake();
        }
    }
}

/// The client stopped or overstepped in the middle of its body; why is recorded beside the payload.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client's request body ended early")]
pub(crate) struct UploadFailed;

impl UploadState {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        if let Gate::Closed(waker) = &mut self.gate {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(data) = self.prefix.pop_front() {
            self.started = true;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(polled) => polled,
            Poll::Pending => return self.poll_patience(cx),
        };
        match polled {
            None => {
                self.whole_since.get_or_insert_with(Instant::now);
                Poll::Ready(None)
            }
            Some(Err(error)) => self.fail(unreadable(&error)),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(allowance) = self.allowance.checked_sub(bytes) else {
                    return self.fail(Error::BodyTooLarge { limit: self.limit });
                };
                self.allowance = allowance;
                self.started = true;
                if self.incoming.is_end_stream() {
                    self.whole_since = Some(Instant::now());
                }
                self.pace.arrived(bytes, Instant::now);
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// Waits for the client, within its time. A stream that is always there touches no timer.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        let due = self.pace.wait(Instant::now());
        if self.patience.deadline() != due {
            self.patience.as_mut().reset(due);
        }
        ready!(self.patience.as_mut().poll(cx));
        self.fail(self.pace.failure())
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        self.failure = Some(error);
        Poll::Ready(Some(Err(UploadFailed)))
    }
}

/// What a connection to a replica sends.
pub(crate) enum RequestBody {
    Empty,
    Full(Option<Bytes>),
    Streaming(Upload),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadFailed;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Streaming(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streaming(upload) => upload.exact.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
