//! The process's clock, as the policies see time.

use std::time::{Duration, Instant, SystemTime};

use gateway_policy::Moment;

/// Reads monotonic time as [`Moment`]s, and translates the wall-clock deadlines that the cluster's store keeps.
///
/// Wall time can jump; it is used only for what must be comparable between processes.
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

    /// When the wall clock will read what it reads at `moment`, both taken from `now` on.
    pub(crate) fn wall(self, moment: Moment) -> SystemTime {
        let now = self.now();
        let wall = SystemTime::now();
        if moment >= now { wall + moment.saturating_since(now) } else { wall - now.saturating_since(moment) }
    }

    /// The moment of a wall-clock time; one before this process started is its start.
    pub(crate) fn moment(self, wall: SystemTime) -> Moment {
        let now = self.now();
        match wall.duration_since(SystemTime::now()) {
            Ok(ahead) => now + ahead,
            Err(behind) => now - behind.duration(),
        }
    }
}

/// Seconds since 1970 at the time `wall`, for tokens.
pub(crate) fn unix_seconds(wall: SystemTime) -> u64 {
    wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_survives_the_way_through_the_store() {
        let clock = Clock::start();
        let deadline = clock.now() + Duration::from_secs(30);
        let back = clock.moment(clock.wall(deadline));
        let error = back.saturating_since(deadline).max(deadline.saturating_since(back));
        assert!(error < Duration::from_secs(5), "{error:?}");
        assert_eq!(clock.moment(SystemTime::UNIX_EPOCH), Moment::ZERO);
    }
}
