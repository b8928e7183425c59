//! The one place where a process reads the time that its policies see.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_policy::Moment;

/// Reads monotonic time as [`Moment`]s since its start, and translates to and from what timers and other processes take.
///
/// Wall time can jump; it is used only for what must be comparable between processes.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that starts now. Moments of one clock mean nothing to another.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// The moment that it is now.
    #[must_use]
    #[inline]
    pub fn now(self) -> Moment {
        Moment::from_epoch(self.epoch.elapsed())
    }

    /// The runtime's instant of `moment`, for timers.
    #[must_use]
    #[inline]
    pub fn instant(self, moment: Moment) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.epoch + Duration::from_micros(moment.as_micros()))
    }

    /// When the wall clock will read what it reads at `moment`, both taken from `now` on.
    #[must_use]
    pub fn wall(self, moment: Moment) -> SystemTime {
        let now = self.now();
        let wall = SystemTime::now();
        if moment >= now { wall + moment.saturating_since(now) } else { wall - now.saturating_since(moment) }
    }

    /// The moment of a wall-clock time; one before this clock's start is its start.
    #[must_use]
    pub fn moment(self, wall: SystemTime) -> Moment {
        let now = self.now();
        match wall.duration_since(SystemTime::now()) {
            Ok(ahead) => now + ahead,
            Err(behind) => now - behind.duration(),
        }
    }
}

/// The time from 1970 to `wall`; none for what is before.
#[must_use]
pub fn since_1970(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_survives_the_way_over_the_wall_clock() {
        let clock = Clock::start();
        let deadline = clock.now() + Duration::from_secs(30);
        let back = clock.moment(clock.wall(deadline));
        let error = back.saturating_since(deadline).max(deadline.saturating_since(back));
        assert!(error < Duration::from_secs(5), "{error:?}");
        assert_eq!(clock.moment(SystemTime::UNIX_EPOCH), Moment::ZERO);
    }

    #[test]
    fn moments_are_those_of_timers() {
        let clock = Clock::start();
        let before = tokio::time::Instant::now();
        let now = clock.now();
        assert!(clock.instant(now + Duration::from_secs(1)) >= before + Duration::from_millis(999));
        assert_eq!(clock.instant(now + Duration::from_secs(1)) - clock.instant(now), Duration::from_secs(1));
        assert!(clock.now() >= now);
    }

    #[test]
    fn before_1970_is_no_time() {
        assert_eq!(since_1970(UNIX_EPOCH + Duration::from_secs(3)), Duration::from_secs(3));
        assert_eq!(since_1970(UNIX_EPOCH - Duration::from_secs(3)), Duration::ZERO);
    }
}
