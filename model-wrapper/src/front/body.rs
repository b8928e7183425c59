//! Bodies, in and out.

use std::{
    collections::VecDeque,
    io::Read as _,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use model_wrapper_protocol::InferError;
use parking_lot::Mutex;

use crate::serving::{HeldMemory, Slot};

/// A response's body.
pub(super) enum FrontBody {
    /// Known parts.
    Parts(VecDeque<Bytes>),
    /// Whatever tonic sends, and the place that it holds until it is sent.
    Grpc { body: tonic::body::Body, place: Place },
}

/// The place of a gRPC call. A unary call has it from the start; of a stream each message takes it, and the answer holds it
/// until it is sent. A message that comes before that shares it: a caller with a single place may send the next message early.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// Of what was answered and is not in a piece of the body yet.
    answered: Option<Arc<Slot>>,
    /// The one taken last.
    last: Weak<Slot>,
}

impl Place {
    /// Keeps `slot` for the answer that the body gives next.
    pub(super) fn keep(&self, slot: Arc<Slot>) {
        let mut kept = self.0.lock();
        kept.last = Arc::downgrade(&slot);
        kept.answered = Some(slot);
    }

    /// The place for the stream's next message: the one that an answer still holds, else what `acquire` gives.
    pub(super) fn take(&self, acquire: impl FnOnce() -> Result<Slot, InferError>) -> Result<Arc<Slot>, InferError> {
        let held = self.0.lock().last.upgrade();
        held.map_or_else(|| acquire().map(Arc::new), Ok)
    }

    /// Makes `piece`, which holds all that was answered before, hold the place too.
    fn with(&self, piece: Bytes) -> Bytes {
        match self.0.lock().answered.take() {
            Some(slot) => unsent(piece, slot),
            None => piece,
        }
    }
}

/// A piece of an answer that holds a place until it is sent: what a slow reader has not taken counts against the replica's
/// concurrency, which so bounds the memory of all answers. It is given up before the connection's next request is read.
struct Unsent<S> {
    piece: Bytes,
    _slot: S,
}

impl<S> AsRef<[u8]> for Unsent<S> {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

fn unsent(piece: Bytes, slot: impl Send + 'static) -> Bytes {
    Bytes::from_owner(Unsent { piece, _slot: slot })
}

impl From<Bytes> for FrontBody {
    fn from(bytes: Bytes) -> Self {
        Self::Parts(VecDeque::from([bytes]))
    }
}

impl FrontBody {
    /// An answer in parts, of which the last holds the place.
    pub(super) fn holding(mut parts: VecDeque<Bytes>, slot: Slot) -> Self {
        if let Some(last) = parts.pop_back() {
            parts.push_back(unsent(last, slot));
        }
        Self::Parts(parts)
    }
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Parts(parts) => Poll::Ready(parts.pop_front().map(|part| Ok(Frame::data(part)))),
            Self::Grpc { body, place } => {
                Pin::new(body).poll_frame(context).map_ok(|frame| frame.map_data(|piece| place.with(piece)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Parts(parts) => parts.is_empty(),
            Self::Grpc { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Parts(parts) => SizeHint::with_exact(parts.iter().map(|part| part.len() as u64).sum()),
            Self::Grpc { body, .. } => body.size_hint(),
        }
    }
}

/// A content encoding of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    /// zlib, which is what HTTP calls deflate.
    Deflate,
}

impl Encoding {
    /// The encoding that the headers name.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, InferError> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        match value.as_bytes() {
            b"identity" | b"" if values.next().is_none() => Ok(Self::Identity),
            name if name.eq_ignore_ascii_case(b"gzip") && values.next().is_none() => Ok(Self::Gzip),
            name if name.eq_ignore_ascii_case(b"deflate") && values.next().is_none() => Ok(Self::Deflate),
            name => Err(InferError::UnsupportedEncoding(String::from_utf8_lossy(name).into_owned())),
        }
    }

    /// Decodes a body; the result is `limit` bytes at most.
    pub(super) fn decode(self, body: Bytes, limit: usize, memory: &HeldMemory) -> Result<Bytes, InferError> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => inflate(MultiGzDecoder::new(&*body), limit, memory),
            Self::Deflate => inflate(ZlibDecoder::new(&*body), limit, memory),
        }
    }
}

/// Bytes that are decompressed before it is asked whether there may be more.
const INFLATED_AT_ONCE: u64 = 1 << 20;

fn inflate(mut decoder: impl std::io::Read, limit: usize, memory: &HeldMemory) -> Result<Bytes, InferError> {
    let mut out = Vec::new();
    loop {
        let more = decoder
            .by_ref()
            .take(INFLATED_AT_ONCE)
            .read_to_end(&mut out)
            .map_err(|error| InferError::BadRequest(format!("the body cannot be decompressed: {error}")))?;
        if more == 0 {
            return Ok(out.into());
        }
        if out.len() > limit {
            return Err(InferError::TooLarge { what: "the decompressed body", limit });
        }
        memory.grow(more)?;
    }
}

/// Refuses a body whose declared length is above the limit, before any of it is read (and before `100 Continue`).
pub(super) fn check_declared(body: &Incoming, limit: usize) -> Result<(), InferError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(InferError::TooLarge { what: "the body", limit });
    }
    Ok(())
}

/// Bytes set aside at once for a body of declared length; a larger one is believed as it comes.
const BELIEVED: u64 = 1 << 20;

/// Reads a body of at most `limit` bytes. `count` is told of what comes, and may refuse it.
pub(super) async fn read(
    mut body: Incoming,
    limit: usize,
    count: impl Fn(usize) -> Result<(), InferError>,
) -> Result<Bytes, InferError> {
    let declared = body.size_hint().lower().min(BELIEVED);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| InferError::BadRequest(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - first.len().max(rest.len()) {
            return Err(InferError::TooLarge { what: "the body", limit });
        }
        count(data.len())?;
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(usize::try_from(declared).unwrap_or_default().max(first.len() + data.len()));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// For bodies so small that their connections count for more.
pub(super) fn uncounted(_: usize) -> Result<(), InferError> {
    Ok(())
}

/// Bytes and time spent on the body of a request that was refused without it. Closing the connection instead could destroy the
/// answer on its way and would cost the caller a connection; the bound is what a gateway replays.
const DISCARDED: usize = 64 << 10;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Reads away a small body in the background, unless the caller waits to be asked for it.
pub(super) fn discard(headers: &HeaderMap, body: Incoming) {
    if body.is_end_stream() || headers.contains_key(header::EXPECT) || check_declared(&body, DISCARDED).is_err() {
        return;
    }
    tokio::spawn(tokio::time::timeout(DISCARD_TIME, read(body, DISCARDED, uncounted)));
}
