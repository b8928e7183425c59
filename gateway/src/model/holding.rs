//! Requests that wait for a replica of a model.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gateway_policy::{Hold, Moment, Outcome, Refusal, Ticket};
use tokio::sync::oneshot;

use super::{Model, Place, Wanted};

/// What a waiting request needs to be given a replica, and the way to tell it.
pub(super) struct Waiter {
    wanted: Wanted,
    told: oneshot::Sender<Outcome<Place>>,
}

impl Model {
    /// Holds a request until a replica takes it.
    pub(crate) fn hold(self: &Arc<Self>, wanted: Wanted, bytes: u64, former: Option<Ticket>) -> Result<Held, Refusal> {
        let (told, outcome) = oneshot::channel();
        let now = self.clock.now();
        let (ticket, waiting) = {
            let mut hold = self.hold.lock();
            let waiter = Waiter { wanted, told };
            let ticket = match former {
                Some(ticket) => hold.rejoin(ticket, waiter, bytes, wanted.deadline).map(|()| ticket)?,
                None => hold.join(waiter, bytes, wanted.deadline, now)?,
            };
            self.publish(&hold);
            (ticket, hold.len())
        };
        // A slot freed between the failed pick and the join is found here.
        self.release_held();
        let still_waits = self.waiting.load(Ordering::SeqCst) != 0;
        if waiting.is_power_of_two() && still_waits && self.routing().scalable {
            // The first is told at once; of a growing crowd each doubling, and the whole on the tick.
            self.outbox.held(&self.key, waiting);
        }
        Ok(Held { model: Arc::clone(self), ticket, outcome, waits: true, since: now })
    }

    /// Gives free slots to waiting requests, first come first served, and ends the waits past their deadline.
    pub(crate) fn release_held(self: &Arc<Self>) {
        while self.waiting.load(Ordering::SeqCst) != 0 {
            let now = self.clock.now();
            let outcomes = {
                let mut hold = self.hold.lock();
                let outcomes = hold.release(now, |waiter| self.pick(waiter.wanted, now));
                self.publish(&hold);
                outcomes
            };
            if outcomes.is_empty() {
                return;
            }
            for (waiter, outcome) in outcomes {
                let outcome = match outcome {
                    Outcome::Released((pick, reason)) => Outcome::Released(Place::new(pick, reason, self)),
                    Outcome::Deadline => Outcome::Deadline,
                    Outcome::ShuttingDown => Outcome::ShuttingDown,
                };
                // Whoever left in the meantime gives its place back by dropping it, which releases the next.
                let _ = waiter.told.send(outcome);
            }
        }
    }

    /// Ends every wait and holds no more: the gateway stops.
    pub(crate) fn end_waits(&self) {
        let outcomes = {
            let mut hold = self.hold.lock();
            let outcomes = hold.shut_down::<Place>();
            self.publish(&hold);
            outcomes
        };
        // Whoever left meanwhile need not be told.
        outcomes.into_iter().for_each(|(waiter, outcome)| drop(waiter.told.send(outcome)));
    }

    /// Wakes every waiting request without a place: a dropped channel makes it look why it waits.
    pub(super) fn disappoint(&self) {
        let waiters = {
            let mut hold = self.hold.lock();
            let waiters = hold.release(self.clock.now(), |_| Some(()));
            self.publish(&hold);
            waiters
        };
        drop(waiters);
    }

    fn publish(&self, hold: &Hold<Waiter>) {
        self.waiting.store(hold.len(), Ordering::SeqCst);
        self.metrics.held.set(hold.len() as i64);
        self.metrics.held_bytes.set(hold.bytes() as i64);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// A request that waits. Dropping it leaves the queue at once.
pub(crate) struct Held {
    model: Arc<Model>,
    ticket: Ticket,
    outcome: oneshot::Receiver<Outcome<Place>>,
    waits: bool,
    since: Moment,
}

impl Held {
    /// Waits for the end of the wait; `None` when the model turned out to be unable to come up.
    pub(crate) async fn wait(mut self) -> (Option<Outcome<Place>>, Ticket) {
        let outcome = (&mut self.outcome).await.ok();
        self.waits = false;
        (outcome, self.ticket)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let waited = self.model.clock.now().saturating_since(self.since);
        self.model.metrics.hold_duration.observe(waited.as_secs_f64());
        if self.waits {
            let mut hold = self.model.hold.lock();
            let left = hold.cancel(self.ticket);
            self.model.publish(&hold);
            drop(hold);
            drop(left);
        }
    }
}
