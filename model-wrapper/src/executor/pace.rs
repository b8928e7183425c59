//! How long a model's runs take, as far as it decides where they run.
//!
//! Handing a request to the model's thread and back costs two wake-ups: measured on a small virtual machine 12 to 50 µs of
//! processor time by request, against 4 without, where a very short model computes for 3. Such a model runs where its request
//! was decoded instead. A longer one must not, for sockets wait there meanwhile.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// Runs up to this long may happen on the thread that serves sockets. Decoding a JSON body of 50 KB occupies it as long.
pub(crate) const BRIEF: Duration = Duration::from_micros(100);

/// Runs that must have been measured before any is believed to be brief.
const MEASURED: u32 = 16;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    runs: u32,
    /// The longest recent run: a longer one counts at once, then it decays by 1/64 with each run.
    longest: Duration,
    /// Bytes of the largest request among the measured ones.
    largest: usize,
}

impl Pace {
    /// A request of `bytes` took `run`.
    pub(crate) fn observe(&mut self, run: Duration, bytes: usize) {
        self.runs = self.runs.saturating_add(1);
        self.longest = run.max(self.longest - self.longest / 64);
        self.largest = self.largest.max(bytes);
    }

    /// Whether a request of `bytes` will be brief. One larger than any before is not, until it was measured.
    pub(crate) fn is_brief(&self, bytes: usize) -> bool {
        self.runs >= MEASURED && self.longest <= BRIEF && bytes <= self.largest
    }
}
