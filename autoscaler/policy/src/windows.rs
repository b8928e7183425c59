//! Demand averaged over time, in buckets of a second like Knative's.

use std::collections::VecDeque;
use std::time::Duration;

use gateway_policy::Moment;

/// Averages of a value over the last seconds.
///
/// A second without a sample has the value of the one before it: a process that was stopped for a while knows nothing of
/// that time, and nothing is not zero. A fresh window is averaged over its age, so that the first request counts in full.
#[derive(Clone, Debug)]
pub struct Window {
    buckets: VecDeque<Bucket>,
    /// Buckets that are kept: the longest time that can be asked for.
    length: usize,
    /// The second that the last bucket is of.
    last_second: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    sum: f64,
    samples: u32,
}

impl Bucket {
    fn mean(self) -> f64 {
        self.sum / f64::from(self.samples)
    }
}

impl Window {
    /// A window that can be averaged over up to `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        let length = usize::try_from(longest.as_secs()).unwrap_or(usize::MAX).max(1);
        Self { buckets: VecDeque::new(), length, last_second: 0 }
    }

    /// Takes a sample.
    pub fn record(&mut self, value: f64, now: Moment) {
        let second = now.as_micros() / 1_000_000;
        let fresh = Bucket { sum: value, samples: 1 };
        match self.buckets.back_mut() {
            // A clock that went back would be a fault of the caller; its sample still counts.
            Some(bucket) if second <= self.last_second => {
                bucket.sum += value;
                bucket.samples += 1;
            }
            Some(bucket) => {
                let carried = Bucket { sum: bucket.mean(), samples: 1 };
                let missing = usize::try_from(second - self.last_second - 1).unwrap_or(usize::MAX).min(self.length);
                self.buckets.extend(std::iter::repeat_n(carried, missing));
                self.buckets.push_back(fresh);
                self.last_second = second;
            }
            None => {
                self.buckets.push_back(fresh);
                self.last_second = second;
            }
        }
        let surplus = self.buckets.len().saturating_sub(self.length);
        self.buckets.drain(..surplus);
    }

    /// The average over the last `over`, or over the age of the window where it is younger; 0 without a sample.
    #[must_use]
    pub fn average(&self, over: Duration) -> f64 {
        let seconds = usize::try_from(over.as_secs()).unwrap_or(usize::MAX).clamp(1, self.length);
        let considered = self.buckets.len().min(seconds);
        let sum: f64 = self.buckets.iter().rev().take(considered).map(|bucket| bucket.mean()).sum();
        if considered == 0 { 0.0 } else { sum / considered as f64 }
    }

    /// Forgets everything: what comes next is not averaged with it.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }
}

/// The greatest value of the last while: how Knative's `scale-down-delay` holds a number up.
#[derive(Clone, Debug, Default)]
pub struct Ceiling {
    /// Values that none after them exceeds, oldest first.
    candidates: VecDeque<(Moment, u32)>,
}

impl Ceiling {
    /// Takes a value and returns the greatest of the last `over`. Without a time it is the value itself.
    pub fn hold(&mut self, value: u32, over: Duration, now: Moment) -> u32 {
        if over.is_zero() {
            self.candidates.clear();
            return value;
        }
        while self.candidates.back().is_some_and(|(_, earlier)| *earlier <= value) {
            self.candidates.pop_back();
        }
        self.candidates.push_back((now, value));
        while self.candidates.front().is_some_and(|(at, _)| now.saturating_since(*at) >= over) {
            self.candidates.pop_front();
        }
        self.candidates.front().map_or(value, |(_, greatest)| *greatest)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.candidates.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    #[test]
    fn a_young_window_is_averaged_over_its_age() {
        let mut window = Window::new(Duration::from_secs(60));
        assert_eq!(window.average(Duration::from_secs(60)), 0.0);
        window.record(10.0, second(5));
        assert_eq!(window.average(Duration::from_secs(60)), 10.0);
        window.record(20.0, second(6));
        assert_eq!(window.average(Duration::from_secs(60)), 15.0);
        assert_eq!(window.average(Duration::from_secs(1)), 20.0);
    }

    #[test]
    fn samples_of_one_second_are_averaged() {
        let mut window = Window::new(Duration::from_secs(60));
        window.record(10.0, second(5));
        window.record(20.0, second(5) + Duration::from_millis(900));
        window.record(0.0, second(6));
        assert_eq!(window.average(Duration::from_secs(60)), 7.5);
    }

    #[test]
    fn time_without_a_sample_is_not_time_without_demand() {
        let mut window = Window::new(Duration::from_secs(6));
        window.record(6.0, second(0));
        window.record(6.0, second(100));
        assert_eq!(window.average(Duration::from_secs(6)), 6.0);
        window.record(0.0, second(103));
        assert_eq!(window.average(Duration::from_secs(6)), 5.0);
    }

    #[test]
    fn old_samples_leave() {
        let mut window = Window::new(Duration::from_secs(3));
        for at in 0..10 {
            window.record(at as f64, second(at));
        }
        assert_eq!(window.average(Duration::from_secs(3)), 8.0);
        assert_eq!(window.average(Duration::from_secs(99)), 8.0);
    }

    #[test]
    fn a_ceiling_holds_for_its_time() {
        let mut ceiling = Ceiling::default();
        let over = Duration::from_secs(10);
        assert_eq!(ceiling.hold(5, over, second(0)), 5);
        assert_eq!(ceiling.hold(2, over, second(4)), 5);
        assert_eq!(ceiling.hold(3, over, second(9)), 5);
        assert_eq!(ceiling.hold(1, over, second(10)), 3);
        assert_eq!(ceiling.hold(1, over, second(19)), 1);
        assert_eq!(ceiling.hold(0, Duration::ZERO, second(19)), 0);
    }
}
