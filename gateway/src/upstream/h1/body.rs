//! The body of an answer, together with the connection that it arrives on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio_util::io::poll_read_buf;

use super::answer::{AnswerHead, Framing};
use super::outgoing::Outgoing;
use super::{H1Connection, H1Error, H1Pool};
use crate::strict_http::{Chunks, Taken};

/// Room for one read of a body: it starts with the first and doubles with each read that fills it, up to the last. A large
/// answer then takes few system calls, and a trickle no memory.
const FIRST_READ_BYTES: usize = 16 << 10;
const LONGEST_READ_BYTES: usize = 512 << 10;

/// The body of an answer. Its connection goes back to its pool as soon as the last byte has arrived.
pub(crate) struct H1Body {
    /// What has arrived and nobody has taken.
    arrived: Option<Bytes>,
    rest: Option<Box<Rest>>,
    /// Why nothing follows what has arrived, if that is not the end.
    broken: Option<H1Error>,
}

/// What has not arrived.
struct Rest {
    connection: Box<H1Connection>,
    remaining: Remaining,
    keep_alive: bool,
    /// The request, if the answer began before it was sent.
    outgoing: Outgoing,
    buffer: BytesMut,
    read_bytes: usize,
    pool: Arc<H1Pool>,
}

enum Remaining {
    Length(u64),
    /// What has arrived of a chunk's delimiters is in the buffer.
    Chunked(Chunks),
    Close,
}

impl H1Body {
    /// The body of `answer` that begins with `arrived`; of the request, `outgoing` may not be sent yet.
    pub(super) fn new(
        connection: Box<H1Connection>,
        mut arrived: Bytes,
        answer: &AnswerHead,
        outgoing: Outgoing,
        pool: &Arc<H1Pool>,
    ) -> Self {
        let keep_alive = answer.keep_alive;
        let remaining = match answer.framing {
            Framing::Length(length) if length <= arrived.len() as u64 => {
                // What follows the answer belongs to no request: such a connection is used no more.
                let excess = arrived.split_off(usize::try_from(length).unwrap_or(arrived.len()));
                if keep_alive && excess.is_empty() && outgoing.is_sent() {
                    pool.give_back(connection);
                }
                return Self { arrived: Some(arrived).filter(|bytes| !bytes.is_empty()), rest: None, broken: None };
            }
            Framing::Length(length) => Remaining::Length(length - arrived.len() as u64),
            Framing::Chunked => Remaining::Chunked(Chunks::of_answer()),
            Framing::Close => Remaining::Close,
        };
        let is_chunked = matches!(remaining, Remaining::Chunked(_));
        let (arrived, buffer) =
            if is_chunked { (Bytes::new(), BytesMut::from(arrived)) } else { (arrived, BytesMut::new()) };
        let rest = Rest {
            connection,
            remaining,
            keep_alive,
            outgoing,
            buffer,
            read_bytes: FIRST_READ_BYTES,
            pool: Arc::clone(pool),
        };
        let mut body = Self { arrived: None, rest: Some(Box::new(rest)), broken: None };
        if is_chunked {
            body.decode();
        } else {
            body.arrived = Some(arrived).filter(|bytes| !bytes.is_empty());
        }
        body
    }

    /// Takes the next data out of the chunks that have arrived, and notes the end as early as it is known.
    fn decode(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        let Remaining::Chunked(chunks) = &mut rest.remaining else { return };
        match chunks.take(&mut rest.buffer) {
            Ok(Taken::Data(data)) => self.arrived = Some(data),
            Ok(Taken::More) => {}
            Ok(Taken::End) => self.end(),
            Err(violation) => self.break_off(H1Error::Chunks(violation)),
        }
    }

    /// The last byte has arrived.
    fn end(&mut self) {
        if let Some(rest) = self.rest.take()
            && rest.keep_alive
            && rest.buffer.is_empty()
            && rest.outgoing.is_sent()
        {
            rest.pool.give_back(rest.connection);
        }
    }

    fn break_off(&mut self, error: H1Error) {
        self.rest = None;
        self.broken = Some(error);
    }

    /// Reads on when nothing has arrived that nobody has taken.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.arrived.is_none()
            && self.broken.is_none()
            && let Some(rest) = &mut self.rest
        {
            match ready!(rest.poll_read(cx)) {
                Err(error) => self.break_off(error),
                Ok(0) if matches!(rest.remaining, Remaining::Close) => self.rest = None,
                Ok(0) => self.break_off(H1Error::Closed("in the middle of an answer")),
                Ok(count) => match &mut rest.remaining {
                    Remaining::Chunked(_) => self.decode(),
                    Remaining::Close => self.arrived = Some(rest.buffer.split().freeze()),
                    Remaining::Length(left) => {
                        *left -= count as u64;
                        let ended = *left == 0;
                        self.arrived = Some(rest.buffer.split().freeze());
                        if ended {
                            self.end();
                        }
                    }
                },
            }
        }
        Poll::Ready(())
    }
}

impl Rest {
    /// Reads behind what is in the buffer, and sends what is left of the request.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, H1Error>> {
        match self.outgoing.poll_send(&mut self.connection.stream, cx) {
            Poll::Ready(Err(H1Error::Upload(failed))) => return Poll::Ready(Err(failed.into())),
            Poll::Ready(Err(_)) => self.outgoing.give_up(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let wanted = match self.remaining {
            // Not a byte more: the next answer's connection is clean.
            Remaining::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).min(LONGEST_READ_BYTES),
            Remaining::Chunked(_) | Remaining::Close => self.read_bytes,
        };
        if self.buffer.capacity() - self.buffer.len() < wanted.min(FIRST_READ_BYTES) {
            self.buffer.reserve(wanted);
        }
        let room = wanted.min(self.buffer.capacity() - self.buffer.len());
        let stream = Pin::new(&mut self.connection.stream);
        let count = ready!(poll_read_buf(stream, cx, &mut (&mut self.buffer).limit(room)))?;
        if count == self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(LONGEST_READ_BYTES);
        }
        Poll::Ready(Ok(count))
    }
}

impl Body for H1Body {
    type Data = Bytes;
    type Error = H1Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, H1Error>>> {
        ready!(self.poll_rest(cx));
        if let Some(data) = self.arrived.take() {
            // Whether anything follows is known as early as it can be: the replica is free then.
            self.decode();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.broken.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.arrived.is_none() && self.rest.is_none() && self.broken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let arrived = self.arrived.as_ref().map_or(0, Bytes::len) as u64;
        match self.rest.as_deref().map(|rest| &rest.remaining) {
            None if self.broken.is_none() => SizeHint::with_exact(arrived),
            Some(Remaining::Length(left)) => SizeHint::with_exact(arrived + left),
            _ => SizeHint::default(),
        }
    }
}
