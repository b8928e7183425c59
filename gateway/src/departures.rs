//! Small writes of one thread, sent together.
//!
//! A write wakes its receiver, and waking costs the sender about as much as all of its own work on a small request. Sent
//! one by one, with work on other requests in between, most writes find a receiver that has fallen asleep again. So a
//! small write is only noted, and what is noted is sent in one go when every task that was ready has run: receivers find
//! several messages at once, and the kernel's way out stays in the processor's cache. Nothing waits for company, and where
//! writes turn out to have none they are not noted at all.
//!
//! To its owner a noted write is what a sent one is: taken over, and perhaps never delivered. What goes wrong with it is
//! told at the next write, or with the end of what can be read.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::AbortHandle;

/// Longest write that is noted, and most that is noted of one connection: beyond this the copy costs more than it saves.
pub(crate) const SMALL_BYTES: usize = 4 << 10;

/// Turns with one write each after which writes are taken to have no company.
const LONELY_TURNS: u32 = 8;

/// Writes that are then sent at once, before one is noted to see whether that has changed.
const SENT_AT_ONCE: u32 = 64;

/// The notes of one thread, in the order in which they were made: of a connection one, or another behind a large write that
/// has taken the first along. They are gone through at each turn of the thread, in which each of its connections is served
/// once.
#[derive(Debug, Default)]
pub(crate) struct Departures(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    outlets: Vec<Arc<Mutex<Outlet>>>,
    /// Wakes whoever sends them; where nobody does, nothing is noted.
    sender: Option<Waker>,
    /// Turns with one write each since the last with more.
    lonely_turns: u32,
    /// How many of the next writes are sent at once.
    at_once: u32,
}

impl Departures {
    /// Sends what is noted, for as long as the thread lives.
    pub(crate) async fn keep_sending(self: Arc<Self>) {
        let mut outlets = Vec::new();
        poll_fn(|cx| {
            {
                let mut notes = self.0.lock();
                notes.sender.get_or_insert_with(|| cx.waker().clone());
                std::mem::swap(&mut notes.outlets, &mut outlets);
                notes.learn(outlets.len());
            }
            outlets.drain(..).for_each(|outlet| Outlet::send_noted(&outlet));
            Poll::<()>::Pending
        })
        .await;
    }

    fn note(&self, outlet: &Arc<Mutex<Outlet>>) -> bool {
        let mut notes = self.0.lock();
        if notes.at_once > 0 {
            notes.at_once -= 1;
            return false;
        }
        let Some(sender) = &notes.sender else { return false };
        if notes.outlets.is_empty() {
            sender.wake_by_ref();
        }
        notes.outlets.push(Arc::clone(outlet));
        true
    }
}

impl Notes {
    /// Learns from a turn with so many writes whether they have company.
    fn learn(&mut self, writes: usize) {
        match writes {
            0 => {}
            1 => self.lonely_turns = (self.lonely_turns + 1).min(LONELY_TURNS),
            _ => self.lonely_turns = 0,
        }
        if writes == 1 && self.lonely_turns == LONELY_TURNS {
            self.at_once = SENT_AT_ONCE;
        }
    }
}

/// A connection whose small writes leave with those of the others of its thread.
#[derive(Debug)]
pub(crate) struct Departing {
    read: OwnedReadHalf,
    outlet: Arc<Mutex<Outlet>>,
    departures: Arc<Departures>,
}

/// The write side of a connection.
#[derive(Debug)]
struct Outlet {
    /// None once the connection has been dropped.
    half: Option<OwnedWriteHalf>,
    state: State,
    /// What was taken over, until it is sent.
    taken: Vec<u8>,
    /// How much of it has been sent.
    sent: usize,
    /// Why no more can be.
    failed: Option<io::ErrorKind>,
    /// Waits until nothing is left of what was taken over.
    waiter: Option<Waker>,
}

#[derive(Debug)]
enum State {
    /// Nothing is taken over.
    Empty,
    Noted,
    /// The kernel has no room: a task of its own sends the rest.
    Sending(AbortHandle),
}

impl Departing {
    pub(crate) fn new(stream: TcpStream, departures: Arc<Departures>) -> Self {
        let (read, half) = stream.into_split();
        let outlet =
            Outlet { half: Some(half), state: State::Empty, taken: Vec::new(), sent: 0, failed: None, waiter: None };
        Self { read, outlet: Arc::new(Mutex::new(outlet)), departures }
    }

    /// Whether nothing of the last small write was sent, nor will be once the connection is dropped.
    pub(crate) fn has_sent_nothing(&self) -> bool {
        let outlet = self.outlet.lock();
        outlet.sent == 0 && !outlet.taken.is_empty()
    }

