//! HTTP/2 connections on which nothing moves.
//!
//! Over HTTP/1 a client that takes nothing stops its socket, and the kernel notices; one that asks nothing is hyper's to
//! end. Over HTTP/2 a client may keep a stream's window closed, or have no stream at all, and answer pings all the same; its
//! answers would wait in memory, and its connection stay open, for as long as it likes.
//!
//! It is enough that something moves, whichever answer it is of, and counters show that without a look at the clock: an
//! answer that nobody takes has given its replica back by its deadline. The model server, whose answers keep their places
//! until they are taken, looks at the age of each instead.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::body::ResponseBody;
use crate::relay::RelayError;

/// What one connection's client has asked and is owed.
#[derive(Default)]
pub(crate) struct Traffic {
    /// Requests that are not answered whole.
    open: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Pieces of answers of which a part has not left.
    pieces: AtomicUsize,
    /// How often a part of a piece has left, or a piece is not owed any more.
    taken: AtomicU64,
}

/// How a connection stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standstill {
    /// The client is owed something and takes none of it.
    Stalled,
    /// The client is owed nothing and asks nothing.
    Idle,
}

/// One request, until it is dropped.
pub(crate) struct Open(Arc<Traffic>);

/// The body of an answer, piece by piece noted as owed.
pub(crate) struct OwedBody {
    body: ResponseBody,
    open: Open,
}

/// One piece. hyper asks for the next only when this one is on its way.
pub(crate) struct OwedPiece {
    bytes: Bytes,
    traffic: Arc<Traffic>,
}

impl Traffic {
    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// Resolves when the client was owed something for the whole of `stall` and took none of it, or had nothing to wait for
    /// for the whole of `idle`; at the latest after half as long again.
    pub(crate) async fn stops(&self, stall: Duration, idle: Duration) -> Standstill {
        let pause = stall.min(idle) / 2;
        let (mut stalled, mut idled) = (Lasting::default(), Lasting::default());
        loop {
            if stalled.look(self.owed(), pause) >= stall {
                return Standstill::Stalled;
            }
            if idled.look(self.asked(), pause) >= idle {
                return Standstill::Idle;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What has been taken, if something is owed.
    fn owed(&self) -> Option<u64> {
        // What was owed at one look is owed at the next if nothing was taken: the end of a piece counts as taken.
        (self.pieces.load(Ordering::Relaxed) > 0).then(|| self.taken.load(Ordering::Relaxed))
    }

    /// What has been asked, if all of it is answered and taken.
    fn asked(&self) -> Option<u64> {
        let is_waiting = self.open.load(Ordering::Relaxed) > 0 || self.pieces.load(Ordering::Relaxed) > 0;
        (!is_waiting).then(|| self.requests.load(Ordering::Relaxed))
    }
}

/// For how long a state has lasted, by looks at it. Looks instead of a clock: what moves pays for none.
#[derive(Default)]
struct Lasting {
    seen: Option<u64>,
    lasted: Duration,
}

impl Lasting {
    /// Looks again, `pause` after the last time: for how long the state has been this one.
    fn look(&mut self, state: Option<u64>, pause: Duration) -> Duration {
        let goes_on = state.is_some() && state == self.seen;
        self.lasted = if goes_on { self.lasted + pause } else { Duration::ZERO };
        self.seen = state;
        self.lasted
    }
}

impl Open {
    /// The request is answered with this body.
    pub(crate) fn answer(self, body: ResponseBody) -> OwedBody {
        OwedBody { body, open: self }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
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
        let owe = |bytes| OwedPiece::new(bytes, Arc::clone(&self.open.0));
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
    fn new(bytes: Bytes, traffic: Arc<Traffic>) -> Self {
        traffic.pieces.fetch_add(1, Ordering::Relaxed);
        Self { bytes, traffic }
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
        self.traffic.taken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OwedPiece {
    fn drop(&mut self) {
        self.traffic.pieces.fetch_sub(1, Ordering::Relaxed);
        self.traffic.taken.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn piece(traffic: &Arc<Traffic>) -> OwedPiece {
        OwedPiece::new(Bytes::from_static(b"0123456789"), Arc::clone(traffic))
    }

    /// How long the client has been owed something, looked at once more.
    fn stalled(looks: &mut Lasting, traffic: &Traffic) -> u64 {
        looks.look(traffic.owed(), PAUSE).as_secs()
    }

    /// How long it has asked nothing.
    fn idled(looks: &mut Lasting, traffic: &Traffic) -> u64 {
        looks.look(traffic.asked(), PAUSE).as_secs()
    }

    #[test]
    fn nothing_taken_of_what_is_owed_is_a_stall() {
        let (traffic, mut looks) = (Arc::new(Traffic::default()), Lasting::default());
        let _piece = piece(&traffic);
        assert_eq!(stalled(&mut looks, &traffic), 0, "it may have come just now");
        assert_eq!([1, 2, 3].map(|_| stalled(&mut looks, &traffic)), [1, 2, 3]);
    }

    #[test]
    fn whoever_is_owed_nothing_stalls_nothing() {
        let (traffic, mut looks) = (Arc::new(Traffic::default()), Lasting::default());
        drop(piece(&traffic));
        assert!((0..9).all(|_| stalled(&mut looks, &traffic) == 0));
    }

    #[test]
    fn a_byte_now_and_then_is_no_stall() {
        let (traffic, mut looks) = (Arc::new(Traffic::default()), Lasting::default());
        let mut piece = piece(&traffic);
        for _ in 0..9 {
            assert_eq!(stalled(&mut looks, &traffic), 0);
            piece.advance(1);
        }
        drop(piece);
        assert_eq!(stalled(&mut looks, &traffic), 0);
    }

    #[test]
    fn new_answers_do_not_hide_a_stall() {
        let (traffic, mut looks) = (Arc::new(Traffic::default()), Lasting::default());
        let _first = piece(&traffic);
        assert_eq!(stalled(&mut looks, &traffic), 0);
        let _second = piece(&traffic);
        assert_eq!(stalled(&mut looks, &traffic), 1);
    }

    #[test]
    fn a_request_between_two_looks_ends_idleness_and_one_that_is_open_does_too() {
        let (traffic, mut looks) = (Arc::new(Traffic::default()), Lasting::default());
        assert_eq!([(); 3].map(|()| idled(&mut looks, &traffic)), [0, 1, 2], "from the beginning on");
        drop(traffic.begin());
        assert_eq!([(); 2].map(|()| idled(&mut looks, &traffic)), [0, 1]);
        let open = traffic.begin();
        assert_eq!([(); 3].map(|()| idled(&mut looks, &traffic)), [0, 0, 0]);
        let owed = piece(&traffic);
        drop(open);
        assert_eq!([(); 3].map(|()| idled(&mut looks, &traffic)), [0, 0, 0], "its answer has not left");
        drop(owed);
        assert_eq!([(); 2].map(|()| idled(&mut looks, &traffic)), [0, 1]);
    }
}
