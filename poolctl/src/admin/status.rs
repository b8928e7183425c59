//! Puts together what the parts say of themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use autoscaler::{AutoscalerStatus, PoolUse, RevisionStatus};
use autoscaler_policy::claim::ConditionReason;
use gateway::ModelSnapshot;
use poolctl_api::{ColdStart, Condition, ConditionStatus, reason};
use poolctl_cluster::{Lifecycle, Replica, ReplicaState};

use super::messages::{LatencyHistogram, ModelStatus, PoolStatus, ReplicaPhase, ReplicaStatus, Status, VariantStatus};
use super::{Model, Parts, latency};
use crate::model::{Resolved, Variant, revisions};
use crate::pool;

pub(super) fn of(parts: &Parts) -> Status {
    let seen = Seen::of(parts);
    Status {
        models: parts.models.iter().map(|model| seen.model(model)).collect(),
        pools: parts.pools.status().iter().map(|pool| seen.pool(pool)).collect(),
    }
}

pub(super) fn of_model(parts: &Parts, model: &Model) -> ModelStatus {
    Seen::of(parts).model(model)
}

/// One look at all parts. Each is consistent in itself; together they are as close as a few microseconds.
struct Seen {
    now: SystemTime,
    replicas: Vec<Arc<Replica>>,
    /// By `NAMESPACE/REVISION`.
    revisions: BTreeMap<String, RevisionStatus>,
    pools: Vec<PoolUse>,
    /// By namespace and name.
    gateway: BTreeMap<(String, String), ModelSnapshot>,
    /// Requests in flight by uid of the replica.
    in_flight: BTreeMap<String, u32>,
    latency: BTreeMap<(String, String), LatencyHistogram>,
}

impl Seen {
    fn of(parts: &Parts) -> Self {
        let AutoscalerStatus { revisions, pools, .. } = parts.autoscaler.status();
        let snapshots = parts.gateway.snapshot();
        let replicas = snapshots.iter().flat_map(|model| &model.replicas);
        let in_flight = replicas.map(|replica| (replica.uid.clone(), replica.in_flight)).collect();
        Self {
            now: SystemTime::now(),
            replicas: parts.fleet.replicas(),
            revisions: revisions.into_iter().map(|revision| (revision.revision.clone(), revision)).collect(),
            pools,
            gateway: snapshots
                .into_iter()
                .map(|model| ((model.namespace.clone(), model.name.clone()), model))
                .collect(),
            in_flight,
            latency: latency::by_model(&parts.registry),
        }
    }

    fn model(&self, model: &Model) -> ModelStatus {
        let definition = &model.entry.definition;
        let key = (definition.namespace.clone(), definition.name.clone());
        let snapshot = self.gateway.get(&key);
        ModelStatus {
            name: definition.name.clone(),
            namespace: definition.namespace.clone(),
            url: model.url.clone(),
            conditions: self.conditions(model),
            variants: model.entry.variants.iter().map(|variant| self.variant(model, variant)).collect(),
            held: snapshot.map_or(0, |snapshot| u32::try_from(snapshot.held).unwrap_or(u32::MAX)),
            in_flight: snapshot.map_or(0, |snapshot| snapshot.in_flight),
            latency: self.latency.get(&key).cloned().unwrap_or_default(),
            last_cold_start: self.last_cold_start(model),
        }
    }

    /// What was found when the model was read, and what has shown since: a file that was loadable then may be gone.
    fn conditions(&self, model: &Model) -> Vec<Condition> {
        let mut conditions = model.conditions.clone();
        let Some((ready, variants)) = conditions.split_first_mut() else { return conditions };
        for (condition, variant) in variants.iter_mut().zip(&model.entry.variants) {
            if let Some(failure) = self.failure(model, variant, &condition.type_) {
                *condition = failure;
            }
        }
        let serves = variants.iter().any(|condition| condition.status == ConditionStatus::True);
        let failed = variants.iter().filter(|condition| condition.reason != reason::DEVICE_UNAVAILABLE);
        if let (false, ConditionStatus::True, Some(failed)) = (serves, ready.status, failed.min_by_key(|c| &c.type_)) {
            *ready = Condition { type_: ready.type_.clone(), ..failed.clone() };
        }
        conditions
    }

    /// What the autoscaler has found to be wrong with a variant that it cannot bring up.
    fn failure(&self, model: &Model, variant: &Variant, type_: &str) -> Option<Condition> {
        let key = model.entry.revision_key(variant.definition.device, model.generation);
        let revision = self.revisions.get(&key).filter(|revision| revision.ready == 0)?;
        let found = revision.condition.as_ref()?;
        let reason = match found.reason {
            ConditionReason::LoadFailed => reason::LOAD_FAILED,
            ConditionReason::CrashLooping => reason::CRASH_LOOPING,
            ConditionReason::NoCapacity | ConditionReason::DeviceUnavailable => return None,
        };
        let since = self.now.checked_sub(Duration::from_millis(found.for_ms)).unwrap_or(self.now);
        Some(Condition::new(type_, ConditionStatus::False, reason, since).with_message(&found.message))
    }

