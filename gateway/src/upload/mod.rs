//! Request bodies on their way to a replica.
//!
//! A body up to the replay bound is read whole before a replica's slot is taken: a slow client then holds no slot, and the
//! request can go to another replica when the first refuses it. A longer one is streamed; until more of it has
//! left than what was read at first, it can be taken back and sent elsewhere. While it waits for a replica it is read on.
//!
//! A stream of gRPC messages has no length: its client may wait for the answer to one before it sends the next. Of such a
//! stream the first message is read, and the rest streams, with as much time between two messages as the client likes. The
//! whole stream is one request: it holds its slot until it ends, at the latest at the request's deadline.

mod streaming;

pub(crate) use streaming::{Upload, UploadFailed};

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::error::Error;
use crate::extent::Extent;
use crate::gateway::Worker;
use crate::inbound::Inbound;
use crate::settings::REPLAY_BYTES;
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
                let backlog = worker.inner.readings.backlog();
                return Ok(Self::Streaming(Upload::new(reading.finish(), backlog, extent, inbound, limits)));
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

    /// Waits for `future`, and reads on meanwhile: a client that leaves is noticed so, and what has come need not be waited
    /// for later.
    ///
    /// # Errors
    /// The rest of the body cannot be read, or will not come.
    pub(crate) async fn reading_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let mut future = pin!(future);
        poll_fn(|cx| match (future.as_mut().poll(cx), self) {
            (Poll::Ready(output), _) => Poll::Ready(Ok(output)),
            (Poll::Pending, Self::Replayable(_)) => Poll::Pending,
            (Poll::Pending, Self::Streaming(upload)) => upload.poll_reading_on(cx).map(Err),
        })
        .await
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
