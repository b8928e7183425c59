//! Bounds and choices of the claim protocol.

use std::time::Duration;

/// In which order a claim is written and its model sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Both at once: the write costs more than the call, and the wrapper's own claim lock is a second compare-and-swap.
    Optimistic,
    /// The model is sent once the claim is written.
    Sequential,
}

/// Settings of [`super::State`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Order of P1 and specialize.
    pub order: Order,
    /// A claimed replica must serve within this time. Bounds what a dead claimer can keep from the pool.
    pub claim_deadline: Duration,
    /// Gateways must acknowledge a removal within this time; afterwards the drain begins without them, and the wrapper
    /// refuses what they still send.
    pub removal_ack: Duration,
    /// Pause before an unanswered write, read or state call is tried again.
    pub retry: Duration,
    /// Time that an unanswered cold start has to show up before another is tried.
    pub create_unknown: Duration,
    /// Cold starts in flight at most, over all revisions: starting replicas slows every claim on the same machine.
    pub max_cold_starts: usize,
    /// Activations in flight at most for a revision that has never been loaded: a model that cannot be loaded must not
    /// take the whole pool with it.
    pub max_unproven: usize,
    /// A replica that ends before it has served for this long counts against its model, unless another has served it for as
    /// long: a model that crashes its wrapper must not take replica after replica from the pool.
    pub settled_after: Duration,
    /// Replicas of a revision that may end so in a row and are replaced at once: what kills at random is not the model.
    pub crashes_tolerated: u32,
    /// Pause after the first failed load; doubles with each further one. Also of crashes above those tolerated.
    pub backoff_first: Duration,
    /// Longest pause between attempts to bring up a model that fails.
    pub backoff_longest: Duration,
    /// Longest pause between cold starts for one revision while they fail: room may come back at any time.
    pub start_pause_longest: Duration,
    /// State calls that a serving replica may leave unanswered in a row before it counts as dead.
    pub max_unanswered: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            order: Order::Optimistic,
            claim_deadline: Duration::from_secs(60),
            removal_ack: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            create_unknown: Duration::from_secs(5),
            max_cold_starts: 8,
            max_unproven: 4,
            settled_after: Duration::from_secs(2),
            crashes_tolerated: 3,
            backoff_first: Duration::from_secs(1),
            backoff_longest: Duration::from_secs(300),
            start_pause_longest: Duration::from_secs(10),
            max_unanswered: 3,
        }
    }
}

impl Settings {
    /// Pause after the `failures`th failed attempt in a row.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.backoff_first.saturating_mul(1 << doublings).min(self.backoff_longest)
    }
}