    fn variant(&self, model: &Model, variant: &Variant) -> VariantStatus {
        let device = variant.definition.device;
        let key = model.entry.revision_key(device, model.generation);
        let seen = self.revisions.get(&key);
        // an unavailable device is a condition of the model already
        let obstacle = seen.and_then(|revision| revision.condition.as_ref());
        let obstacle = obstacle.filter(|_| matches!(variant.resolved, Resolved::Loadable { .. }));
        let owned = self.replicas.iter().filter(|replica| is_owned_by(replica, &key));
        VariantStatus {
            device: device.to_string(),
            revision: revisions::revision_name(&model.entry.definition.name, device, model.generation),
            digest: match &variant.resolved {
                Resolved::Loadable { inspection, .. } => Some(inspection.digest.clone()),
                Resolved::LoadFailed(_) | Resolved::DeviceUnavailable(_) => None,
            },
            desired: seen.map_or(0, |revision| revision.desired),
            why: seen.and_then(|revision| revision.why).map(str::to_owned),
            problem: obstacle.map(|condition| format!("{}: {}", condition.reason.as_str(), condition.message)),
            replicas: owned.map(|replica| self.replica(replica)).collect(),
        }
    }

    fn last_cold_start(&self, model: &Model) -> Option<ColdStart> {
        let revisions = model.entry.variants.iter().filter_map(|variant| {
            let key = model.entry.revision_key(variant.definition.device, model.generation);
            self.revisions.get(&key)?.last_activation.as_ref()
        });
        let last = revisions.min_by_key(|activation| activation.ago_ms)?;
        Some(ColdStart {
            backoff_ms: last.backoff_ms,
            claim_ms: last.claim_ms,
            specialize_ms: last.specialize_ms,
            load_ms: last.load_ms,
        })
    }

    fn pool(&self, pool: &pool::PoolStatus) -> PoolStatus {
        let key = &pool.spec.key;
        let used = self.pools.iter().find(|used| used.namespace == key.namespace && used.name == key.name);
        let members = self.replicas.iter().filter(|replica| {
            replica.namespace == key.namespace
                && replica.pool == key.name
                && matches!(replica.state, ReplicaState::Idle | ReplicaState::Retired)
        });
        PoolStatus {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            device: pool.spec.device.to_string(),
            idle: pool.counts.idle,
            claimed: pool.counts.claimed,
            size: pool.size,
            hits: used.map_or(0, |used| used.hits),
            misses: used.map_or(0, |used| used.misses),
            problem: pool.failure.clone(),
            replicas: members.map(|replica| self.replica(replica)).collect(),
        }
    }

    fn replica(&self, replica: &Replica) -> ReplicaStatus {
        ReplicaStatus {
            id: replica.name.clone(),
            uid: replica.uid.to_string(),
            pid: replica.pid,
            state: phase(replica),
            address: match &replica.lifecycle {
                Lifecycle::Ready { traffic, .. } => Some(traffic.to_string()),
                Lifecycle::Starting | Lifecycle::Exited { .. } => None,
            },
            in_flight: self.in_flight.get(&replica.uid.0).copied().unwrap_or(0),
            startup_ms: replica.startup.map(|startup| startup.as_secs_f64() * 1e3),
            age_seconds: self.now.duration_since(replica.created).unwrap_or_default().as_secs_f64(),
        }
    }
}

fn is_owned_by(replica: &Replica, revision: &str) -> bool {
    replica.claim.as_ref().is_some_and(|claim| claim.revision == revision)
        && !matches!(replica.state, ReplicaState::Idle | ReplicaState::Retired)
}

/// The label, but for a replica that is not up: then what the machine says of it is what people want to know.
const fn phase(replica: &Replica) -> ReplicaPhase {
    match (&replica.lifecycle, replica.state) {
        (Lifecycle::Exited { .. }, _) => ReplicaPhase::Exited,
        (Lifecycle::Starting, ReplicaState::Idle) => ReplicaPhase::Starting,
        (_, ReplicaState::Idle) => ReplicaPhase::Idle,
        (_, ReplicaState::Claimed) => ReplicaPhase::Claimed,
        (_, ReplicaState::Serving) => ReplicaPhase::Serving,
        (_, ReplicaState::Draining) => ReplicaPhase::Draining,
        (_, ReplicaState::Retired) => ReplicaPhase::Retired,
    }
}
