//! Service times, measured while serving.
//!
//! tower's `PeakEwma` was not used because its reads mutate and a failure that comes back fast makes a replica look
//! fast; linkerd replaced it for the same reasons.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::score::scale;
use crate::{Device, Load, Moment, SizeBucket};

/// The age at which a sample weighs 1/e, and the time in which a penalty falls to 1/e: as long as the retry budget's
/// window, and as linkerd's latency decay.
const DECAY: Duration = Duration::from_secs(10);

/// A failure counts as this many times the present estimate. Below one failure in ten the estimate settles a little
/// above the truth; above it, it grows until [`PENALTY_LIMIT`], so that a device that fails all requests fast is left.
const PENALTY_FACTOR: f32 = 10.0;

/// What a failure counts as at most.
const PENALTY_LIMIT: Duration = Duration::from_mins(1);

/// The age at which a cell's last sample says too little about the device to keep requests from it, and the least time
/// between two trials of a cell: at one a minute, a device that stays too slow costs hardly any request its objective, and
/// one that was slow once, or has recovered, is found within a minute.
const TRIAL_AFTER: Duration = Duration::from_mins(1);

/// A penalty below this many microseconds is dropped, so that the path of the successes writes to one cell only.
const PENALTY_FLOOR_MICROS: f32 = 1.0;

/// Service times of one model on one device class, for each size class of requests.
///
/// Updated in place by any number of threads: each cell is one atomic word, nothing is allocated.
///
/// A cell is an exponentially weighted mean with both a time horizon and a sample horizon: a new sample weighs
/// `1 − e^(−age / 10 s)`, where `age` is the time since the sample before it, but at least `1 / n` for the n-th sample
/// (1/256 from there on) and at most one half. Failures go to a second mean, the penalty, that decays to nothing at
/// *read* time: a device that failed is tried again, while the service time that it showed when it worked stays known.
#[derive(Debug)]
pub struct ServiceTimes {
    prior: Duration,
    cells: [Cell; SizeBucket::COUNT],
}

#[derive(Debug, Default)]
struct Cell {
    answered: Mean,
    penalty: Mean,
    /// Microseconds of the moment from which on a trial may begin.
    next_trial: AtomicU64,
}

impl ServiceTimes {
    /// Nothing measured yet: every estimate is `prior`, the service time expected of an idle replica.
    #[must_use]
    pub fn new(prior: Duration) -> Self {
        Self { prior, cells: std::array::from_fn(|_| Cell::default()) }
    }

    /// The prior where nothing is known of the model's graph: that of a medium-sized vision model, and a tenth of it on a GPU. The
    /// autoscaler plans the first replicas from the same.
    #[must_use]
    pub const fn default_prior(device: Device) -> Duration {
        match device {
            Device::Cpu => Duration::from_millis(50),
            Device::Gpu => Duration::from_millis(5),
        }
    }

    /// The time that a request of this size takes on an idle replica.
    ///
    /// For a size class without a sample it is that of the nearest class that has one, and the prior where none has.
    #[must_use]
    pub fn estimate(&self, size: SizeBucket, now: Moment) -> Duration {
        let penalty = self.cells[size.index()].penalty.reading();
        let base = self.base(size);
        // As almost always.
        if penalty.value <= 0.0 {
            return base;
        }
        let penalty = f64::from(penalty.value) * remaining(penalty.age(now));
        base.saturating_add(Duration::from_micros(penalty as u64))
    }

    /// Whether a request of this size class has been answered.
    #[must_use]
    pub fn is_measured(&self, size: SizeBucket) -> bool {
        self.cells[size.index()].answered.reading().samples > 0
    }

    /// Whether the estimate for this size class is a guess, or about as good as one: no request of it was answered or failed
    /// within the last minute, and none was sent as a trial.
    #[must_use]
    pub fn wants_trial(&self, size: SizeBucket, now: Moment) -> bool {
        let cell = &self.cells[size.index()];
        let is_recent = |mean: &Mean| {
            let reading = mean.reading();
            reading.samples > 0 && reading.age(now) < TRIAL_AFTER
        };
        cell.next_trial.load(Relaxed) <= now.as_micros() && !is_recent(&cell.answered) && !is_recent(&cell.penalty)
    }

    /// A request is about to be sent as a trial. That counts however the trial ends, also where nothing is recorded of it: as
    /// when its client leaves, or its deadline passes before the device is known to be at fault. Threads that chose at the
    /// same instant each send theirs: to take one back would free its slot without a look at who waits for one.
    pub fn begin_trial(&self, size: SizeBucket, now: Moment) {
        self.cells[size.index()].next_trial.fetch_max((now + TRIAL_AFTER).as_micros(), Relaxed);
    }

