//! What HTTP/2 clients were given and have not taken.
//!
//! Over HTTP/1 a client that takes nothing stops its socket, and the kernel notices. Over HTTP/2 it may keep a stream's
//! window closed and answer pings all the same; its answers would wait in memory for as long as it likes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::body::{RelayError, ResponseBody};

/// What one connection's client is owed.
#[derive(Default)]
pub(crate) struct Owed {
    /// Pieces of answers of which a part has not left.
    pieces: AtomicUsize,
    /// How often a part of a piece has left, or a piece is not owed any more.
    taken: AtomicU64,
}

/// The body of an answer, piece by piece noted as owed.
pub(crate) struct OwedBody {
    body: ResponseBody,
    owed: Arc<Owed>,
}

/// One piece. hyper asks for the next only when this one is on its way.
pub(crate) struct OwedPiece {
    bytes: Bytes,
    owed: Arc<Owed>,
}

impl Owed {
    pub(crate) fn note(self: &Arc<Self>, body: ResponseBody) -> OwedBody {
        OwedBody { body, owed: Arc::clone(self) }
    }

    /// Resolves when the client was owed something for the whole of `limit` and took none of it, at the latest after twice
    /// that time.
    pub(crate) async fn stalls(&self, limit: Duration) {
        let mut looks = Looks::default();
        loop {
            tokio::time::sleep(limit).await;
            if looks.find_stall(self) {
                return;
            }
        }
    }
}

/// What the last look at a connection has shown.
#[derive(Default)]
struct Looks {
    /// What had been taken, if something was owed.
    taken: Option<u64>,
}

impl Looks {
    /// Looks again: whether something has been owed since the last time, and nothing was taken.
    fn find_stall(&mut self, owed: &Owed) -> bool {
        let is_owed = owed.pieces.load(Ordering::Relaxed) > 0;
        let taken = is_owed.then(|| owed.taken.load(Ordering::Relaxed));
        let before = std::mem::replace(&mut self.taken, taken);
        // What was owed then is owed still: the end of a piece counts as taken.
        taken.is_some() && taken == before
    }
}

impl Body for OwedBody {
    type Data = OwedPiece;
    type Error = RelayError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<OwedPiece>, RelayError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let owe = |bytes| OwedPiece::new(bytes, Arc::clone(&self.owed));
        Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(owe))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl OwedPiece {
    fn new(bytes: Bytes, owed: Arc<Owed>) -> Self {
        owed.pieces.fetch_add(1, Ordering::Relaxed);
        Self { bytes, owed }
    }
}

impl Buf for OwedPiece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.owed.taken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OwedPiece {
    fn drop(&mut self) {
        self.owed.pieces.fetch_sub(1, Ordering::Relaxed);
        self.owed.taken.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(owed: &Arc<Owed>) -> OwedPiece {
        OwedPiece::new(Bytes::from_static(b"0123456789"), Arc::clone(owed))
    }

    #[test]
    fn nothing_taken_of_what_is_owed_is_a_stall() {
        let (owed, mut looks) = (Arc::new(Owed::default()), Looks::default());
        let _piece = piece(&owed);
        assert!(!looks.find_stall(&owed), "it may have come just now");
        assert!(looks.find_stall(&owed));
    }

    #[test]
    fn whoever_is_owed_nothing_may_wait() {
        let (owed, mut looks) = (Arc::new(Owed::default()), Looks::default());
        drop(piece(&owed));
        assert!((0..9).all(|_| !looks.find_stall(&owed)));
    }

    #[test]
    fn a_byte_now_and_then_is_no_stall() {
        let (owed, mut looks) = (Arc::new(Owed::default()), Looks::default());
        let mut piece = piece(&owed);
        for _ in 0..9 {
            assert!(!looks.find_stall(&owed));
            piece.advance(1);
        }
        drop(piece);
        assert!(!looks.find_stall(&owed));
    }

    #[test]
    fn new_answers_do_not_hide_a_stall() {
        let (owed, mut looks) = (Arc::new(Owed::default()), Looks::default());
        let _first = piece(&owed);
        assert!(!looks.find_stall(&owed));
        let _second = piece(&owed);
        assert!(looks.find_stall(&owed));
    }
}
