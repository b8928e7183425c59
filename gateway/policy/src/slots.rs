//! The requests that a replica runs at a time.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::{Health, Load};

/// What the routing policy needs to know of a replica. Both parts are updated in place by many threads, while the list
/// of replicas that holds them is an immutable snapshot.
pub trait Replica {
    /// Its requests in flight.
    fn slots(&self) -> &Slots;

    /// Whether it has been failing.
    fn health(&self) -> &Health;
}

impl<R: Replica + ?Sized> Replica for Arc<R> {
    fn slots(&self) -> &Slots {
        (**self).slots()
    }

    fn health(&self) -> &Health {
        (**self).health()
    }
}

/// Requests in flight on one replica, never above its concurrency, unless that was lowered below what was in flight.
///
/// Every operation is sequentially consistent: whoever finds no free slot and then joins the hold queue, and whoever
/// frees a slot and then looks at the hold queue, cannot both miss each other.
#[derive(Debug)]
pub struct Slots {
    concurrency: AtomicU32,
    in_flight: AtomicU32,
}

impl Slots {
    /// For a replica that takes `concurrency` requests at a time; 0 sets no limit, as Knative's `containerConcurrency`
    /// does.
    #[must_use]
    pub const fn new(concurrency: u32) -> Self {
        Self { concurrency: AtomicU32::new(concurrency), in_flight: AtomicU32::new(0) }
    }

    /// Changes how many requests the replica takes at a time. Those in flight stay; none is added while there are as many.
    pub fn set_concurrency(&self, concurrency: u32) {
        self.concurrency.store(concurrency, SeqCst);
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    /// Requests that the replica takes at a time; 0 sets no limit.
    #[must_use]
    pub fn concurrency(&self) -> u32 {
        self.concurrency.load(SeqCst)
    }

    /// Whether there is room for one more request at this moment.
    #[must_use]
    pub fn has_free(&self) -> bool {
        self.in_flight() < self.limit()
    }

    /// What a request would meet that joins now.
    #[must_use]
    pub fn load(&self) -> Load {
        Load { ahead: self.in_flight(), concurrency: self.concurrency() }
    }

    fn limit(&self) -> u32 {
        match self.concurrency() {
            0 => u32::MAX,
            concurrency => concurrency,
        }
    }

    /// Takes a slot unless all are taken; returns how many were taken before.
    fn try_acquire(&self) -> Option<u32> {
        self.in_flight.fetch_update(SeqCst, SeqCst, |taken| (taken < self.limit()).then(|| taken + 1)).ok()
    }

    fn release(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }
}

/// One slot of a replica, given back when this is dropped: keep it until the response body has ended.
#[derive(Debug)]
#[must_use = "the slot is free again as soon as this is dropped"]
pub struct Slot<R: Replica> {
    replica: R,
    load: Load,
}

impl<R: Replica> Slot<R> {
    /// Takes a slot of `replica`; gives `replica` back when all are taken.
    pub fn acquire(replica: R) -> Result<Self, R> {
        match replica.slots().try_acquire() {
            Some(ahead) => {
                let load = Load { ahead, concurrency: replica.slots().concurrency() };
                Ok(Self { replica, load })
            }
            None => Err(replica),
        }
    }

    /// The replica.
    pub const fn replica(&self) -> &R {
        &self.replica
    }

    /// What this request met when it took the slot.
    pub const fn load(&self) -> Load {
        self.load
    }
}

impl<R: Replica> Deref for Slot<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.replica
    }
}

impl<R: Replica> Drop for Slot<R> {
    fn drop(&mut self) {
        self.replica.slots().release();
    }
}

#[cfg(test)]
mod tests;
