//! The trace: bursts that come at random, each for one model, popular ones more often.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::arrivals::{Arrivals, Spread};
use crate::open_loop::Shot;

/// Bursts of all models, before squeezing.
const BURSTS_PER_SECOND: f64 = 1.0 / 3.0;

/// Mean number of requests in a burst; sizes are geometric.
const REQUESTS_PER_BURST: f64 = 10.0;

/// Mean gap between the requests of a burst, before squeezing; gaps are exponential.
const GAP: Duration = Duration::from_millis(200);

/// Idle time after which a model goes back to zero, before squeezing: the product's default.
pub(super) const SCALE_TO_ZERO_AFTER: Duration = Duration::from_secs(30);

/// Exponent of the popularity: the second model is asked half as often as the first, the tenth a tenth.
const EXPONENT: f64 = 1.0;

/// A trace to draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) models: usize,
    /// Squeezed length.
    pub(super) length: Duration,
    pub(super) squeeze: f64,
}

impl Shape {
    /// The requests by time. Equal seeds give equal traces.
    pub(super) fn draw(&self, seed: u64) -> Vec<Shot> {
        let mut random = StdRng::seed_from_u64(seed);
        let popularity = Popularity::zipf(self.models);
        let mut plan = Vec::new();
        for begin in Arrivals::new(Spread::Poisson, BURSTS_PER_SECOND * self.squeeze, seed).until(self.length) {
            let target = popularity.pick(random.random());
            let mut at = begin;
            loop {
                plan.push(Shot { at, target });
                if random.random::<f64>() < REQUESTS_PER_BURST.recip() {
                    break;
                }
                at += GAP.mul_f64(-(1.0 - random.random::<f64>()).ln() / self.squeeze);
            }
        }
        plan.retain(|shot| shot.at < self.length);
        plan.sort_by_key(|shot| shot.at);
        plan
    }
}

/// Shares of the models, summed up.
#[derive(Debug)]
struct Popularity(Vec<f64>);

impl Popularity {
    fn zipf(models: usize) -> Self {
        let mut sum = 0.0;
        let mut upto: Vec<f64> = (1..=models)
            .map(|rank| {
                sum += (rank as f64).powf(-EXPONENT);
                sum
            })
            .collect();
        for share in &mut upto {
            *share /= sum;
        }
        Self(upto)
    }

    /// The model for a number drawn evenly from [0, 1).
    fn pick(&self, drawn: f64) -> usize {
        self.0.partition_point(|upto| *upto <= drawn).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { models: 20, length: Duration::from_secs(60), squeeze: 10.0 };

    #[test]
    fn a_trace_is_sorted_within_its_length_and_fixed_by_its_seed() {
        let plan = SHAPE.draw(1);
        assert!(plan.is_sorted_by_key(|shot| shot.at));
        assert!(plan.iter().all(|shot| shot.at < SHAPE.length && shot.target < SHAPE.models));
        assert_eq!(plan, SHAPE.draw(1));
        assert_ne!(plan, SHAPE.draw(2));
    }

    #[test]
    fn popularity_falls_with_the_rank() {
        let plan = Shape { length: Duration::from_secs(3600), ..SHAPE }.draw(3);
        let share = |target| plan.iter().filter(|shot| shot.target == target).count() as f64 / plan.len() as f64;
        // 1 over the sum of 1/1 to 1/20.
        assert!((share(0) - 0.278).abs() < 0.03, "{}", share(0));
        assert!((share(9) - 0.0278).abs() < 0.01, "{}", share(9));
        let expected = 3600.0 * 10.0 * BURSTS_PER_SECOND * REQUESTS_PER_BURST;
        assert!((plan.len() as f64 / expected - 1.0).abs() < 0.1, "{} requests", plan.len());
    }

    #[test]
    fn every_drawn_number_picks_a_model() {
        let popularity = Popularity::zipf(3);
        assert_eq!([0.0, 0.5, 0.6, 0.99, 0.999_999].map(|drawn| popularity.pick(drawn)), [0, 0, 1, 2, 2]);
    }
}
