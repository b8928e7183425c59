//! The revisions that exist, by key and by model.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use autoscaler_demand::ModelState;
use autoscaler_policy::claim::{self, Condition, ConditionReason};
use autoscaler_policy::{ModelKey, Revision, RevisionKey};
use gateway_policy::{Device, Moment};

/// The whole table of revisions.
#[derive(Default)]
pub(crate) struct RevisionTable {
    by_key: BTreeMap<RevisionKey, Arc<Revision>>,
    by_model: HashMap<ModelKey, Vec<RevisionKey>>,
}

impl RevisionTable {
    /// Replaces the table and returns the revisions that are no longer in it.
    pub(super) fn replace(&mut self, revisions: &[Arc<Revision>]) -> Vec<Arc<Revision>> {
        let before = std::mem::take(&mut self.by_key);
        self.by_model.clear();
        for revision in revisions {
            if self.by_key.insert(revision.key.clone(), Arc::clone(revision)).is_none() {
                self.by_model.entry(revision.model.clone()).or_default().push(revision.key.clone());
            }
        }
        before.into_values().filter(|revision| !self.by_key.contains_key(&revision.key)).collect()
    }

    pub(crate) fn get(&self, key: &RevisionKey) -> Option<&Arc<Revision>> {
        self.by_key.get(key)
    }

    /// In order of their keys.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Revision>> {
        self.by_key.values()
    }

    pub(crate) fn of_model(&self, model: &ModelKey) -> impl Iterator<Item = &Arc<Revision>> {
        self.by_model.get(model).into_iter().flatten().filter_map(|key| self.by_key.get(key))
    }

    pub(super) fn variant(&self, model: &ModelKey, device: Device) -> Option<&Arc<Revision>> {
        self.of_model(model).find(|revision| revision.device == device)
    }
}

pub(super) fn all_is_well(model: &ModelKey) -> ModelState {
    ModelState {
        namespace: model.namespace.to_string(),
        model: model.name.to_string(),
        reason: String::new(),
        message: String::new(),
        retry_after_ms: 0,
    }
}

/// What gateways are told of a model: trouble only where none of its variants has a replica or can get one.
pub(super) fn model_state(model: &ModelKey, table: &RevisionTable, claims: &claim::State, now: Moment) -> ModelState {
    let well = all_is_well(model);
    let mut worst: Option<&Condition> = None;
    for revision in table.of_model(model) {
        // Once another attempt is due, requests may wait for what comes of it; a pause of zero would never end.
        let stands = |condition: &&Condition| condition.retry_at.is_none_or(|at| now < at);
        let condition = claims.condition(&revision.key).filter(stands);
        let Some(condition) = condition.filter(|_| claims.counts(&revision.key).ready == 0) else { return well };
        // A device that is not here says least about why the model as a whole cannot be had.
        if worst.is_none_or(|known| known.reason == ConditionReason::DeviceUnavailable) {
            worst = Some(condition);
        }
    }
    worst.map_or(well.clone(), |condition| ModelState {
        reason: condition.reason.as_str().to_owned(),
        message: condition.message.to_string(),
        retry_after_ms: condition.retry_at.map_or(0, |at| super::micros(at.saturating_since(now)).div_ceil(1000)),
        ..well
    })
}
