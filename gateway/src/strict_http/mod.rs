//! Strict HTTP/1 in front of hyper.
//!
//! hyper hands on what a lenient server may accept: a request with both framings, an encoding given twice, equal lengths,
//! no host or two, lines that end with LF alone, CONNECT, a head of 400 KB. Each is harmless until another server on the
//! way reads the same bytes differently; then a second request can be smuggled in the first. [`StrictHttp`] wraps a
//! client's connection, follows its messages and lets hyper see only heads that can be read in one way.
//!
//! A head is handed on when it is complete and checked; in the usual case it is complete in one read, and is checked
//! where hyper will find it, without a copy. A head that is refused is replaced by a request that says why
//! ([`Violation::in_request`]), so that it is answered in its turn, counted and logged like any other. A body that is
//! broken makes reading it fail. A small body that arrives with its head goes past hyper ([`Bypass`]). A request that comes
//! before the last one is answered waits for its turn ([`Turns`]).

mod bypass;
mod chunks;
mod head;
mod host;
mod tracker;
mod turns;
mod violation;

pub(crate) use bypass::Bypass;
pub(crate) use chunks::{Chunks, Taken};
pub(crate) use head::parse_length;
pub(crate) use turns::Turns;
pub(crate) use violation::Violation;

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::departures::Departing;
use bypass::BYPASS_BYTES;
use tracker::{Progress, Tracker};

/// Room for one read where a head is expected: most requests are there whole.
const HEAD_READ_BYTES: usize = 8 << 10;

/// How much is read at once while a head is incomplete: the longest head.
const HELD_READ_BYTES: usize = 16 << 10;

/// How much is read at most of what comes before its turn. Most of it is small requests; beyond this much a client is not
/// read, and it may leave unnoticed, until the present answer has ended.
const AHEAD_BYTES: usize = 16 << 10;

/// How long a connection is read after its last answer, if the client was still sending. Closing at once would reset it,
/// and the client would lose the answer that tells what was wrong.
const LINGER: Duration = Duration::from_secs(2);

/// A client's connection of which only unambiguous HTTP/1 can be read.
///
/// A client has `head_timeout` from the first byte of a head to its last, and from the connection's start for the first
/// head. hyper sees complete heads only, so that its own limit on the time for a head becomes the time for which a
/// connection may be idle between requests.
#[derive(Debug)]
pub(crate) struct StrictHttp<S> {
    io: S,
    tracker: Tracker,
    bypass: Arc<Bypass>,
    turns: Arc<Turns>,
    state: State,
    /// Bytes held back: an incomplete head, what takes the place of a refused one, or what came before its turn.
    held: Vec<u8>,
    /// How many of them may be handed on.
    cleared: usize,
    /// Whether the others came before their turn, and have not been looked at.
    is_ahead: bool,
    head_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A head was refused: nothing more is read.
    Refused,
    /// A body was broken: reading fails.
    Broken(Violation),
    /// The write side is closed, and what the client still sends is thrown away.
    Lingering,
}

impl<S> StrictHttp<S> {
    /// Wraps an accepted connection. Its service must ask `bypass` for the body of each request, and make each answer one of
    /// `turns`.
    pub(crate) fn new(io: S, head_timeout: Duration, bypass: Arc<Bypass>, turns: Arc<Turns>) -> Self {
        Self {
            io,
            tracker: Tracker::new(),
            bypass,
            turns,
            state: State::Open,
            held: Vec::new(),
            cleared: 0,
            is_ahead: false,
            head_timeout,
            timer: None,
        }
    }

    /// Hands on what is cleared of the bytes held back.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.cleared.min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.cleared -= count;
        if self.held.is_empty() {
            self.held = Vec::new();
            self.timer = None;
        }
    }

    /// Puts the request that says what was wrong in the place of what is held back.
    fn refuse(&mut self, violation: Violation) {
        self.state = State::Refused;
        self.held.clear();
        self.held.extend_from_slice(violation.to_request().as_bytes());
        self.cleared = self.held.len();
        self.timer = None;
    }

    /// Sends the body of `request` past hyper if it is small, and the line that tells its length with it; what is left of
    /// the request.
    fn take_body_out(&self, request: &mut [u8], head: usize, length_line: Range<usize>) -> usize {
        let body = &request[head..];
        if body.len() > BYPASS_BYTES || !self.bypass.put(self.tracker.heads(), body) {
            return request.len();
        }
        let left = head - length_line.len();
        request.copy_within(length_line.end..head, length_line.start);
        left
    }

    fn should_linger(&self) -> bool {
        self.state != State::Open || self.tracker.is_in_body() || !self.held.is_empty()
    }

    /// Whether hyper has a whole request that is not answered.
    fn is_answering(&self) -> bool {
        self.tracker.heads() > self.turns.answered() && !self.tracker.is_in_body()
    }
}

impl StrictHttp<Departing> {
    /// What is to be done before the connection is dropped: hyper does not shut every one down, and takes an answer for sent
    /// of which the end is still on its way.
    pub(crate) async fn end(&self) -> io::Result<()> {
        self.io.all_sent().await
    }

    /// What is to be done instead in the middle of an answer. A client of HTTP/1.0 takes the usual end for that of the
    /// answer: it is told by a reset, for which it may lose what was sent last.
    pub(crate) fn break_off(&self) {
        self.io.send_now();
        if self.tracker.has_http10() {
            // It fails for a connection that is gone, of which nobody can be told anything.
            let _ = self.io.set_zero_linger();
        }
    }
}

