//! When requests are sent: drawn before the run, so that nothing the server does can move it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Most arrivals of one schedule: it is held in memory, 16 bytes each.
pub const MAX_ARRIVALS: usize = 10_000_000;

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spread {
    /// Independent of each other, as those of many callers are: exponential gaps
    Poisson,
    /// Equal gaps
    Constant,
}

/// Arrivals from 0 on, without end.
#[derive(Debug)]
pub struct Arrivals {
    spread: Spread,
    mean_gap: f64,
    next: f64,
    random: StdRng,
}

impl Arrivals {
    /// Arrivals at `per_second` in the long run. Equal seeds give equal arrivals. A rate that is not above 0 has none.
    #[must_use]
    pub fn new(spread: Spread, per_second: f64, seed: u64) -> Self {
        let mean_gap = if per_second > 0.0 { per_second.recip() } else { f64::INFINITY };
        let mut arrivals = Self { spread, mean_gap, next: 0.0, random: StdRng::seed_from_u64(seed) };
        if spread == Spread::Poisson {
            arrivals.next = arrivals.gap();
        } else if mean_gap.is_infinite() {
            arrivals.next = mean_gap;
        }
        arrivals
    }

    /// Those before `end`, at most [`MAX_ARRIVALS`].
    #[must_use]
    pub fn until(self, end: Duration) -> Vec<Duration> {
        self.take_while(|at| *at < end).take(MAX_ARRIVALS).collect()
    }

    fn gap(&mut self) -> f64 {
        match self.spread {
            Spread::Constant => self.mean_gap,
            // 1 - u lies in (0, 1], so that the logarithm is finite.
            Spread::Poisson => -(1.0 - self.random.random::<f64>()).ln() * self.mean_gap,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at = Duration::try_from_secs_f64(self.next).ok()?;
        self.next += self.gap();
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn constant_arrivals_are_equally_spaced_from_zero() {
        let arrivals = Arrivals::new(Spread::Constant, 4.0, 1).until(Duration::from_secs(1));
        let expected: Vec<_> = [0, 250, 500, 750].map(Duration::from_millis).into();
        assert_eq!(arrivals, expected);
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_variance_of_their_rate() {
        let arrivals = Arrivals::new(Spread::Poisson, 500.0, 7).until(MINUTE);
        let expected: f64 = 500.0 * 60.0;
        // Five standard deviations of a Poisson count.
        assert!((arrivals.len() as f64 - expected).abs() < 5.0 * expected.sqrt(), "{} arrivals", arrivals.len());
        let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // An exponential gap's standard deviation is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "deviation {} of mean {mean}", variance.sqrt());
    }

    #[test]
    fn a_seed_fixes_the_arrivals() {
        let draw = |seed| Arrivals::new(Spread::Poisson, 100.0, seed).until(MINUTE);
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn no_rate_means_no_arrivals() {
        for spread in [Spread::Poisson, Spread::Constant] {
            assert_eq!(Arrivals::new(spread, 0.0, 1).until(MINUTE), [Duration::ZERO; 0]);
            assert_eq!(Arrivals::new(spread, -1.0, 1).until(MINUTE), [Duration::ZERO; 0]);
        }
    }
}
