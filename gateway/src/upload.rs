//! Request bodies on their way to a replica.
//!
//! A body up to the replay bound is read whole before a replica's slot is taken: a slow client then holds no slot, and the
//! request can go to another replica when the first refuses it. A longer one is streamed; until more of it has
//! left than what was read, it can be taken back and sent elsewhere.
//!
//! A stream of gRPC messages has no length: its client may wait for the answer to one before it sends the next. Of such a
//! stream the first message is read, and the rest streams, with as much time between two messages as the client likes. The
//! whole stream is one request: it holds its slot until it ends, at the latest at the request's deadline.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::error::Error;
use crate::extent::Extent;
use crate::gateway::Worker;
use crate::inbound::Inbound;
use crate::pace::Pace;
use crate::reading::Prefix;
use crate::settings::{Limits, REPLAY_BYTES};
use crate::timer::Timer;

/// The body of a request as it comes to the gateway.
pub(crate) enum Source {
    /// To be read.
    Coming(Inbound),
    /// There already.
    Arrived(Bytes),
    /// Read, to find the model's name in it.
    Read(Payload),
}

/// The body of a request as its attempts see it.
pub(crate) enum Payload {
    /// Read whole; every attempt gets it.
    Replayable(Bytes),
    /// Streamed; an attempt can follow another only if that one took nothing beyond the beginning, which is kept.
    Streaming(Upload),
}

