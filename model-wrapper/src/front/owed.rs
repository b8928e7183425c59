//! Answers over HTTP/2 that their reader does not take.
//!
//! A reader that keeps its window closed takes nothing while its connection goes on, so that the socket shows nothing of it;
//! but the answer holds a place, which such a reader would keep for good. What is owed is known by the pieces of answers: one
//! is taken when it is dropped, and the next is asked for when the window opens.
//!
//! The age of each answer counts: that others move on the same connection does not give its place back. In the gateway the
//! deadline does, so that there any movement on a connection is enough.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::body::FrontBody;

/// Bytes of a piece at most: one that is taken is progress, also where the whole takes long.
const PIECE: usize = 1 << 20;

/// What a connection owes to its peer. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Owed(Arc<Inner>);

#[derive(Default)]
struct Inner {
    debts: Mutex<Debts>,
    /// Told when the first debt is made.
    begun: Notify,
}

#[derive(Default)]
struct Debts {
    /// Since when, by number.
    since: HashMap<u64, Instant>,
    next: u64,
}

/// Something owed, until it is dropped.
struct Debt {
    owed: Owed,
    number: u64,
}

/// An answer's body, and what of it is owed.
pub(super) struct Answer {
    body: FrontBody,
    /// What of a large piece is still to be given.
    rest: Bytes,
    /// Of HTTP/2 only.
    owed: Option<Owed>,
    /// Since the body was asked last, unless it had nothing to give.
    debt: Option<Debt>,
}

/// A piece of an answer, owed until it is dropped.
struct Piece {
    bytes: Bytes,
    _debt: Debt,
}

impl Owed {
    /// The answer, whose reader must take it.
    pub(super) fn answer(&self, body: FrontBody) -> Answer {
        Answer { body, rest: Bytes::new(), owed: Some(self.clone()), debt: Some(self.borrow()) }
    }

    /// Resolves once nothing of some answer was taken for as long as `patience`.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let oldest = self.0.debts.lock().since.values().min().copied();
            match oldest.map(|since| since + patience) {
                None => self.0.begun.notified().await,
                Some(end) if end <= Instant::now() => return,
                Some(end) => tokio::time::sleep_until(end).await,
            }
        }
    }

    fn borrow(&self) -> Debt {
        let mut debts = self.0.debts.lock();
        let number = debts.next;
        debts.next += 1;
        debts.since.insert(number, Instant::now());
        if debts.since.len() == 1 {
            self.0.begun.notify_one();
        }
        drop(debts);
        Debt { owed: self.clone(), number }
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.owed.0.debts.lock().since.remove(&self.number);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

// === impl Answer ===

impl From<FrontBody> for Answer {
    /// An answer over HTTP/1, of which the socket shows whether it is taken.
    fn from(body: FrontBody) -> Self {
        Self { body, rest: Bytes::new(), owed: None, debt: None }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(owed) = &this.owed else { return Pin::new(&mut this.body).poll_frame(context) };
        if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => {
                    this.debt = None;
                    return other;
                }
            }
        }
        let bytes = this.rest.split_to(this.rest.len().min(PIECE));
        this.debt = Some(owed.borrow());
        let piece = Bytes::from_owner(Piece { bytes, _debt: owed.borrow() });
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn nothing_is_owed_once_all_is_taken() {
        let owed = Owed::default();
        let taken = owed.answer(Bytes::from(vec![7; 2 * PIECE + 1]).into()).collect().await.unwrap().to_bytes();
        assert_eq!(taken.len(), 2 * PIECE + 1);
        assert!(owed.0.debts.lock().since.is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asks_for_is_stalled() {
        let owed = Owed::default();
        let begun = Instant::now();
        let _answer = owed.answer(Bytes::from_static(b"a").into());
        owed.stalled(PATIENCE).await;
        assert!(begun.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn a_piece_that_is_taken_gives_time_and_one_that_is_not_is_stalled() {
        let owed = Owed::default();
        let mut answer = owed.answer(Bytes::from(vec![7; 2 * PIECE]).into());
        let first = answer.frame().await;
        tokio::time::sleep(PATIENCE / 2).await;
        drop(first);
        let taken = Instant::now();
        let _second = answer.frame().await;
        assert!(answer.is_end_stream());
        drop(answer);
        owed.stalled(PATIENCE).await;
        assert!(taken.elapsed() >= PATIENCE, "{:?}", taken.elapsed());
    }
}
