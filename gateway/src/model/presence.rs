//! How many requests a model has had and has, for the autoscaler.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_policy::Moment;

/// Requests of a model in the gateway, as an integral over time.
///
/// The integral of the number present up to *t* is `present × t − Σ arrivals + Σ departures`, so that two additions a
/// request replace a lock; all arithmetic wraps, and the difference of two readings is right as long as it fits.
#[derive(Default)]
pub(super) struct Presence {
    arrivals: AtomicU64,
    present: AtomicU64,
    arrival_sum: AtomicU64,
    departure_sum: AtomicU64,
}

/// A reading of [`Presence`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PresenceReading {
    pub(crate) arrivals: u64,
    /// Request-microseconds since the start, wrapping.
    pub(crate) integral: u64,
}

impl Presence {
    pub(super) fn arrive(&self, now: Moment) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.arrival_sum.fetch_add(now.as_micros(), Ordering::Relaxed);
        self.present.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn depart(&self, now: Moment) {
        self.departure_sum.fetch_add(now.as_micros(), Ordering::Relaxed);
        self.present.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, now: Moment) -> PresenceReading {
        let integral = self
            .present
            .load(Ordering::Relaxed)
            .wrapping_mul(now.as_micros())
            .wrapping_sub(self.arrival_sum.load(Ordering::Relaxed))
            .wrapping_add(self.departure_sum.load(Ordering::Relaxed));
        PresenceReading { arrivals: self.arrivals.load(Ordering::Relaxed), integral }
    }
}

impl PresenceReading {
    /// Mean requests present since `before`, `elapsed_us` microseconds ago.
    pub(crate) fn mean_since(self, before: Self, elapsed_us: u64) -> f64 {
        if elapsed_us == 0 {
            return 0.0;
        }
        // A thread between its two additions can make it negative by a hair.
        let integral = self.integral.wrapping_sub(before.integral).cast_signed().max(0);
        integral as f64 / elapsed_us as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_counts_each_request_for_its_time() {
        let presence = Presence::default();
        let at = Moment::from_micros;
        presence.arrive(at(100));
        let before = presence.read(at(200));
        presence.arrive(at(200));
        presence.depart(at(450));
        let after = presence.read(at(700));
        // One request for the whole 500 us, another for 250 of them.
        assert!((after.mean_since(before, 500) - 1.5).abs() < 1e-9);
        assert_eq!(after.arrivals, 2);
        presence.depart(at(700));
        let idle = presence.read(at(900));
        assert!(idle.mean_since(presence.read(at(800)), 100).abs() < 1e-9);
    }
}