    /// A request was answered `latency` after it was sent to a replica under `load`.
    pub fn record_success(&self, size: SizeBucket, latency: Duration, load: Load, now: Moment) {
        let cell = &self.cells[size.index()];
        cell.answered.add(micros(scale(latency, load.stretch().recip())), now, Reading::NONE);
        if cell.penalty.reading().value > 0.0 {
            cell.penalty.add(0.0, now, cell.answered.reading());
        }
    }

    /// A request failed `latency` after it was sent. It counts as ten times the present estimate or as `latency`,
    /// whichever is more: one that fails fast must not attract traffic.
    pub fn record_failure(&self, size: SizeBucket, latency: Duration, now: Moment) {
        let cell = &self.cells[size.index()];
        let counted =
            (micros(self.estimate(size, now)) * PENALTY_FACTOR).max(micros(latency)).min(micros(PENALTY_LIMIT));
        let excess = (counted - micros(self.base(size))).max(0.0);
        cell.penalty.add(excess, now, cell.answered.reading());
    }

    /// The estimate without penalty.
    fn base(&self, size: SizeBucket) -> Duration {
        (0..SizeBucket::COUNT)
            .flat_map(|distance| [size.index().checked_sub(distance), size.index().checked_add(distance)])
            .flatten()
            .filter_map(|index| self.cells.get(index))
            .map(|cell| cell.answered.reading())
            .find(|reading| reading.samples > 0)
            .map_or(self.prior, |reading| Duration::from_micros(reading.value as u64))
    }
}

/// An exponentially weighted mean in one word: a torn read is impossible and an update is one compare-and-swap.
#[derive(Debug, Default)]
struct Mean(AtomicU64);

impl Mean {
    fn reading(&self) -> Reading {
        Reading::from_bits(self.0.load(Relaxed))
    }

    /// Adds a sample. `related` is a mean of samples of the same stream: the new one weighs as if those had been added
    /// here.
    fn add(&self, sample: f32, now: Moment, related: Reading) {
        // The closure always gives a word, so that the update cannot fail.
        let _ = self
            .0
            .fetch_update(Relaxed, Relaxed, |bits| Some(Reading::from_bits(bits).with(sample, now, related).to_bits()));
    }
}

/// What a [`Mean`] holds: microseconds (32 bits), the tick of its last sample (24 bits), samples (8 bits, saturating).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    value: f32,
    tick: u32,
    samples: u8,
}

/// A tick is 2^14 µs, 16 ms: far below [`DECAY`]. 24 bits of them wrap after 76 hours; a cell that idle for about a
/// multiple of this gives its next sample too little weight, and no more than that.
const TICK_SHIFT: u32 = 14;
const TICK_MASK: u32 = (1 << 24) - 1;

/// Ticks that a clock reading may be older than the last sample by, when threads race: 16 s, far more than any thread is
/// kept from running. What is that far short of a wrap counts as new, so it is also far below [`TRIAL_AFTER`].
const RACE_TICKS: u32 = 1 << 10;

impl Reading {
    const NONE: Self = Self { value: 0.0, tick: 0, samples: 0 };

    fn from_bits(bits: u64) -> Self {
        Self { value: f32::from_bits((bits >> 32) as u32), tick: (bits >> 8) as u32 & TICK_MASK, samples: bits as u8 }
    }

    fn to_bits(self) -> u64 {
        u64::from(self.value.to_bits()) << 32 | u64::from(self.tick) << 8 | u64::from(self.samples)
    }

    /// The time since the last sample. A clock reading from before it, as threads that race give, counts as no time.
    fn age(self, now: Moment) -> Duration {
        let ticks = tick(now).wrapping_sub(self.tick) & TICK_MASK;
        let ticks = if ticks > TICK_MASK - RACE_TICKS { 0 } else { ticks };
        Duration::from_micros(u64::from(ticks) << TICK_SHIFT)
    }

    fn with(self, sample: f32, now: Moment, related: Self) -> Self {
        let samples = self.samples.max(related.samples);
        let age = match (self.samples, related.samples) {
            (0, _) => related.age(now),
            (_, 0) => self.age(now),
            _ => self.age(now).min(related.age(now)),
        };
        let weight =
            if samples == 0 { 1.0 } else { (1.0 - remaining(age)).clamp(1.0 / (f64::from(samples) + 1.0), 0.5) as f32 };
        let value = self.value + weight * (sample - self.value);
        Self {
            value: if sample == 0.0 && value < PENALTY_FLOOR_MICROS { 0.0 } else { value },
            tick: tick(now),
            samples: samples.saturating_add(1),
        }
    }
}

fn tick(now: Moment) -> u32 {
    (now.as_micros() >> TICK_SHIFT) as u32 & TICK_MASK
}

/// The share of a value that is left after `age`.
fn remaining(age: Duration) -> f64 {
    (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

fn micros(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1e6
}

#[cfg(test)]
mod tests;
