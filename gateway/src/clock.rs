//! The one place of this crate that reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_policy::Moment;

/// A monotonic clock whose epoch is the gateway's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    pub(crate) fn now(self) -> Moment {
        Moment::from_epoch(self.epoch.elapsed())
    }

    /// The runtime's instant of `moment`, for timers.
    pub(crate) fn instant(self, moment: Moment) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.epoch + Duration::from_micros(moment.as_micros()))
    }

    /// Microseconds of the wall clock: what tells one start of a process from the next.
    pub(crate) fn wall_micros() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
    }
}
