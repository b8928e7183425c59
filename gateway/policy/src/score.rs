//! How long a request would take on a replica.

use std::time::Duration;

use crate::Moment;

/// How busy a replica is for a request that would join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests on the replica already.
    pub ahead: u32,
    /// Requests that it works on at a time; 0 means that it sets no limit.
    pub concurrency: u32,
}

impl Load {
    /// Nothing ahead.
    pub const IDLE: Self = Self { ahead: 0, concurrency: 0 };

    /// How many times longer than on an idle replica a request takes: `1 + ahead / concurrency`.
    ///
    /// A replica of concurrency *c* and service time *s* finishes a request every *s / c* (Little's law), so the `ahead`
    /// requests take `ahead × s / c` and the new one *s*. For a concurrency of one that is exactly
    /// `(ahead + 1) × s`. Service times are recorded divided by this same factor
    /// ([`crate::ServiceTimes::record_success`]), so that a prediction for the load under which was measured is exact
    /// whether the replica really works in parallel or takes one request after the other.
    #[must_use]
    pub fn stretch(self) -> f64 {
        match self.concurrency {
            0 => 1.0,
            concurrency => 1.0 + f64::from(self.ahead) / f64::from(concurrency),
        }
    }
}

/// The time until a request completes that joins a replica under this load: `service_time × load.stretch() +
/// activation`.
///
/// `service_time` is that of an idle replica; `activation` is the time until the replica can take requests, zero for
/// one that is active.
#[must_use]
pub fn predict(service_time: Duration, load: Load, activation: Duration) -> Duration {
    scale(service_time, load.stretch()).saturating_add(activation)
}

/// What scoring aims at for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// The model's latency objective, or the time left to the deadline where that is less or there is no objective.
    pub target: Duration,
    /// What a trial may be predicted to take: the time left to the deadline, or nothing for a request that may be none.
    pub trial: Duration,
}

impl Aim {
    /// Of a request that has to be answered by `deadline`.
    #[must_use]
    pub fn new(objective: Option<Duration>, deadline: Moment, now: Moment) -> Self {
        let remaining = deadline.saturating_since(now);
        Self { target: objective.map_or(remaining, |objective| objective.min(remaining)), trial: remaining }
    }

    /// The same for a request that is never a trial, because its answer would not tell a service time.
    #[must_use]
    pub const fn without_trial(self) -> Self {
        Self { trial: Duration::ZERO, ..self }
    }
}

/// `duration × factor` in whole microseconds, saturating where `Duration::mul_f64` would panic.
pub(crate) fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::from_micros((duration.as_secs_f64() * 1e6 * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_queue_on_one_slot_takes_its_length_times_the_service_time() {
        let load = Load { ahead: 3, concurrency: 1 };
        assert_eq!(predict(10 * MS, load, Duration::ZERO), 40 * MS);
    }

    #[test]
    fn a_queue_on_many_slots_drains_at_their_rate() {
        let load = Load { ahead: 2, concurrency: 4 };
        assert_eq!(predict(10 * MS, load, Duration::ZERO), 15 * MS);
        let unlimited = Load { ahead: 1000, concurrency: 0 };
        assert_eq!(predict(10 * MS, unlimited, Duration::ZERO), 10 * MS);
    }

    #[test]
    fn activation_comes_on_top() {
        assert_eq!(predict(10 * MS, Load::IDLE, 300 * MS), 310 * MS);
    }

    #[test]
    fn extremes_saturate() {
        let load = Load { ahead: u32::MAX, concurrency: 1 };
        let predicted = predict(Duration::MAX, load, Duration::MAX);
        assert_eq!(predicted, Duration::MAX);
    }

    #[test]
    fn the_target_is_the_objective_until_the_deadline_is_nearer() {
        let now = Moment::from_micros(1_000_000);
        let aim = |objective, deadline| {
            let Aim { target, trial } = Aim::new(objective, deadline, now);
            (target, trial)
        };
        assert_eq!(aim(Some(50 * MS), now + 60 * MS), (50 * MS, 60 * MS));
        assert_eq!(aim(Some(50 * MS), now + 20 * MS), (20 * MS, 20 * MS));
        assert_eq!(aim(None, now + 20 * MS), (20 * MS, 20 * MS));
        assert_eq!(aim(Some(50 * MS), now - MS), (Duration::ZERO, Duration::ZERO));
    }
}
