//! Carries out what the pools' state machines decide.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use poolctl_cluster::{
    Cluster, Expected, Lifecycle, NewReplica, Patch, ReplicaEvent, ReplicaState, ReplicaUid, Transition,
};
use poolctl_runtime::{Clock, Shutdown};
use prometheus::Registry;
use tokio::sync::{mpsc, watch};

use super::metrics::PoolMetrics;
use super::placement::{PoolKey, PoolSpec};
use super::state::{Action, Counts, Pacing, PoolState};

/// Answers that wait for the controller: as many as actions can be under way, which the pools' sizes bound; a sender
/// waits when it is full.
const ANSWERS: usize = 256;

/// Keeps every pool at its size. Clones share one state.
#[derive(Clone)]
pub struct PoolController<C> {
    cluster: C,
    shared: Arc<Shared>,
}

struct Shared {
    pools: Mutex<BTreeMap<PoolKey, Pool>>,
    /// Changes whenever a pool does.
    changed: watch::Sender<()>,
    metrics: PoolMetrics,
    clock: Clock,
}

struct Pool {
    spec: PoolSpec,
    state: PoolState,
}

/// A pool as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// What it is meant to be.
    pub spec: PoolSpec,
    /// Idle replicas that it should have.
    pub size: u32,
    /// Replicas that it has.
    pub counts: Counts,
    /// Why the last start failed, while starts fail.
    pub failure: Option<String>,
    /// Starts that failed in a row.
    pub failures: u32,
}

impl PoolStatus {
    /// Whether it has all the idle replicas that it should have.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.counts.idle >= self.size
    }
}

enum Answer {
    Created(PoolKey, Result<ReplicaUid, String>),
    Settled(PoolKey, ReplicaUid),
}

// === impl PoolController ===

impl<C: Cluster> PoolController<C> {
    /// A controller of these pools; [`PoolController::run`] makes it work.
    ///
    /// # Errors
    /// `registry` already holds metrics of these names.
    pub fn new(
        cluster: C,
        pools: Vec<PoolSpec>,
        pacing: Pacing,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let pools = pools.into_iter().map(|spec| {
            let state = PoolState::new(spec.sizing, pacing);
            (spec.key.clone(), Pool { spec, state })
        });
        let shared = Shared {
            pools: Mutex::new(pools.collect()),
            changed: watch::Sender::new(()),
            metrics: PoolMetrics::register(registry)?,
            clock: Clock::start(),
        };
        Ok(Self { cluster, shared: Arc::new(shared) })
    }

    /// Every pool as it is now, by namespace and name.
    #[must_use]
    pub fn status(&self) -> Vec<PoolStatus> {
        self.shared.pools.lock().values().map(Pool::status).collect()
    }

