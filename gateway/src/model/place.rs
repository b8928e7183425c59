//! A taken slot, and what follows from giving it back.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{Device, Pick, Reason, Slot};

use super::Model;
use crate::replica::Replica;

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

    /// How long the request was predicted to take here.
    pub(crate) const fn predicted(&self) -> Duration {
        self.pick.choice.predicted
    }

    /// Why this replica's device serves the request.
    pub(crate) const fn reason(&self) -> Reason {
        self.reason
    }
}
