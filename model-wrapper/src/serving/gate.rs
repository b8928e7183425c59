//! The places of a wrapper, and the end of taking requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model_wrapper_protocol::{InferError, Unavailable};
use prometheus::IntGauge;
use tokio::sync::Notify;

/// Why no request is taken any more. Once set it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Drained: the replica will be removed.
    Draining,
    /// The process ends.
    ShuttingDown,
}

/// Counts requests. A place is taken before the body is read and given back when the response's last byte is out.
#[derive(Debug)]
pub(super) struct Gate {
    /// Places taken, with the flags below in the top bits, so that no request slips in between a look at both.
    taken: AtomicUsize,
    in_flight: IntGauge,
    empty: Notify,
    stops: Notify,
}

const DRAINING: usize = 1 << (usize::BITS - 1);
const SHUTTING_DOWN: usize = 1 << (usize::BITS - 2);
const COUNT: usize = SHUTTING_DOWN - 1;

/// A place. It is given back when dropped.
#[derive(Debug)]
pub struct Slot {
    gate: Arc<Gate>,
}

// === impl Gate ===

impl Gate {
    pub(super) fn new(in_flight: IntGauge) -> Self {
        Self { taken: AtomicUsize::new(0), in_flight, empty: Notify::new(), stops: Notify::new() }
    }

    /// Takes one of `limit` places.
    pub(super) fn take(self: &Arc<Self>, limit: usize) -> Result<Slot, InferError> {
        let taken = self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| (state < limit.min(COUNT)).then_some(state + 1));
        match taken {
            Ok(_) => {
                self.in_flight.inc();
                Ok(Slot { gate: self.clone() })
            }
            Err(state) => Err(refusal(state).unwrap_or(InferError::Busy { limit })),
        }
    }

    /// The error of a request that comes now, if none is taken any more.
    pub(super) fn refusal(&self) -> Option<InferError> {
        refusal(self.taken.load(Ordering::SeqCst))
    }

    /// Whether requests are taken.
    pub(super) fn stopped(&self) -> Option<Stop> {
        stopped(self.taken.load(Ordering::SeqCst))
    }

    /// Takes no request from now on.
    pub(super) fn stop(&self, stop: Stop) {
        let flag = match stop {
            Stop::Draining => DRAINING,
            Stop::ShuttingDown => SHUTTING_DOWN,
        };
        self.taken.fetch_or(flag, Ordering::SeqCst);
        self.stops.notify_waiters();
    }

    /// Resolves once no request is taken any more, with the error of one that comes then.
    pub(super) async fn refused(&self) -> InferError {
        loop {
            let mut stops = std::pin::pin!(self.stops.notified());
            stops.as_mut().enable();
            if let Some(refusal) = self.refusal() {
                return refusal;
            }
            stops.await;
        }
    }

    /// Places taken now.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst) & COUNT
    }

    /// Resolves once no place is taken.
    pub(super) async fn emptied(&self) {
        loop {
            let mut empty = std::pin::pin!(self.empty.notified());
            empty.as_mut().enable();
            if self.taken() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.in_flight.dec();
        let before = self.gate.taken.fetch_sub(1, Ordering::SeqCst);
        if before & COUNT == 1 && before > COUNT {
            self.gate.empty.notify_waiters();
        }
    }
}

fn stopped(state: usize) -> Option<Stop> {
    if state & SHUTTING_DOWN != 0 {
        Some(Stop::ShuttingDown)
    } else {
        (state & DRAINING != 0).then_some(Stop::Draining)
    }
}

fn refusal(state: usize) -> Option<InferError> {
    let (reason, message) = match stopped(state)? {
        Stop::Draining => (Unavailable::Draining, "this replica is being drained"),
        Stop::ShuttingDown => (Unavailable::ShuttingDown, "this replica is shutting down"),
    };
    Some(InferError::Unavailable { reason, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::new(IntGauge::new("in_flight", "test").unwrap()))
    }

    #[test]
    fn no_more_places_than_the_limit() {
        let gate = gate();
        let first = gate.take(2).unwrap();
        let _second = gate.take(2).unwrap();
        assert_eq!(gate.take(2).unwrap_err(), InferError::Busy { limit: 2 });
        assert_eq!(gate.taken(), 2);
        drop(first);
        assert!(gate.take(2).is_ok());
        assert_eq!(gate.in_flight.get(), 1);
    }

    #[test]
    fn none_once_stopped_and_shutting_down_is_said_rather_than_draining() {
        let gate = gate();
        let slot = gate.take(1).unwrap();
        gate.stop(Stop::Draining);
        assert_eq!(gate.take(9).unwrap_err().reason(), "draining");
        gate.stop(Stop::ShuttingDown);
        assert_eq!(gate.take(9).unwrap_err().reason(), "shutting-down");
        assert_eq!(gate.taken(), 1);
        drop(slot);
        assert_eq!(gate.taken(), 0);
        assert_eq!(gate.take(9).unwrap_err().reason(), "shutting-down");
    }

    #[tokio::test]
    async fn emptied_waits_for_the_last_place() {
        let gate = gate();
        let slots: Vec<_> = (0..3).map(|_| gate.take(3).unwrap()).collect();
        gate.stop(Stop::Draining);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(slots);
        waiting.await.unwrap();
        gate.emptied().await;
    }
}
