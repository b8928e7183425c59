//! How long a request takes on each device, by its size.

use std::time::Duration;

use gateway_policy::{Device, Moment, SizeBucket};
use serde::{Deserialize, Serialize};

/// Service time of a request, in seconds, to assume on a device until one is measured: what the gateway assumes. It is an order
/// of magnitude, from which only the first replicas are planned.
fn prior_s(device: Device) -> f64 {
    gateway_policy::ServiceTimes::default_prior(device).as_secs_f64()
}

/// After this time a measurement counts half.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// Requests (after decay) from which on a mean is believed.
const BELIEVED_FROM: f64 = 0.5;

/// Measured service times of one model, and which sizes its requests have.
#[derive(Clone, Debug, Default)]
pub struct ServiceTimes {
    cells: [[Cell; SizeBucket::COUNT]; Device::ALL.len()],
    decayed_at: Moment,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    requests: f64,
    seconds: f64,
}

impl Cell {
    fn mean(self) -> Option<f64> {
        (self.requests >= BELIEVED_FROM).then(|| self.seconds / self.requests)
    }
}

/// Where an estimate of a service time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Requests of this size on this device.
    Measured,
    /// Requests of other sizes on this device.
    OtherSizes,
    /// Requests on the other device, scaled by the priors of the two.
    OtherDevice,
    /// None: the prior.
    Prior,
}

impl Evidence {
    /// Whether anything was measured on the device itself.
    #[must_use]
    pub const fn is_of_its_device(self) -> bool {
        matches!(self, Self::Measured | Self::OtherSizes)
    }
}

/// Seconds that a request of each size takes on one device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Seconds, by size.
    pub seconds: [f64; SizeBucket::COUNT],
    /// The weakest evidence among the sizes that occur.
    pub evidence: Evidence,
}

/// Requests that were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The device that they ran on.
    pub device: Device,
    /// Their size.
    pub size: SizeBucket,
    /// How many.
    pub requests: u64,
    /// The time that they took together.
    pub total: Duration,
}

impl ServiceTimes {
    /// Takes in requests that were answered.
    pub fn record(&mut self, answered: Answered, now: Moment) {
        self.decay(now);
        let cell = &mut self.cells[answered.device.index()][answered.size.index()];
        cell.requests += answered.requests as f64;
        cell.seconds += answered.total.as_secs_f64();
    }

    fn decay(&mut self, now: Moment) {
        let elapsed = now.saturating_since(self.decayed_at);
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let factor = 0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        for cell in self.cells.iter_mut().flatten() {
            cell.requests *= factor;
            cell.seconds *= factor;
        }
        self.decayed_at = now;
    }

    /// The share of requests of each size; all in the smallest until one was answered.
    #[must_use]
    pub fn mix(&self) -> [f64; SizeBucket::COUNT] {
        let mut shares = [0.0; SizeBucket::COUNT];
        for (size, share) in shares.iter_mut().enumerate() {
            *share = self.cells.iter().map(|device| device[size].requests).sum();
        }
        let total: f64 = shares.iter().sum();
        if total < BELIEVED_FROM {
            shares = [0.0; SizeBucket::COUNT];
            shares[0] = 1.0;
        } else {
            shares.iter_mut().for_each(|share| *share /= total);
        }
        shares
    }

    /// Seconds that a request of each size takes on `device`.
    #[must_use]
    pub fn profile(&self, device: Device) -> Profile {
        let own = &self.cells[device.index()];
        let all_sizes = |cells: &[Cell; SizeBucket::COUNT]| {
            let sum = cells.iter().fold(Cell::default(), |sum, cell| Cell {
                requests: sum.requests + cell.requests,
                seconds: sum.seconds + cell.seconds,
            });
            sum.mean()
        };
        let own_prior = prior_s(device);
        let own_mean = all_sizes(own);
        let others: Vec<(Device, f64)> = Device::ALL
            .into_iter()
            .filter(|other| *other != device)
            .filter_map(|other| Some((other, all_sizes(&self.cells[other.index()])?)))
            .collect();
        let mix = self.mix();
        let mut profile = Profile { seconds: [own_prior; SizeBucket::COUNT], evidence: Evidence::Measured };
        for size in 0..SizeBucket::COUNT {
            let from_other = || {
                others.iter().find_map(|(other, mean)| {
                    let ratio = own_prior / prior_s(*other);
                    let at_size = self.cells[other.index()][size].mean().unwrap_or(*mean);
                    Some(at_size * ratio).filter(|seconds| seconds.is_finite())
                })
            };
            let (seconds, evidence) = if let Some(mean) = own[size].mean() {
                (mean, Evidence::Measured)
            } else if let Some(mean) = own_mean {
                (mean, Evidence::OtherSizes)
            } else if let Some(seconds) = from_other() {
                (seconds, Evidence::OtherDevice)
            } else {
                (own_prior, Evidence::Prior)
            };
            // A replica that answers in no time would be planned to carry any load.
            const LEAST_SECONDS: f64 = 1e-6;
            profile.seconds[size] = seconds.max(LEAST_SECONDS);
            if mix[size] > 0.0 {
                profile.evidence = weaker(profile.evidence, evidence);
            }
        }
        profile
    }
}

fn weaker(a: Evidence, b: Evidence) -> Evidence {
    if b as u8 > a as u8 { b } else { a }
}

impl Profile {
    /// Mean seconds of a request of this mix.
    #[must_use]
    pub fn mean(&self, mix: &[f64; SizeBucket::COUNT]) -> f64 {
        self.seconds.iter().zip(mix).map(|(seconds, share)| seconds * share).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn answered(device: Device, size: usize, requests: u64, total: Duration) -> Answered {
        Answered { device, size: SizeBucket::from_index(size).unwrap(), requests, total }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn without_measurements_the_prior_holds() {
        let profile = ServiceTimes::default().profile(Device::Cpu);
        assert_eq!(profile.evidence, Evidence::Prior);
        assert!(close(profile.seconds[3], 0.05));
    }

    #[test]
    fn measurements_replace_the_prior_by_size() {
        let mut times = ServiceTimes::default();
        times.record(answered(Device::Cpu, 0, 10, 20 * MS), Moment::ZERO);
        times.record(answered(Device::Cpu, 2, 30, 300 * MS), Moment::ZERO);
        let cpu = times.profile(Device::Cpu);
        assert!(close(cpu.seconds[0], 0.002) && close(cpu.seconds[2], 0.010));
        assert!(close(cpu.seconds[5], 0.008), "an unmeasured size takes the mean");
        assert_eq!(cpu.evidence, Evidence::Measured);
        assert!(close(cpu.mean(&times.mix()), 0.008));
        let gpu = times.profile(Device::Gpu);
        assert_eq!(gpu.evidence, Evidence::OtherDevice);
        assert!(close(gpu.seconds[2], 0.001), "a tenth, as the priors say");
    }

    #[test]
    fn old_measurements_fade() {
        let mut times = ServiceTimes::default();
        times.record(answered(Device::Cpu, 0, 100, 1000 * MS), Moment::ZERO);
        times.record(answered(Device::Cpu, 0, 100, 2000 * MS), Moment::ZERO + HALF_LIFE);
        let mean = times.profile(Device::Cpu).seconds[0];
        assert!(close(mean, (0.5 + 2.0) / 150.0), "{mean}");
        times.record(answered(Device::Gpu, 1, 1, MS), Moment::ZERO + HALF_LIFE * 20);
        assert!(times.mix()[1] > 0.99);
    }
}
