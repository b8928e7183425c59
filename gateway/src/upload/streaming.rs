//! A body that is streamed while it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::error::Error;
use crate::extent::Extent;
use crate::inbound::Inbound;
use crate::pace::Pace;
use crate::reading::{Backlog, Prefix};
use crate::settings::Limits;

/// When to look again whether there is room to read on: what makes room tells nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A body that is streamed, shared by the request and the attempt that sends it.
#[derive(Clone)]
pub(crate) struct Upload {
    state: Arc<Mutex<UploadState>>,
    /// As far as it is known.
    pub(super) length: u64,
    /// Of the beginning that is kept.
    pub(super) prefix_length: u64,
    /// Of all of it, if that is known.
    pub(super) exact: Option<u64>,
    /// The number of the attempt that this is for; 0: for none.
    attempt: u32,
}

struct UploadState {
    prefix: Prefix,
    /// What follows it, as far as it has been read.
    backlog: Backlog,
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
    /// Due when the client has been waited for too long; before anyone takes the body, when to look for room to read on.
    patience: Pin<Box<Sleep>>,
    failure: Option<Error>,
}

impl Upload {
    pub(super) fn new(prefix: Prefix, backlog: Backlog, extent: Extent, inbound: Inbound, limits: &Limits) -> Self {
        let prefix_length = prefix.length();
        let remaining = inbound.size_hint();
        let exact = remaining.exact().map(|remaining| remaining + prefix_length);
        let mut pace = Pace::new(limits);
        pace.arrived(prefix_length, Instant::now);
        let state = UploadState {
            prefix,
            backlog,
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

    pub(super) fn first_bytes(&self) -> Bytes {
        self.state.lock().prefix.joined()
    }

    /// Begins an attempt, unless an earlier one has taken more than what is kept. It gets the body from its first byte on,
    /// and the earlier one nothing more.
    pub(super) fn attempt(&self) -> Option<Self> {
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

    /// Reads on while nobody takes the body, as far as there is room. Ready only when that fails.
    pub(super) fn poll_reading_on(&self, cx: &mut Context<'_>) -> Poll<Error> {
        self.state.lock().poll_reading_on(cx)
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

    /// The answer has ended: nothing more is taken from the client, nor given to the replica. Its connection may keep this for
    /// longer.
    pub(crate) fn stop(&self) {
        let (inbound, reader) = {
            let mut state = self.state.lock();
            state.backlog.clear();
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
    fn poll_reading_on(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(inbound) = self.inbound.as_mut().filter(|_| self.extent.is_bounded()) else { return Poll::Pending };
        while !inbound.is_end_stream() {
            if !self.backlog.has_room() {
                self.patience.as_mut().reset(Instant::now() + LOOK_AGAIN);
                ready!(self.patience.as_mut().poll(cx));
                continue;
            }
            let Some(frame) = ready!(inbound.poll_frame(cx)) else { break };
            let advanced = frame.and_then(|frame| {
                let data = frame.into_data().unwrap_or_default();
                self.extent.advance(&data).map(|()| data)
            });
            match advanced {
                Ok(data) => {
                    self.pace.arrived(data.len() as u64, Instant::now);
                    self.backlog.push(data);
                }
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }

    /// Something that is not kept is given out, which may be the last of the body.
    fn consume(&mut self) {
        if !std::mem::replace(&mut self.consumed, true) {
            self.prefix = Prefix::default();
        }
        if self.backlog.is_empty() && self.inbound.as_ref().is_some_and(Inbound::is_end_stream) {
            self.whole_since = Some(Instant::now());
        }
    }

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
        if let Some(data) = self.backlog.pop() {
            self.consume();
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
                self.consume();
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
