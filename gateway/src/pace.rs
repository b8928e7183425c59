//! How long a client is waited for in the middle of a body while a replica waits for the rest.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::settings::Limits;

/// The patience with one client. Only the time spent waiting for it counts: a replica that takes a body slowly is not its
/// client's fault.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    silence: Duration,
    /// For how long the client may still be waited for before it has been slower on average than it may be.
    credit: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            bytes_per_second: limits.body_bytes_per_second.max(1),
            silence: limits.body_idle_timeout,
            credit: limits.body_grace,
            waiting_since: None,
        }
    }

    /// Nothing is there at `now`: until when the client is waited for.
    pub(crate) fn wait(&mut self, now: Instant) -> Instant {
        *self.waiting_since.get_or_insert(now) + self.credit.min(self.silence)
    }

    /// Something is there, of so many bytes. `now` is asked for only if there was a wait.
    pub(crate) fn arrived(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.credit = self.credit.saturating_sub(now().saturating_duration_since(since));
        }
        self.credit += Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_second);
    }

    /// What a client did that was waited for in vain.
    pub(crate) fn failure(&self) -> Error {
        if self.credit < self.silence {
            Error::BodyTooSlow(self.bytes_per_second)
        } else {
            Error::BodyStalled(self.silence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        let limits = Limits {
            body_bytes_per_second: 1000,
            body_grace: 5 * SECOND,
            body_idle_timeout: 30 * SECOND,
            ..Limits::default()
        };
        Pace::new(&limits)
    }

    #[test]
    fn a_trickle_ends_when_the_grace_is_used_up_and_bytes_buy_time() {
        let (mut pace, start) = (pace(), Instant::now());
        let mut now = start;
        // A tenth of what it must send: each second costs nine tenths.
        while pace.wait(now) > now + SECOND {
            now += SECOND;
            pace.arrived(100, || now);
        }
        assert_eq!(pace.failure(), Error::BodyTooSlow(1000));
        assert_eq!(now - start, 5 * SECOND);
    }

    #[test]
    fn a_fast_client_may_be_silent_for_as_long_as_any() {
        let (mut pace, start) = (pace(), Instant::now());
        pace.arrived(10_000_000, || unreachable!("nobody waited"));
        assert_eq!(pace.wait(start), start + 30 * SECOND);
        assert_eq!(pace.wait(start + SECOND), start + 30 * SECOND, "the wait goes on");
        assert_eq!(pace.failure(), Error::BodyStalled(30 * SECOND));
    }

    #[test]
    fn time_that_nobody_waited_costs_nothing() {
        let (mut pace, start) = (pace(), Instant::now());
        for _ in 0..100 {
            pace.arrived(1, || unreachable!("nobody waited"));
        }
        assert!(pace.wait(start + 1000 * SECOND) >= start + 1005 * SECOND);
    }
}
