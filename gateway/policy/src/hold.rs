//! The requests of one model that wait for a replica.

use std::collections::{BTreeMap, BTreeSet};

use crate::Moment;

/// What the queue of one model holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// Requests.
    pub requests: usize,
    /// Bytes of their bodies that are in memory.
    pub bytes: u64,
}

impl Default for HoldLimits {
    /// Ten thousand requests, as Knative's activator and linkerd hold, and 256 MiB: what that many bodies of 26 KiB
    /// take.
    fn default() -> Self {
        Self { requests: 10_000, bytes: 256 << 20 }
    }
}

/// The place of a held request. Later places have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Why a request was not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue holds its limit of requests, or of bytes.
    Full,
    /// Its deadline has passed.
    Deadline,
    /// The gateway is shutting down.
    ShuttingDown,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<S> {
    /// With a slot of a replica.
    Released(S),
    /// Its deadline passed.
    Deadline,
    /// The gateway is shutting down.
    ShuttingDown,
}

/// A bounded queue, first come first served, in which each entry waits at most until its own deadline.
///
/// `T` is what wakes the waiting request, a channel's sender for instance. Every entry leaves once: through
/// [`Hold::release`], [`Hold::cancel`] or [`Hold::shut_down`]. All operations cost the logarithm of
/// the length; a request that leaves frees its place at once, wherever it stands.
///
/// To miss no free slot, a request joins and then the queue is released, under one lock; and whoever frees a slot or
/// adds a replica releases the queue after that. To keep the order, a new request joins a queue that is not empty
/// without looking for a replica first.
#[derive(Debug)]
pub struct Hold<T> {
    limits: HoldLimits,
    next: u64,
    bytes: u64,
    state: State,
    entries: BTreeMap<Ticket, Entry<T>>,
    deadlines: BTreeSet<(Moment, Ticket)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    ShutDown,
}

#[derive(Debug)]
struct Entry<T> {
    bytes: u64,
    deadline: Moment,
    waiter: T,
}

impl<T> Hold<T> {
    /// An empty queue.
    #[must_use]
    pub const fn new(limits: HoldLimits) -> Self {
        Self { limits, next: 0, bytes: 0, state: State::Open, entries: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    /// Requests waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the waiting requests keep in memory.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Joins the end of the queue with `bytes` of body in memory.
    pub fn join(&mut self, waiter: T, bytes: u64, deadline: Moment, now: Moment) -> Result<Ticket, Refusal> {
        if self.state == State::Open && deadline <= now {
            return Err(Refusal::Deadline);
        }
        let ticket = Ticket(self.next);
        self.insert(ticket, Entry { bytes, deadline, waiter })?;
        self.next += 1;
        Ok(ticket)
    }

    /// Joins again at a former place: for a request that was released to a replica which then refused it. A deadline
    /// that has passed meanwhile ends the wait at the next [`Hold::release`].
    pub fn rejoin(&mut self, ticket: Ticket, waiter: T, bytes: u64, deadline: Moment) -> Result<(), Refusal> {
        self.insert(ticket, Entry { bytes, deadline, waiter })
    }

    /// Leaves the queue, because the client has gone. `None` when the wait had ended already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        self.remove(ticket)
    }

    /// Gives slots to the requests in front for as long as `assign` finds one, and ends the waits past their deadline.
    ///
    /// `assign` sees the request that is next and answers with a slot for it, or `None` when none is free. The outcomes
    /// are returned rather than delivered, so that the caller wakes the requests after it has given up its lock.
    pub fn release<S>(&mut self, now: Moment, mut assign: impl FnMut(&T) -> Option<S>) -> Vec<(T, Outcome<S>)> {
        let mut outcomes = self.expire(now);
        while let Some(front) = self.entries.first_entry() {
            let Some(slot) = assign(&front.get().waiter) else { break };
            let ticket = *front.key();
            outcomes.extend(self.remove(ticket).map(|waiter| (waiter, Outcome::Released(slot))));
        }
        outcomes
    }

    /// Ends the waits whose deadline is not after `now`, the earliest deadline first.
    fn expire<S>(&mut self, now: Moment) -> Vec<(T, Outcome<S>)> {
        let mut outcomes = Vec::new();
        while let Some(&(deadline, ticket)) = self.deadlines.first()
            && deadline <= now
        {
            outcomes.extend(self.remove(ticket).map(|waiter| (waiter, Outcome::Deadline)));
        }
        outcomes
    }

    /// Ends every wait and refuses all that would join later.
    pub fn shut_down<S>(&mut self) -> Vec<(T, Outcome<S>)> {
        self.state = State::ShutDown;
        self.bytes = 0;
        self.deadlines.clear();
        std::mem::take(&mut self.entries).into_values().map(|entry| (entry.waiter, Outcome::ShuttingDown)).collect()
    }

    fn insert(&mut self, ticket: Ticket, entry: Entry<T>) -> Result<(), Refusal> {
        if self.state == State::ShutDown {
            return Err(Refusal::ShuttingDown);
        }
        let bytes = self.bytes.checked_add(entry.bytes).filter(|bytes| *bytes <= self.limits.bytes);
        let (Some(bytes), true) = (bytes, self.entries.len() < self.limits.requests) else {
            return Err(Refusal::Full);
        };
        self.bytes = bytes;
        self.deadlines.insert((entry.deadline, ticket));
        self.entries.insert(ticket, entry);
        Ok(())
    }

    fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let entry = self.entries.remove(&ticket)?;
        self.deadlines.remove(&(entry.deadline, ticket));
        self.bytes -= entry.bytes;
        Some(entry.waiter)
    }
}

#[cfg(test)]
mod tests;