impl<S: AsyncRead + Unpin> StrictHttp<S> {
    /// Reads and checks what follows a body's beginning in the caller's buffer, and a head on the stack, which is in the
    /// cache: of a small request little is left for hyper, whose buffer is another one each time. Gives the number of bytes
    /// that arrived, of which fewer may be in the buffer.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if self.tracker.is_in_body() {
            let start = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let arrived = buf.filled().len() - start;
            let passed = self.check(&mut buf.filled_mut()[start..]);
            buf.set_filled(start + passed);
            return Poll::Ready(Ok(arrived));
        }
        let mut space = [MaybeUninit::uninit(); HEAD_READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space[..HEAD_READ_BYTES.min(buf.remaining())]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        if self.is_answering() {
            self.held.extend_from_slice(read.filled());
            self.is_ahead = true;
            return Poll::Ready(Ok(read.filled().len()));
        }
        let passed = self.check(read.filled_mut());
        buf.put_slice(&read.filled()[..passed]);
        Poll::Ready(Ok(read.filled().len()))
    }

    /// How many of the bytes that arrived may be handed on; what becomes of the others is noted.
    fn check(&mut self, arrived: &mut [u8]) -> usize {
        let passed = match self.tracker.advance(arrived) {
            Progress::All => arrived.len(),
            Progress::OneRequest(head, length_line) => self.take_body_out(arrived, head, length_line),
            Progress::Message(end) => {
                self.held.extend_from_slice(&arrived[end..]);
                self.is_ahead = true;
                end
            }
            Progress::Incomplete => {
                self.held.extend_from_slice(arrived);
                0
            }
            Progress::BadHead(violation) => {
                self.refuse(violation);
                0
            }
            Progress::BadBody(passed, violation) => {
                self.state = State::Broken(violation);
                passed
            }
        };
        if passed > 0 {
            self.timer = None;
        }
        passed
    }

    /// Reads on after an incomplete head. The caller's buffer serves as scratch space only.
    fn poll_held(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = buf.take(HELD_READ_BYTES);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch))?;
        let arrived = scratch.filled().len();
        self.held.extend_from_slice(scratch.filled());
        if arrived > 0 {
            self.look_at_held();
        }
        Poll::Ready(Ok(arrived))
    }

    /// Notes how much of what is held back may be handed on, and what becomes of the rest.
    fn look_at_held(&mut self) {
        self.is_ahead = false;
        match self.tracker.advance(&self.held) {
            Progress::All | Progress::OneRequest(..) => self.cleared = self.held.len(),
            Progress::Message(end) => {
                self.cleared = end;
                self.is_ahead = true;
            }
            Progress::Incomplete => {}
            Progress::BadHead(violation) => self.refuse(violation),
            Progress::BadBody(passed, violation) => {
                self.cleared = passed;
                self.held.truncate(passed);
                self.state = State::Broken(violation);
            }
        }
        if self.cleared > 0 {
            self.timer = None;
        }
    }

    /// Reads on before it is the client's turn, to learn whether it leaves. The caller's buffer serves as scratch space only.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let room = AHEAD_BYTES.saturating_sub(self.held.len());
        if room == 0 {
            return Poll::Pending;
        }
        let mut scratch = buf.take(room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch))?;
        self.held.extend_from_slice(scratch.filled());
        Poll::Ready(Ok(scratch.filled().len()))
    }

    /// Waits for the client, but not for longer than it may take for a head.
    fn poll_head_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.held.is_empty() && self.tracker.heads() > 0 {
            return Poll::Pending;
        }
        let timeout = self.head_timeout;
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx)
    }

    /// Throws away what the client still sends, until it stops or its time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        loop {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut scratch = [MaybeUninit::uninit(); 4096];
            let mut scratch = ReadBuf::uninit(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch)) {
                Ok(()) if !scratch.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictHttp<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = buf.filled().len();
        loop {
            if this.cleared > 0 {
                this.deliver(buf);
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Open => {}
                // The answer to the refused head is what wakes this connection next.
                State::Refused | State::Lingering => return Poll::Pending,
                State::Broken(violation) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
                }
            }
            let polled = if this.held.is_empty() {
                this.poll_direct(cx, buf)
            } else if !this.is_ahead {
                this.poll_held(cx, buf)
            } else if this.is_answering() {
                this.poll_ahead(cx, buf)
            } else {
                this.look_at_held();
                continue;
            };
            match polled {
                Poll::Ready(Ok(0)) => {
                    // A client that has gone leaves nothing to answer.
                    this.held = Vec::new();
                    this.is_ahead = false;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(_)) if buf.filled().len() > start => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if this.is_ahead => {
                    this.turns.wait(cx);
                    return Poll::Pending;
                }
                Poll::Pending => {
                    ready!(this.poll_head_timeout(cx));
                    if this.held.is_empty() {
                        // Nothing ever arrived: the connection ends without an answer.
                        return Poll::Ready(Ok(()));
                    }
                    this.refuse(Violation::HeadTimeout);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StrictHttp<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state != State::Lingering {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if !self.should_linger() {
                return Poll::Ready(Ok(()));
            }
            self.state = State::Lingering;
            self.timer = None;
        }
        ready!(self.poll_linger(cx));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