impl Payload {
    /// Reads a body up to the replay bound, or what of it a replica can answer by itself.
    pub(crate) async fn read(body: Source, mut extent: Extent, worker: &Worker) -> Result<Self, Error> {
        let limits = &worker.inner.settings.limits;
        let limit = limits.max_body_bytes;
        let mut inbound = match body {
            Source::Coming(inbound) if inbound.size_hint().lower() <= limit => inbound,
            Source::Arrived(bytes) if bytes.len() as u64 <= limit => return Ok(Self::Replayable(bytes)),
            Source::Coming(_) | Source::Arrived(_) => return Err(Error::BodyTooLarge { limit }),
            Source::Read(payload) => return Ok(payload),
        };
        let mut reading = worker.inner.readings.begin();
        while !inbound.is_end_stream() {
            // Beyond the bound nothing is gained by reading on: the rest streams. Up to it also a long body is read before a
            // replica's slot is taken, so that a client that only announces one takes none.
            if reading.length() > REPLAY_BYTES || extent.has_answerable() {
                return Ok(Self::Streaming(Upload::new(reading.finish(), extent, inbound, limits)));
            }
            let Some(frame) = next_frame(&mut inbound, &extent, worker).await? else {
                break;
            };
            if let Ok(data) = frame.into_data() {
                extent.advance(&data)?;
                // As most bodies come.
                if reading.length() == 0 && inbound.is_end_stream() {
                    return Ok(Self::Replayable(data));
                }
                reading.push(data)?;
            }
        }
        Ok(Self::Replayable(reading.finish().joined()))
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
            Self::Streaming(upload) => upload.attempt().map(RequestBody::Streaming),
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

    /// Lets a body go that waits for the replica's consent.
    pub(crate) fn open_gate(&self) {
        if let Self::Streaming(upload) = self {
            upload.open_gate();
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
async fn next_frame(inbound: &mut Inbound, extent: &Extent, worker: &Worker) -> Result<Option<Frame<Bytes>>, Error> {
    let idle = worker.inner.settings.limits.body_idle_timeout;
    let mut silence: Option<Timer> = None;
    let frame = poll_fn(|cx| match inbound.poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(frame.transpose()),
        Poll::Pending if extent.may_pause() => Poll::Pending,
        Poll::Pending => {
            let silence = silence.get_or_insert_with(|| worker.timers.at(Instant::now() + idle));
            Pin::new(silence).poll(cx).map(|()| Err(Error::BodyStalled(idle)))
        }
    });
    frame.await
}

/// A body that is streamed, shared by the request and the attempt that sends it.
#[derive(Clone)]
pub(crate) struct Upload {
    state: Arc<Mutex<UploadState>>,
    length: u64,
    prefix_length: u64,
    exact: Option<u64>,
    /// The number of the attempt that this is for; 0: for none.
    attempt: u32,
}

struct UploadState {
    prefix: Prefix,
    /// None once nobody wants the rest of it.
    inbound: Option<Inbound>,
    extent: Extent,
    /// The attempt that has the body: the last one that began.
    attempt: u32,
    /// How many pieces of the prefix it has taken.
    taken: usize,
    /// Whether an attempt took anything that is not kept.
    consumed: bool,
    /// When the last byte was given out.
    whole_since: Option<Instant>,
    /// While set, nothing is given out: the replica was asked with `expect: 100-continue` and has not answered.
    is_held_back: bool,
    /// Woken when that changes, or nothing more will come.
    reader: Option<Waker>,
    pace: Pace,
    /// Due when the client has been waited for too long.
    patience: Pin<Box<Sleep>>,
    failure: Option<Error>,
}

impl Upload {
    fn new(prefix: Prefix, extent: Extent, inbound: Inbound, limits: &Limits) -> Self {
        let prefix_length = prefix.length();
        let remaining = inbound.size_hint();
        let exact = remaining.exact().map(|remaining| remaining + prefix_length);
        let mut pace = Pace::new(limits);
        pace.arrived(prefix_length, Instant::now);
        let state = UploadState {
            prefix,
            inbound: Some(inbound),
            extent,
            attempt: 0,
            taken: 0,
            consumed: false,
            whole_since: None,
            is_held_back: false,
            reader: None,
            pace,
            patience: Box::pin(tokio::time::sleep(limits.body_idle_timeout)),
            failure: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            length: exact.unwrap_or(prefix_length + remaining.lower()),
            prefix_length,
            exact,
            attempt: 0,
        }
    }

    fn first_bytes(&self) -> Bytes {
        self.state.lock().prefix.joined()
    }

    /// Begins an attempt, unless an earlier one has taken more than what is kept. It gets the body from its first byte on,
    /// and the earlier one nothing more.
    fn attempt(&self) -> Option<Self> {
        let mut state = self.state.lock();
        if state.consumed {
            return None;
        }
        state.taken = 0;
        state.attempt += 1;
        Some(Self { attempt: state.attempt, ..self.clone() })
    }

    /// The next piece of the body.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        let mut state = self.state.lock();
        if state.attempt == self.attempt { state.poll_next(cx) } else { Poll::Ready(Some(Err(UploadFailed))) }
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
        self.state.lock().is_held_back = true;
    }

    /// Lets the bytes go.
    pub(crate) fn open_gate(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.is_held_back) {
            state.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    /// The answer has ended: nothing more is taken from the client, nor given to the replica.
    pub(crate) fn stop(&self) {
        let (inbound, reader) = {
            let mut state = self.state.lock();
            (state.inbound.take(), state.reader.take())
        };
        drop(inbound);
        reader.into_iter().for_each(Waker::wake);
    }
}

/// The client stopped or overstepped in the middle of its body, why is recorded beside the payload; or another attempt has
/// it now; or the answer has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client's request body ended early")]
pub(crate) struct UploadFailed;

impl UploadState {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        let polled = self.poll_piece(cx);
        if polled.is_pending() {
            match &mut self.reader {
                Some(reader) => reader.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        let Some(inbound) = &mut self.inbound else { return Poll::Ready(Some(Err(UploadFailed))) };
        if self.is_held_back {
            return Poll::Pending;
        }
        if let Some(data) = self.prefix.piece(self.taken) {
            self.taken += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = match inbound.poll_frame(cx) {
            Poll::Ready(polled) => polled,
            Poll::Pending if self.extent.may_pause() => return Poll::Pending,
            Poll::Pending => return self.poll_patience(cx),
        };
        match polled {
            None => {
                self.whole_since.get_or_insert_with(Instant::now);
                Poll::Ready(None)
            }
            Some(Err(error)) => self.fail(error),
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], Bytes::as_ref);
                if let Err(error) = self.extent.advance(data) {
                    return self.fail(error);
                }
                let bytes = data.len() as u64;
                if !std::mem::replace(&mut self.consumed, true) {
                    self.prefix = Prefix::default();
                }
                if inbound.is_end_stream() {
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