    /// Wakes whenever a pool changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// Resolves once every pool has all the idle replicas that it should have.
    ///
    /// # Errors
    /// Why replicas do not start, as soon as starts fail repeatedly: then the pool may never fill.
    pub async fn filled(&self) -> Result<(), String> {
        /// One failure may be chance, two may be one cause that has passed.
        const HOPELESS_AFTER: u32 = 3;
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let pools = self.status();
            if pools.iter().all(PoolStatus::is_full) {
                return Ok(());
            }
            let hopeless = pools.iter().find(|pool| pool.failures >= HOPELESS_AFTER);
            if let Some(PoolStatus { spec, failure: Some(reason), .. }) = hopeless {
                return Err(format!("replicas of pool {} do not start: {reason}", spec.key));
            }
            // the sender lives as long as `self`
            let _ = changes.changed().await;
        }
    }

    /// Works until shutdown is requested. Replicas stay as they are then: they are the cluster's to stop.
    pub async fn run(&self, shutdown: Shutdown) {
        let mut events = self.cluster.watch();
        let (answers, mut answered) = mpsc::channel(ANSWERS);
        let stop = shutdown.requested();
        tokio::pin!(stop);
        loop {
            let wake = self.act(&answers);
            tokio::select! {
                () = &mut stop => return,
                event = events.next() => match event {
                    Some(event) => self.observe(event),
                    // the cluster is gone, and its replicas with it
                    None => return,
                },
                Some(answer) = answered.recv() => self.settle(answer),
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    fn observe(&self, event: ReplicaEvent) {
        let now = self.shared.clock.now();
        let mut pools = self.shared.pools.lock();
        match event {
            ReplicaEvent::Applied(replica) if replica.pool.is_empty() => {
                pools.values_mut().for_each(|pool| pool.state.cold_start(&replica, now));
            }
            ReplicaEvent::Applied(replica) => {
                let key = PoolKey { namespace: replica.namespace.clone(), name: replica.pool.clone() };
                if let Some(pool) = pools.get_mut(&key) {
                    if let (ReplicaState::Idle, Lifecycle::Exited { reason }) = (replica.state, &replica.lifecycle) {
                        tracing::warn!(pool = %key, replica = replica.name, reason, "an idle replica ended");
                        self.shared.metrics.count_failure(&key);
                    }
                    pool.state.applied(&replica, now);
                }
            }
            ReplicaEvent::Deleted(uid) => pools.values_mut().for_each(|pool| pool.state.deleted(&uid)),
            ReplicaEvent::Synced => pools.values_mut().for_each(|pool| pool.state.synced()),
        }
    }

    fn settle(&self, answer: Answer) {
        let now = self.shared.clock.now();
        let mut pools = self.shared.pools.lock();
        match answer {
            Answer::Created(key, outcome) => {
                if let Err(reason) = &outcome {
                    tracing::warn!(pool = %key, reason, "a replica could not be started");
                    self.shared.metrics.count_failure(&key);
                }
                if let Some(pool) = pools.get_mut(&key) {
                    pool.state.created(outcome, now);
                }
            }
            Answer::Settled(key, uid) => {
                if let Some(pool) = pools.get_mut(&key) {
                    pool.state.settled(&uid);
                }
            }
        }
    }

    /// Starts everything that is to be done now; the time until there may be more.
    fn act(&self, answers: &mpsc::Sender<Answer>) -> Duration {
        /// Nothing is due: events and answers wake the controller.
        const NOTHING_DUE: Duration = Duration::from_secs(3600);
        let now = self.shared.clock.now();
        let mut wake = NOTHING_DUE;
        let mut pools = self.shared.pools.lock();
        for pool in pools.values_mut() {
            for action in pool.state.plan(now) {
                self.shared.metrics.count(&pool.spec.key, &action);
                tokio::spawn(perform(self.cluster.clone(), pool.spec.clone(), action, answers.clone()));
            }
            self.shared.metrics.observe(&pool.spec.key, pool.state.counts(), pool.state.size());
            if let Some(moment) = pool.state.next_wake(now) {
                wake = wake.min(moment.saturating_since(now));
            }
        }
        drop(pools);
        self.shared.changed.send_replace(());
        wake
    }
}

impl Pool {
    fn status(&self) -> PoolStatus {
        PoolStatus {
            spec: self.spec.clone(),
            size: self.state.size(),
            counts: self.state.counts(),
            failure: self.state.failure().map(str::to_owned),
            failures: self.state.failures(),
        }
    }
}

async fn perform<C: Cluster>(cluster: C, spec: PoolSpec, action: Action, answers: mpsc::Sender<Answer>) {
    let key = spec.key.clone();
    let answer = match action {
        Action::Create => {
            let created = cluster.create(new_replica(spec)).await;
            Answer::Created(key, created.map(|replica| replica.uid).map_err(|error| error.to_string()))
        }
        Action::Retire(uid) => {
            retire(&cluster, &uid).await;
            Answer::Settled(key, uid)
        }
        Action::Sweep(uid) => {
            sweep(&cluster, &uid).await;
            Answer::Settled(key, uid)
        }
    };
    // a controller that has stopped needs no answer
    let _ = answers.send(answer).await;
}

fn new_replica(spec: PoolSpec) -> NewReplica {
    NewReplica {
        namespace: spec.key.namespace,
        pool: spec.key.name,
        device: spec.device.to_string(),
        service_account: spec.service_account,
        resources: spec.resources,
        claim: None,
    }
}

/// Takes an idle replica out of the pool and deletes it. A claim that came first wins: the replica is then no longer
/// ours.
async fn retire<C: Cluster>(cluster: &C, uid: &ReplicaUid) {
    let idle = Expected { state: Some(ReplicaState::Idle), claim_id: None };
    let retired = Patch { state: Some(ReplicaState::Retired), ..Patch::default() };
    let is_ours = match cluster.transition(uid, &idle, &retired).await {
        Transition::Won(_) => true,
        Transition::Lost => false,
        Transition::Unknown => {
            let now = cluster.get(uid).await;
            now.is_ok_and(|replica| replica.is_some_and(|replica| replica.state == ReplicaState::Retired))
        }
    };
    if is_ours {
        delete(cluster, uid, ReplicaState::Retired).await;
    }
}

/// Deletes what is left of a replica that nobody claimed.
async fn sweep<C: Cluster>(cluster: &C, uid: &ReplicaUid) {
    for state in [ReplicaState::Idle, ReplicaState::Retired] {
        delete(cluster, uid, state).await;
    }
}

/// A delete that is refused or lost needs no retry here: the watch shows what there is, and the next plan sees it.
async fn delete<C: Cluster>(cluster: &C, uid: &ReplicaUid, state: ReplicaState) {
    let deletion = cluster.delete(uid, &Expected { state: Some(state), claim_id: None }).await;
    tracing::debug!(%uid, ?state, ?deletion, "deleting a replica of the pool");
}
