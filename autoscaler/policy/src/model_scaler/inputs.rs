//! What a decision about one model rests on.

use std::time::Duration;

use gateway_policy::{Device, SizeBucket};

use super::{DEVICES, ModelScaler};
use crate::Fleet;
use crate::claim::ConditionReason;
use crate::demand::Seen;
use crate::plan::{Alternative, Mix, Offer, Plan, Task, plan};
use crate::revision::Revision;
use crate::service::Profile;

/// What the decision of one moment rests on.
pub(super) struct Inputs {
    pub(super) sizes: [f64; SizeBucket::COUNT],
    pub(super) offers: [Option<Offer>; DEVICES],
    pub(super) reference: usize,
    /// Load that one replica carries, in concurrency on the reference device.
    pub(super) strength: [f64; DEVICES],
    pub(super) ready: Mix,
    pub(super) obstacles: [Option<ConditionReason>; DEVICES],
    pub(super) stable: f64,
    pub(super) panic: f64,
}

impl ModelScaler {
    pub(super) fn inputs(&self, fleet: &impl Fleet) -> Inputs {
        let sizes = self.service.mix();
        let offers = Device::ALL.map(|device| {
            let revision = self.variants[device.index()].as_ref()?;
            Some(offer(revision, self.service.profile(device)))
        });
        let speeds = self.speeds(&sizes);
        let mut strength = [1.0; DEVICES];
        let mut ready = Mix::default();
        let mut obstacles = [None; DEVICES];
        for index in 0..DEVICES {
            if let (Some(revision), Some(offer)) = (&self.variants[index], &offers[index]) {
                strength[index] = offer.concurrency * speeds[index];
                ready[index] = fleet.ready(&revision.key);
                obstacles[index] = fleet.obstacle(&revision.key);
            }
        }
        let scaling = self.variants.iter().flatten().next().map(|revision| &revision.scaling);
        let (stable_window, panic_window) =
            scaling.map_or_else(Default::default, |scaling| (scaling.stable_window, scaling.panic_window()));
        let held = self.held_load(&offers, &sizes);
        Inputs {
            reference: self.reference(),
            strength,
            ready,
            obstacles,
            stable: self.window.average(stable_window).max(held),
            panic: self.window.average(panic_window).max(held),
            sizes,
            offers,
        }
    }

    /// Average concurrency over the last report of each gateway, in terms of the reference device.
    pub(super) fn current_load(&self, sizes: &[f64; SizeBucket::COUNT]) -> f64 {
        let speeds = self.speeds(sizes);
        let of_gateway = |seen: &Seen| {
            let (on_devices, weighted) = shares(seen, speeds);
            seen.average * (weighted + (1.0 - on_devices))
        };
        self.seen.values().map(of_gateway).sum()
    }

    /// What is needed now because requests are held. Where there is an objective, a held request needs a share of a slot
    /// such that its turn comes within it; without one it needs a slot.
    fn held_load(&self, offers: &[Option<Offer>; DEVICES], sizes: &[f64; SizeBucket::COUNT]) -> f64 {
        let held: f64 = self.seen.values().map(|seen| f64::from(seen.held)).sum();
        if held == 0.0 {
            return 0.0;
        }
        let speeds = self.speeds(sizes);
        let busy: f64 = self
            .seen
            .values()
            .map(|seen| {
                let (on_devices, weighted) = shares(seen, speeds);
                f64::from(seen.in_flight) * if on_devices > 0.0 { weighted / on_devices } else { 1.0 }
            })
            .sum();
        let reference = offers[self.reference()].as_ref();
        let turn = reference
            .zip(self.objective().filter(|objective| !objective.is_zero()))
            .map_or(1.0, |(offer, objective)| offer.profile.mean(sizes) / objective.as_secs_f64());
        busy + held * turn.min(1.0)
    }

    /// How much longer a request takes on the reference device than on each: concurrency there times this is concurrency
    /// here.
    fn speeds(&self, sizes: &[f64; SizeBucket::COUNT]) -> [f64; DEVICES] {
        if self.variants.iter().flatten().count() < 2 {
            return [1.0; DEVICES];
        }
        let seconds = Device::ALL.map(|device| self.service.profile(device).mean(sizes));
        seconds.map(|own| seconds[self.reference()] / own)
    }

    /// The device in whose terms concurrency is counted: the first that can be had.
    fn reference(&self) -> usize {
        let available = |index: &usize| self.variants[*index].as_ref().is_some_and(|v| v.unavailable.is_none());
        (0..DEVICES).find(available).unwrap_or(0)
    }

    pub(super) fn objective(&self) -> Option<Duration> {
        self.variants.iter().flatten().find_map(|revision| revision.objective)
    }

    pub(super) fn plan(&self, inputs: &Inputs, load: f64, considered: impl FnMut(Alternative)) -> Plan {
        plan(&self.task(inputs, load, inputs.offers.clone()), considered)
    }

    pub(super) fn task(&self, inputs: &Inputs, load: f64, offers: [Option<Offer>; DEVICES]) -> Task {
        let seconds = inputs.offers[inputs.reference].as_ref().map_or(1.0, |offer| offer.profile.mean(&inputs.sizes));
        Task { offers, rate: load / seconds, sizes: inputs.sizes, objective: self.objective(), current: self.desired }
    }
}

/// Of a gateway's requests in flight the part that is on any device, as it is and in terms of the reference device.
fn shares(seen: &Seen, speeds: [f64; DEVICES]) -> (f64, f64) {
    (seen.shares.iter().sum(), seen.shares.iter().zip(speeds).map(|(share, speed)| share * speed).sum())
}

fn offer(revision: &Revision, profile: Profile) -> Offer {
    let scaling = &revision.scaling;
    let cap = if scaling.max_scale > 0 { scaling.max_scale } else { u32::MAX };
    let max = if revision.unavailable.is_some() { 0 } else { revision.max_replicas.min(cap) };
    Offer {
        concurrency: scaling.target_concurrency(revision.container_concurrency),
        min: revision.min_replicas.max(scaling.min_scale).min(max),
        max,
        // A cost that is no number would make every comparison false.
        cost: if revision.cost.is_finite() { revision.cost.max(0.0) } else { 0.0 },
        profile,
    }
}
