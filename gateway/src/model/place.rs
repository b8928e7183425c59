//! A taken slot, and what follows from giving it back.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{Device, Pick, Reason, Slot};

use super::Model;
use crate::replica::Replica;

/// A silence counts against a replica only after this many times the predicted time, and this long at least: a shorter
/// deadline is the caller's choice, as is when to leave, and callers could otherwise eject replicas.
const SLOW_FACTOR: u32 = 5;
const SLOW_AT_LEAST: Duration = Duration::from_millis(250);

/// A slot of a replica together with what follows from freeing it: the next waiting request gets it.
pub(crate) struct Place {
    // Fields are dropped in this order: the slot is free before the queue is looked at.
    pick: Pick<Arc<Replica>>,
    reason: Reason,
    _freed: Freed,
}

/// Looks at the queue when dropped.
struct Freed(Arc<Model>, Device);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.metrics.device(self.1).in_flight.dec();
        self.0.release_held();
    }
}

impl Place {
    pub(super) fn new(pick: Pick<Arc<Replica>>, reason: Reason, model: &Arc<Model>) -> Self {
        let device = pick.slot.spec.device;
        model.metrics.device(device).in_flight.inc();
        Self { pick, reason, _freed: Freed(Arc::clone(model), device) }
    }

    pub(crate) fn replica(&self) -> &Arc<Replica> {
        self.pick.slot.replica()
    }

    pub(crate) fn slot(&self) -> &Slot<Arc<Replica>> {
        &self.pick.slot
    }

    /// Whether a request that had no answer after `silence` counts against the replica.
    pub(crate) fn is_overdue(&self, silence: Duration) -> bool {
        silence >= (self.pick.choice.predicted * SLOW_FACTOR).max(SLOW_AT_LEAST)
    }

    /// Why this replica's device serves the request.
    pub(crate) const fn reason(&self) -> Reason {
        self.reason
    }
}
