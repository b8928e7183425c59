//! What the autoscaler says of itself, as plain data.

use autoscaler_policy::claim::{ConditionReason, ReplicaPhase};
use autoscaler_policy::{RevisionKey, Uid};
use gateway_policy::Moment;

use crate::leader::{Activation, Leader};
use crate::metrics::{Metrics, origin};

/// What is wanted and why, what there is, and what went wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoscalerStatus {
    /// Whether this process leads and has seen everything that exists.
    pub leading: bool,
    /// Every revision, by key.
    pub revisions: Vec<RevisionStatus>,
    /// Every warm pool that a revision claims from, by namespace and name.
    pub pools: Vec<PoolUse>,
    /// Every gateway that is connected.
    pub gateways: Vec<GatewayStatus>,
    /// Cold starts under way.
    pub cold_starts: usize,
    /// Revisions that wait for a replica or for room to start one.
    pub waiting: usize,
}

/// One variant of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionStatus {
    /// Namespace of the model.
    pub namespace: String,
    /// Name of the model.
    pub model: String,
    /// `NAMESPACE/REVISION`.
    pub revision: String,
    /// cpu or gpu.
    pub device: String,
    /// Replicas that it should have.
    pub desired: u32,
    /// Why that many, in a word such as stable-window; absent for a revision that a newer one has replaced.
    pub why: Option<&'static str>,
    /// Replicas that gateways may use.
    pub ready: u32,
    /// Replicas being claimed, started or loaded, those not yet visible included.
    pub activating: u32,
    /// Its replicas, by uid.
    pub replicas: Vec<ReplicaStatus>,
    /// What keeps it from having its replicas.
    pub condition: Option<ConditionStatus>,
    /// How it was last brought up.
    pub last_activation: Option<ActivationStatus>,
}

/// One replica of a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaStatus {
    /// Identity, never reused.
    pub uid: String,
    /// Name that people see.
    pub name: String,
    /// What it is doing: activating, serving or stopping.
    pub phase: &'static str,
    /// Its label: idle, claimed, serving, draining or retired.
    pub state: &'static str,
    /// Where it takes predictions, once it does.
    pub address: Option<String>,
    /// Process id, where it is a process of this machine.
    pub pid: Option<u32>,
}

/// What keeps a revision from having its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionStatus {
    /// The class of trouble.
    pub reason: ConditionReason,
    /// For people.
    pub message: String,
    /// Milliseconds until the next attempt.
    pub retry_after_ms: Option<u64>,
    /// For how many milliseconds something has kept it from them.
    pub for_ms: u64,
}

/// The phases of one activation.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationStatus {
    /// pool or cold.
    pub origin: &'static str,
    /// The pause after an attempt that had failed, as far as this one waited for its end, in milliseconds.
    pub backoff_ms: f64,
    /// From then, or from the demand, until the model was sent, in milliseconds.
    pub claim_ms: f64,
    /// The specialize call without loading, in milliseconds.
    pub specialize_ms: f64,
    /// Fetching and loading the model, in milliseconds.
    pub load_ms: f64,
    /// How long ago it was, in milliseconds.
    pub ago_ms: u64,
}

/// How often a warm pool had what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Namespace of the pool.
    pub namespace: String,
    /// Name of the pool.
    pub name: String,
    /// Replicas brought up from it.
    pub hits: u64,
    /// Replicas brought up by a cold start because it could not serve them.
    pub misses: u64,
}

/// One gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Its name.
    pub id: String,
    /// Milliseconds since it last said anything.
    pub silent_ms: u64,
}

/// The status but for its revisions, and the keys of those.
pub(crate) fn of(leader: &Leader, metrics: &Metrics, now: Moment) -> (AutoscalerStatus, Vec<RevisionKey>) {
    let totals = leader.claims.totals();
    let mut pools: Vec<_> = leader
        .table
        .all()
        .filter_map(|revision| Some((&*revision.model.namespace, revision.placement.pool.as_deref()?)))
        .collect();
    pools.sort_unstable();
    pools.dedup();
    let status = AutoscalerStatus {
        leading: leader.synced,
        revisions: Vec::new(),
        pools: pools
            .into_iter()
            .map(|(namespace, name)| PoolUse {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                hits: metrics.pool_hits.with_label_values(&[namespace, name]).get(),
                misses: metrics.pool_misses.with_label_values(&[namespace, name]).get(),
            })
            .collect(),
        gateways: leader
            .gateways
            .connected()
            .map(|(id, heard)| GatewayStatus { id: id.to_string(), silent_ms: millis_between(heard, now) })
            .collect(),
        cold_starts: totals.cold_starts,
        waiting: totals.waiting,
    };
    (status, leader.table.all().map(|revision| revision.key.clone()).collect())
}

/// One revision; `None` when it has gone meanwhile.
pub(crate) fn of_revision(leader: &Leader, key: &RevisionKey, now: Moment) -> Option<RevisionStatus> {
    let revision = leader.table.get(key)?;
    let counts = leader.claims.counts(&revision.key);
    let condition = leader.claims.condition(&revision.key).map(|condition| ConditionStatus {
        reason: condition.reason,
        message: condition.message.to_string(),
        retry_after_ms: condition.retry_at.map(|at| millis_between(now, at)),
        for_ms: leader.troubled_since.get(key).map_or(0, |since| millis_between(*since, now)),
    });
    Some(RevisionStatus {
        namespace: revision.model.namespace.to_string(),
        model: revision.model.name.to_string(),
        revision: revision.key.to_string(),
        device: revision.device.as_str().to_owned(),
        desired: leader.desired(&revision.key),
        why: leader.explain(&revision.model).and_then(|explanation| {
            let mut variants = explanation.variants.iter();
            Some(variants.find(|variant| variant.revision == revision.key)?.why.as_str())
        }),
        ready: counts.ready,
        activating: counts.activating.saturating_add(counts.creating),
        replicas: leader.claims.replicas(&revision.key).map(|(uid, phase)| of_replica(leader, uid, phase)).collect(),
        condition,
        last_activation: leader.activations.get(&revision.key).map(|activation| of_activation(activation, now)),
    })
}

fn of_replica(leader: &Leader, uid: &Uid, phase: ReplicaPhase) -> ReplicaStatus {
    let replica = leader.replicas.get(uid);
    ReplicaStatus {
        uid: uid.to_string(),
        name: replica.map_or_else(String::new, |replica| replica.name.clone()),
        phase: match phase {
            ReplicaPhase::Activating => "activating",
            ReplicaPhase::Serving => "serving",
            ReplicaPhase::Stopping => "stopping",
        },
        state: replica.map_or("gone", |replica| replica.state.as_str()),
        address: replica.and_then(|replica| match replica.lifecycle {
            poolctl_cluster::Lifecycle::Ready { traffic, .. } => Some(traffic.to_string()),
            _ => None,
        }),
        pid: replica.and_then(|replica| replica.pid),
    }
}

fn of_activation(activation: &Activation, now: Moment) -> ActivationStatus {
    let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    ActivationStatus {
        origin: origin(activation.timings.origin),
        backoff_ms: millis(activation.timings.backoff),
        claim_ms: millis(activation.timings.claim),
        specialize_ms: millis(activation.timings.specialize),
        load_ms: millis(activation.timings.load),
        ago_ms: millis_between(activation.at, now),
    }
}

fn millis_between(earlier: Moment, later: Moment) -> u64 {
    u64::try_from(later.saturating_since(earlier).as_millis()).unwrap_or(u64::MAX)
}