    /// Reads what the runtime knows to be there, without waiting.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read.try_read(buf)
    }

    /// Waits until there is something to read.
    #[cfg(test)]
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.read.readable().await
    }

    /// Sends what is noted, as far as the kernel has room, before the connection is dropped.
    pub(crate) fn send_now(&self) {
        Outlet::send_noted(&self.outlet);
    }

    /// Waits until what was taken over is sent: as long as the kernel finds that the receiver takes something.
    pub(crate) async fn all_sent(&self) -> io::Result<()> {
        poll_fn(|cx| self.outlet.lock().poll_empty(cx)).await
    }

    /// Lets the connection end with a reset when it is dropped.
    pub(crate) fn set_zero_linger(&self) -> io::Result<()> {
        self.read.as_ref().set_zero_linger()
    }

    /// Writes at once, behind what is noted.
    pub(crate) fn poll_write_now(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.outlet.lock().poll_write(cx, slices)
    }

    /// Notes a small write, and writes any other at once.
    fn poll_write_soon(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut outlet = self.outlet.lock();
        let length = total(slices);
        let is_noted = outlet.failed.is_none()
            && match outlet.state {
                State::Empty => length <= SMALL_BYTES && self.departures.note(&self.outlet),
                State::Noted => outlet.taken.len().saturating_add(length) <= SMALL_BYTES,
                State::Sending(_) => false,
            };
        if !is_noted {
            return outlet.poll_write(cx, slices);
        }
        outlet.state = State::Noted;
        outlet.taken.reserve(length);
        slices.iter().for_each(|slice| outlet.taken.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }
}

impl Drop for Departing {
    /// What is still noted is not sent.
    fn drop(&mut self) {
        let mut outlet = self.outlet.lock();
        if let State::Sending(sending) = std::mem::replace(&mut outlet.state, State::Empty) {
            sending.abort();
        }
        // Dropping it would close the write side in an orderly way first, which a reset must not look like.
        outlet.half.take().into_iter().for_each(OwnedWriteHalf::forget);
    }
}

impl Outlet {
    fn send_noted(this: &Arc<Mutex<Self>>) {
        let mut outlet = this.lock();
        // A larger write behind it may have sent it already.
        if !matches!(outlet.state, State::Noted) {
            return;
        }
        let Some(half) = &outlet.half else { return };
        match half.try_write(&outlet.taken[outlet.sent..]) {
            Ok(count) => outlet.sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => outlet.failed = Some(error.kind()),
        }
        if outlet.sent < outlet.taken.len() && outlet.failed.is_none() {
            outlet.state = State::Sending(tokio::spawn(Self::send_rest(Arc::clone(this))).abort_handle());
            return;
        }
        let waiter = outlet.settle();
        drop(outlet);
        waiter.into_iter().for_each(Waker::wake);
    }

    async fn send_rest(this: Arc<Mutex<Self>>) {
        let waiter = poll_fn(|cx| {
            let mut outlet = this.lock();
            ready!(outlet.poll_taken(cx));
            Poll::Ready(outlet.settle())
        });
        waiter.await.into_iter().for_each(Waker::wake);
    }

    /// Ready when all that was taken over is sent, or cannot be.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sent < self.taken.len() && self.failed.is_none() {
            let Some(half) = &mut self.half else { break };
            match ready!(Pin::new(half).poll_write(cx, &self.taken[self.sent..])) {
                Ok(0) => self.failed = Some(io::ErrorKind::WriteZero),
                Ok(count) => self.sent += count,
                Err(error) => self.failed = Some(error.kind()),
            }
        }
        Poll::Ready(())
    }

    /// Nothing is on its way any more. Gives who waits for that.
    fn settle(&mut self) -> Option<Waker> {
        self.state = State::Empty;
        if self.failed.is_none() {
            // The next one that needs this memory finds it in the cache; an idle connection needs none.
            self.taken = Vec::new();
            self.sent = 0;
        }
        self.waiter.take()
    }

    /// Waits until what was taken over is sent.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = match self.state {
            State::Empty => Poll::Ready(()),
            State::Noted => self.poll_taken(cx),
            State::Sending(_) => Poll::Pending,
        };
        if sent.is_pending() {
            self.waiter = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.settle();
        Poll::Ready(self.failed.map_or(Ok(()), |kind| Err(kind.into())))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_empty(cx))?;
        let Some(half) = &mut self.half else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let half = Pin::new(half);
        if let [slice] = slices {
            return half.poll_write(cx, slice);
        }
        if total(slices) > SMALL_BYTES {
            return half.poll_write_vectored(cx, slices);
        }
        // A plain send costs the kernel less than one that gathers, by more than the copy.
        let mut space = [MaybeUninit::uninit(); SMALL_BYTES];
        let mut whole = ReadBuf::uninit(&mut space);
        slices.iter().for_each(|slice| whole.put_slice(slice));
        half.poll_write(cx, whole.filled())
    }
}

fn total(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().fold(0, |total, slice| total.saturating_add(slice.len()))
}

impl AsyncRead for Departing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.read).poll_read(cx, buf));
        if read.is_ok() && buf.filled().len() > before {
            return Poll::Ready(read);
        }
        let mut outlet = self.outlet.lock();
        if let Err(error) = &read
            && !matches!(outlet.state, State::Empty)
        {
            // The kernel tells of it once, and whoever reads may have no use for it.
            outlet.failed.get_or_insert(error.kind());
        }
        Poll::Ready(outlet.failed.map_or(read, |kind| Err(kind.into())))
    }
}

impl AsyncWrite for Departing {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_soon(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_soon(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A noted write needs no help to leave.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.outlet.lock().failed.map_or(Ok(()), |kind| Err(kind.into())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outlet = self.outlet.lock();
        ready!(outlet.poll_empty(cx))?;
        outlet.half.as_mut().map_or(Poll::Ready(Ok(())), |half| Pin::new(half).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests;
