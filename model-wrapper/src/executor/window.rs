//! When to wait for more requests before a batch runs.
//!
//! Requests that come while the model runs are batched anyway. Waiting beyond that pays only where others come without being
//! answered first: with few callers who each wait for their answer it costs the window and brings nothing. So a wait needs two
//! reasons: requests come often enough that another is due within the window, and recent waits brought some.

use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How a model's requests are batched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most rows of a run, above 1.
    pub max_rows: usize,
    /// Longest that the oldest request waits for others.
    pub window: Duration,
}

/// A wait is worth while as long as at least every second brought a request.
const WORTH: f64 = 0.5;

/// Weight of the newest observation in the means below.
const WEIGHT: f64 = 1.0 / 8.0;

/// After that many batches without a wait one is tried, for callers change.
const PROBE_EVERY: u32 = 64;

/// What was learned about arrivals and waits.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    batching: Batching,
    last_arrival: Option<Instant>,
    /// Mean time between arrivals, in seconds.
    interval: Option<f64>,
    /// Share of recent waits that brought a request.
    gain: f64,
    skipped: u32,
}

impl Window {
    pub(crate) fn new(batching: Batching) -> Self {
        Self { batching, last_arrival: None, interval: None, gain: 1.0, skipped: 0 }
    }

    pub(crate) fn max_rows(&self) -> usize {
        self.batching.max_rows
    }

    /// A request came.
    pub(crate) fn arrived(&mut self, now: Instant) {
        if let Some(last) = self.last_arrival.replace(now) {
            // A pause says nothing about the burst after it.
            let gap = now.duration_since(last).min(2 * self.batching.window).as_secs_f64();
            let mean = self.interval.unwrap_or(gap);
            self.interval = Some(mean + (gap - mean) * WEIGHT);
        }
    }

    /// Until when a batch of `rows` whose oldest request came at `oldest` should wait; None: run it now.
    pub(crate) fn wait_until(&self, oldest: Instant, rows: usize, now: Instant) -> Option<Instant> {
        let end = oldest + self.batching.window;
        let due = self.interval.is_some_and(|interval| interval <= self.batching.window.as_secs_f64());
        let worth = self.gain >= WORTH || self.skipped >= PROBE_EVERY;
        (rows < self.batching.max_rows && now < end && due && worth).then_some(end)
    }

    /// A batch was formed after a wait that brought `gained` requests, or without one.
    pub(crate) fn formed(&mut self, waited: Option<usize>) {
        match waited {
            Some(gained) => {
                let outcome = if gained > 0 { 1.0 } else { 0.0 };
                self.gain += (outcome - self.gain) * WEIGHT;
                self.skipped = 0;
            }
            None => self.skipped = self.skipped.saturating_add(1),
        }
    }
}
