//! One request at a time.
//!
//! While a request is being answered hyper reads on, to learn that its client has left, but only until a byte has come. A
//! client that sends its next request before it has the last answer, and then leaves, would go unnoticed: what it asked
//! for would be held and run for nobody. So the filter keeps what follows a request from hyper until the answer has ended,
//! and reads on itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

/// How far the answers of a connection are. All that uses it runs in the connection's task: no order of memory is needed.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    answered: AtomicU64,
    is_awaited: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

/// The body of an answer; its end begins the next turn.
pub(crate) struct LastOfTurn<B> {
    // Fields are dropped in this order.
    body: B,
    _turn: Turn,
}

struct Turn(Arc<Turns>);

impl Turns {
    /// Of which each has ended: of a reader without a service behind it.
    #[cfg(test)]
    pub(crate) fn endless() -> Self {
        Self { answered: u64::MAX.into(), ..Self::default() }
    }

    /// The answer to a request, with this body.
    pub(crate) fn answer<B>(self: Arc<Self>, body: B) -> LastOfTurn<B> {
        LastOfTurn { body, _turn: Turn(self) }
    }

    /// Requests whose answers have ended.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Wakes the task of `cx` when the next answer has ended.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        *self.waiter.lock() = Some(cx.waker().clone());
        self.is_awaited.store(true, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        // Few clients send on before they are answered: the others take no lock.
        if self.0.is_awaited.load(Ordering::Relaxed) {
            self.0.is_awaited.store(false, Ordering::Relaxed);
            self.0.waiter.lock().take().into_iter().for_each(Waker::wake);
        }
    }
}

impl<B: Body + Unpin> Body for LastOfTurn<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
