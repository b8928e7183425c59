//! A scaler with replicas that do as they are told.

mod demand;
mod devices;
mod revisions;
mod rounds;

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_policy::SizeBucket;

use super::*;
use crate::claim::ConditionReason;
use crate::demand::{SILENT_AFTER, VariantReport};
use crate::example;
use crate::explain::{Verdict, Why};
use crate::scaling::Scaling;

fn at(milliseconds: u64) -> Moment {
    Moment::from_micros(1_000_000_000 + milliseconds * 1000)
}

fn revision(model: &str, device: Device) -> Revision {
    Revision {
        container_concurrency: 10,
        cost: if device == Device::Cpu { 1.0 } else { 12.0 },
        scaling: Scaling { utilization: 1.0, ..Scaling::default() },
        ..example::revision(model, device)
    }
}

/// Replicas as a test sets them.
#[derive(Default)]
struct FakeFleet {
    ready: BTreeMap<RevisionKey, u32>,
    obstacles: BTreeMap<RevisionKey, ConditionReason>,
    unknown: bool,
}

impl Fleet for FakeFleet {
    fn is_known(&self) -> bool {
        !self.unknown
    }

    fn ready(&self, revision: &RevisionKey) -> u32 {
        self.ready.get(revision).copied().unwrap_or(0)
    }

    fn obstacle(&self, revision: &RevisionKey) -> Option<ConditionReason> {
        self.obstacles.get(revision).copied()
    }
}

/// A scaler with one gateway, and replicas that become ready as soon as they are wanted.
struct Rig {
    scaler: Scaler,
    fleet: FakeFleet,
    gateway: GatewayId,
    follows: bool,
}

impl Rig {
    fn new(revisions: &[Revision]) -> Self {
        let mut scaler = Scaler::new(at(0));
        scaler.set_revisions(&revisions.iter().cloned().map(Arc::new).collect::<Vec<_>>());
        let gateway = GatewayId::from("g1");
        scaler.hello(&gateway, 1, at(0));
        scaler.snapshot(&gateway, &[], at(0));
        Self { scaler, fleet: FakeFleet::default(), gateway, follows: true }
    }

    fn report(&mut self, reports: &[ModelReport], now: Moment) {
        self.scaler.snapshot(&self.gateway, reports, now);
    }

    fn tick(&mut self, now: Moment) -> BTreeMap<RevisionKey, u32> {
        let mut changed = Vec::new();
        self.scaler.tick(now, &self.fleet, &mut changed);
        self.follow(&changed)
    }

    fn decide(&mut self, model: &str, now: Moment) -> BTreeMap<RevisionKey, u32> {
        let mut changed = Vec::new();
        self.scaler.decide(&ModelKey::new("ns", model), now, &self.fleet, &mut changed);
        self.follow(&changed)
    }

    fn follow(&mut self, changed: &[Desired]) -> BTreeMap<RevisionKey, u32> {
        let changed: BTreeMap<_, _> = changed.iter().map(|one| (one.revision.clone(), one.replicas)).collect();
        if self.follows {
            self.fleet.ready.extend(changed.clone());
        }
        changed
    }

    fn why(&self, model: &str, device: Device, now: Moment) -> Why {
        let explanation = self.scaler.explain(&ModelKey::new("ns", model), now, &self.fleet).unwrap();
        explanation.variants.iter().find(|variant| variant.device == device).unwrap().why
    }
}

fn load(model: &str, concurrency: f64, arrivals: u64) -> ModelReport {
    ModelReport {
        model: ModelKey::new("ns", model),
        held: 0,
        in_flight: concurrency.ceil() as u32,
        arrivals,
        average_concurrency: concurrency,
        variants: vec![VariantReport {
            device: Device::Cpu,
            in_flight: concurrency.ceil() as u32,
            service_times: vec![(SizeBucket::of(100), arrivals, Duration::from_millis(10 * arrivals))],
        }],
    }
}

fn key(model: &str, device: Device) -> RevisionKey {
    revision(model, device).key
}

fn only(model: &str, device: Device, replicas: u32) -> BTreeMap<RevisionKey, u32> {
    BTreeMap::from([(key(model, device), replicas)])
}
