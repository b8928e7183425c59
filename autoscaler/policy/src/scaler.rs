//! All models: from what gateways report to a number of replicas per revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_policy::{Device, Moment};

use crate::Fleet;
use crate::demand::{FORGOTTEN_AFTER, Gateways, ModelReport};
use crate::explain::Explanation;
use crate::ids::{GatewayId, ModelKey, RevisionKey};
use crate::model_scaler::{Contacts, ModelScaler};
use crate::plan::Mix;
use crate::revision::Revision;

/// How many replicas a revision should have from now on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Desired {
    /// The revision.
    pub revision: RevisionKey,
    /// Replicas.
    pub replicas: u32,
}

/// Decides how many replicas each revision should have.
#[derive(Clone, Debug)]
pub struct Scaler {
    gateways: Gateways,
    models: BTreeMap<ModelKey, ModelScaler>,
    /// Revisions that a newer one of the same model and device has replaced: they want nothing.
    replaced: Vec<RevisionKey>,
    /// What was last returned for each revision.
    told: BTreeMap<RevisionKey, u32>,
    started: Moment,
}

impl Scaler {
    /// A scaler that knows nothing yet. Until gateways have had the time to find it, nothing is scaled down.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            gateways: Gateways::default(),
            models: BTreeMap::new(),
            replaced: Vec::new(),
            told: BTreeMap::new(),
            started: now,
        }
    }

    /// The whole table of revisions.
    pub fn set_revisions(&mut self, revisions: &[Arc<Revision>]) {
        let mut variants: BTreeMap<ModelKey, [Option<Arc<Revision>>; Device::ALL.len()]> = BTreeMap::new();
        self.replaced.clear();
        for revision in revisions {
            let slot = &mut variants.entry(revision.model.clone()).or_default()[revision.device.index()];
            let replaced = match slot {
                Some(other) if other.key >= revision.key => Some(Arc::clone(revision)),
                _ => slot.replace(Arc::clone(revision)),
            };
            self.replaced.extend(replaced.map(|revision| revision.key.clone()));
        }
        let keys: BTreeSet<&RevisionKey> = revisions.iter().map(|revision| &revision.key).collect();
        self.told.retain(|key, _| keys.contains(key));
        self.models.retain(|key, _| variants.contains_key(key));
        for (key, variants) in variants {
            match self.models.get_mut(&key) {
                Some(model) => model.set_variants(variants),
                None => {
                    self.models.insert(key.clone(), ModelScaler::new(key, variants));
                }
            }
        }
    }

    /// A gateway opened its stream. `epoch` grows with each start of the gateway.
    pub fn hello(&mut self, gateway: &GatewayId, epoch: u64, now: Moment) {
        if self.gateways.hello(gateway, epoch, now) {
            self.models.values_mut().for_each(|model| model.forget(gateway));
        }
    }

    /// The whole demand that a gateway sees; a model that is not mentioned has none. A gateway that said no hello is not
    /// heard: its counts could not be told from those of an earlier start.
    pub fn snapshot(&mut self, gateway: &GatewayId, reports: &[ModelReport], now: Moment) {
        if !self.gateways.heard(gateway, now) {
            return;
        }
        self.gateways.reported(gateway, now);
        let mentioned: BTreeSet<&ModelKey> = reports.iter().map(|report| &report.model).collect();
        for (key, model) in &mut self.models {
            if !mentioned.contains(key) {
                model.unmentioned(gateway);
            }
        }
        for report in reports {
            if let Some(model) = self.models.get_mut(&report.model) {
                model.report(gateway, report, now);
            }
        }
    }

    /// A gateway holds this many requests for a model that has no free replica.
    pub fn held(&mut self, gateway: &GatewayId, model: &ModelKey, held: u32, now: Moment) {
        if self.gateways.heard(gateway, now)
            && let Some(model) = self.models.get_mut(model)
        {
            model.held(gateway, held, now);
        }
    }

    /// A gateway's stream ended: what it sees is unknown from now on.
    pub fn silent(&mut self, gateway: &GatewayId) {
        self.gateways.silent(gateway);
    }

    /// Decides for one model at once. What changed is added to `changed`.
    pub fn decide(&mut self, model: &ModelKey, now: Moment, fleet: &impl Fleet, changed: &mut Vec<Desired>) {
        let contacts = self.contacts(now);
        if let Some(model) = self.models.get_mut(model).filter(|_| fleet.is_known()) {
            let desired = model.decide(now, fleet, contacts);
            tell_all(model, desired, &mut self.told, changed);
        }
    }

    /// Begins a round over all models, to be made every second by [`Scaler::decide`]: for those that it returns, in as many
    /// parts as the caller likes.
    pub fn begin_round(&mut self, now: Moment) -> Vec<ModelKey> {
        self.forget_silent(now);
        self.models.iter().filter(|(_, model)| !model.is_calm()).map(|(key, _)| key.clone()).collect()
    }

    fn forget_silent(&mut self, now: Moment) {
        for gateway in self.gateways.forget_silent(now) {
            self.models.values_mut().for_each(|model| model.forget(&gateway));
        }
    }

    /// Decides for every model at once: a whole round, and what a new table of revisions asks for. What changed is added to
    /// `changed`.
    pub fn tick(&mut self, now: Moment, fleet: &impl Fleet, changed: &mut Vec<Desired>) {
        self.forget_silent(now);
        if !fleet.is_known() {
            return;
        }
        let contacts = self.contacts(now);
        for model in self.models.values_mut().filter(|model| !model.is_calm()) {
            let desired = model.decide(now, fleet, contacts);
            tell_all(model, desired, &mut self.told, changed);
        }
        for key in &self.replaced {
            tell(key, 0, &mut self.told, changed);
        }
    }

    /// Why a model has the replicas that it has; `None` for a model that is not in the table.
    #[must_use]
    pub fn explain(&self, model: &ModelKey, now: Moment, fleet: &impl Fleet) -> Option<Explanation> {
        Some(self.models.get(model)?.explain(now, fleet, self.contacts(now)))
    }

    fn contacts(&self, now: Moment) -> Contacts {
        let (known, unknown) = (self.gateways.len(), self.gateways.unknown(now));
        let not_found_yet = known == 0 && now.saturating_since(self.started) < FORGOTTEN_AFTER;
        Contacts { known, unknown, uncertain: unknown > 0 || not_found_yet, report_age: self.gateways.report_age(now) }
    }
}

fn tell_all(model: &ModelScaler, desired: Mix, told: &mut BTreeMap<RevisionKey, u32>, changed: &mut Vec<Desired>) {
    for device in Device::ALL {
        if let Some(revision) = model.variant(device) {
            tell(&revision.key, desired[device.index()], told, changed);
        }
    }
}

fn tell(key: &RevisionKey, replicas: u32, told: &mut BTreeMap<RevisionKey, u32>, changed: &mut Vec<Desired>) {
    if told.get(key) != Some(&replicas) {
        told.insert(key.clone(), replicas);
        changed.push(Desired { revision: key.clone(), replicas });
    }
}

#[cfg(test)]
mod tests;
