//! Ejection of replicas that keep failing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Moment;

/// When a replica is ejected and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// Failures without a success between them that eject. Envoy's default is five.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts; each further one without a success between them lasts twice as long.
    pub base: Duration,
    /// What an ejection lasts at most.
    pub max: Duration,
}

impl Default for EjectionPolicy {
    /// Five failures; one second, doubling up to a minute, as linkerd's failure accrual backs off. Envoy's 30 s would
    /// take a replica that was stopped for a moment out of a small fleet for most of a burst.
    fn default() -> Self {
        Self { consecutive_failures: 5, base: Duration::from_secs(1), max: Duration::from_mins(1) }
    }
}

/// What became of a replica that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it was.
    Kept,
    /// This failure ejected it until this moment.
    Ejected(Moment),
}

/// Whether one replica has been failing.
///
/// An ejected replica is readmitted when its time is over or a request that was still running on it succeeds. After
/// its time the next failure ejects it again at once, for twice as long. That a class is never without a replica for
/// this reason is the pick's rule: it ignores ejections in a class where all are ejected ([`crate::pick`]). A run of the
/// model that failed is no failure here: its inputs may be to blame ([`crate::FailedRuns`]).
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    ejections: AtomicU32,
    /// Microseconds of the [`Moment`] at which the last ejection ends.
    ejected_until: AtomicU64,
}

impl Health {
    /// Of a replica that has answered nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { failures: AtomicU32::new(0), ejections: AtomicU32::new(0), ejected_until: AtomicU64::new(0) }
    }

    /// Whether it is ejected at `now`.
    #[must_use]
    pub fn is_ejected(&self, now: Moment) -> bool {
        now.as_micros() < self.ejected_until.load(Relaxed)
    }

    /// The replica answered.
    pub fn record_success(&self) {
        // Reading first keeps the cache line shared between the threads while all is well.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
        }
    }

    /// The replica broke the connection, did not answer in time or answered that it is broken.
    pub fn record_failure(&self, policy: &EjectionPolicy, now: Moment) -> Verdict {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let until = self.ejected_until.load(Relaxed);
        // A request sent before the ejection may fail after it: that says nothing new.
        if failures < policy.consecutive_failures || now.as_micros() < until {
            return Verdict::Kept;
        }
        let doublings = self.ejections.load(Relaxed).min(31);
        let end = now + policy.base.saturating_mul(1 << doublings).min(policy.max);
        match self.ejected_until.compare_exchange(until, end.as_micros(), Relaxed, Relaxed) {
            Ok(_) => {
                self.ejections.store(doublings + 1, Relaxed);
                Verdict::Ejected(end)
            }
            Err(_) => Verdict::Kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: EjectionPolicy =
        EjectionPolicy { consecutive_failures: 5, base: Duration::from_secs(1), max: Duration::from_secs(4) };

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn fail_times(health: &Health, times: u32, now: Moment) -> Vec<Verdict> {
        (0..times).map(|_| health.record_failure(&POLICY, now)).collect()
    }

    #[test]
    fn the_fifth_failure_in_a_row_ejects() {
        let health = Health::new();
        assert_eq!(fail_times(&health, 4, at(1)), [Verdict::Kept; 4]);
        assert!(!health.is_ejected(at(1)));
        assert_eq!(health.record_failure(&POLICY, at(1)), Verdict::Ejected(at(2)));
        assert!(health.is_ejected(at(1)));
        assert!(!health.is_ejected(at(2)));
    }

    #[test]
    fn a_success_starts_the_count_again() {
        let health = Health::new();
        fail_times(&health, 4, at(1));
        health.record_success();
        assert_eq!(fail_times(&health, 4, at(1)), [Verdict::Kept; 4]);
    }

    #[test]
    fn failures_of_requests_sent_before_do_not_prolong_an_ejection() {
        let health = Health::new();
        assert_eq!(
            fail_times(&health, 9, at(1))[4..],
            [Verdict::Ejected(at(2)), Verdict::Kept, Verdict::Kept, Verdict::Kept, Verdict::Kept]
        );
        assert!(!health.is_ejected(at(2)));
    }

    #[test]
    fn a_readmitted_replica_that_fails_again_goes_for_twice_as_long() {
        let health = Health::new();
        fail_times(&health, 5, at(1));
        assert_eq!(health.record_failure(&POLICY, at(2)), Verdict::Ejected(at(4)));
        assert_eq!(health.record_failure(&POLICY, at(4)), Verdict::Ejected(at(8)));
        assert_eq!(health.record_failure(&POLICY, at(8)), Verdict::Ejected(at(12)), "at most max");
    }

    #[test]
    fn a_late_success_readmits() {
        let health = Health::new();
        fail_times(&health, 5, at(1));
        health.record_success();
        assert!(!health.is_ejected(at(1)));
        assert_eq!(fail_times(&health, 5, at(2))[4], Verdict::Ejected(at(3)), "the backoff restarts");
    }
}
