//! What may be sent again, and how often.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Moment;

/// Seconds that the budget looks back.
const WINDOW_SECONDS: u64 = 10;

/// Retries allowed for every hundred requests. linkerd's default, and Envoy's.
const PERCENT: u64 = 20;

/// Retries a second that are allowed however few requests there are. linkerd's default.
const MINIMUM_PER_SECOND: u64 = 10;

/// Sends of one request, the first included. A replica that refuses by sentinel costs a round trip, and with more than
/// this many in a row the view of the replicas is stale: holding is better.
pub const MAX_ATTEMPTS: u32 = 4;

/// How an attempt to get a request answered ended without an answer to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No byte of the request reached the replica: no connection, or one that was closed before.
    Unsent,
    /// The replica said that its slots are taken (503 with the reason `replica-busy`), or refused the stream over HTTP/2, and
    /// did not run the request.
    Busy,
    /// The replica does not hold the revision (421 with the reason `misdirected`) and did not run the request.
    Misdirected,
    /// The connection broke, or time ran out, after the request was sent: it may have run.
    Lost,
}

/// Whether the request's body can be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It is kept whole, or none of it has been read.
    Whole,
    /// It was streamed and is gone, wholly or in part.
    Consumed,
}

/// Whether a failed attempt may be followed by another, the budget aside: only what has certainly not run is sent
/// again, since an inference is not known to be idempotent.
#[must_use]
pub const fn may_retry(failure: Failure, body: Body, attempts: u32) -> bool {
    let not_run = matches!(failure, Failure::Unsent | Failure::Busy | Failure::Misdirected);
    not_run && matches!(body, Body::Whole) && attempts < MAX_ATTEMPTS
}

/// Keeps retries from multiplying the load of replicas in trouble: over the last ten seconds, 20 % of the requests
/// plus ten a second.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: Window,
    retries: Window,
}

impl RetryBudget {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request arrived (not a retry of one).
    pub fn record_request(&self, now: Moment) {
        self.requests.add(now);
    }

    /// Asks for one retry; it is counted when granted. Threads that ask at the same time are never granted more than
    /// the budget together, and may be granted less.
    #[must_use]
    pub fn try_retry(&self, now: Moment) -> Retry {
        self.retries.add(now);
        let allowed = self.requests.total(now) * PERCENT / 100 + MINIMUM_PER_SECOND * WINDOW_SECONDS;
        if self.retries.total(now) <= allowed {
            Retry::Granted
        } else {
            self.retries.remove(now);
            Retry::Exhausted
        }
    }
}

/// The budget's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Send again.
    Granted,
    /// Too many retries in the last ten seconds.
    Exhausted,
}

/// Events of the last ten seconds, counted by the second. Each word holds the second (32 bits) and its count (32 bits).
#[derive(Debug, Default)]
struct Window([AtomicU64; WINDOW_SECONDS as usize]);

impl Window {
    fn add(&self, now: Moment) {
        self.update(now, |count| count.saturating_add(1));
    }

    fn remove(&self, now: Moment) {
        self.update(now, |count| count.saturating_sub(1));
    }

    fn update(&self, now: Moment, change: impl Fn(u32) -> u32) {
        let second = second(now);
        let bucket = &self.0[second as usize % self.0.len()];
        // The closure always gives a word, so that the update cannot fail.
        let _ = bucket.fetch_update(Relaxed, Relaxed, |bits| {
            let (stamp, count) = unpack(bits);
            let count = if stamp == second { count } else { 0 };
            Some(u64::from(second) << 32 | u64::from(change(count)))
        });
    }

    fn total(&self, now: Moment) -> u64 {
        let second = second(now);
        self.0
            .iter()
            .map(|bucket| unpack(bucket.load(Relaxed)))
            .filter(|(stamp, _)| u64::from(second.wrapping_sub(*stamp)) < WINDOW_SECONDS)
            .map(|(_, count)| u64::from(count))
            .sum()
    }
}

fn second(now: Moment) -> u32 {
    (now.as_micros() / 1_000_000) as u32
}

const fn unpack(bits: u64) -> (u32, u32) {
    ((bits >> 32) as u32, bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn grants(budget: &RetryBudget, now: Moment) -> usize {
        (0..10_000).take_while(|_| budget.try_retry(now) == Retry::Granted).count()
    }

    #[test]
    fn a_tenth_of_a_hundred_when_idle() {
        let budget = RetryBudget::new();
        assert_eq!(grants(&budget, Moment::from_micros(50)), 100);
    }

    #[test]
    fn a_fifth_of_the_requests_comes_on_top() {
        let budget = RetryBudget::new();
        let now = Moment::from_epoch(Duration::from_secs(100));
        (0..1000).for_each(|_| budget.record_request(now));
        assert_eq!(grants(&budget, now), 300);
        assert_eq!(budget.try_retry(now), Retry::Exhausted);
    }

    #[test]
    fn the_window_slides() {
        let budget = RetryBudget::new();
        let now = Moment::from_epoch(Duration::from_secs(100));
        (0..1000).for_each(|_| budget.record_request(now));
        assert_eq!(grants(&budget, now), 300);
        assert_eq!(grants(&budget, now + Duration::from_secs(9)), 0);
        assert_eq!(grants(&budget, now + Duration::from_secs(10)), 100, "requests and retries have left");
    }

    #[test]
    fn only_what_has_not_run_is_sent_again() {
        for (failure, retried) in
            [(Failure::Unsent, true), (Failure::Busy, true), (Failure::Misdirected, true), (Failure::Lost, false)]
        {
            assert_eq!(may_retry(failure, Body::Whole, 1), retried, "{failure:?}");
            assert!(!may_retry(failure, Body::Consumed, 1), "{failure:?}");
            assert!(!may_retry(failure, Body::Whole, MAX_ATTEMPTS), "{failure:?}");
        }
    }

    #[test]
    fn threads_together_stay_within_the_budget() {
        let budget = RetryBudget::new();
        let now = Moment::from_micros(1);
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..200).filter(|_| budget.try_retry(now) == Retry::Granted).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(granted <= 100, "{granted}");
        assert!(granted > 50, "{granted}");
    }
}
