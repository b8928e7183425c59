//! The record of what replicas exist: what the API server is on Kubernetes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};

use super::CONTRACT;
use super::metrics::LocalMetrics;
use crate::{
    ClusterError, Deletion, Expected, Lifecycle, NewReplica, Patch, Replica, ReplicaEvent, ReplicaState, ReplicaUid,
    Transition,
};

/// Changes that a watch may lag behind before it lists anew. A claim is about five changes; this is two hundred claims
/// within one wake-up of the watcher.
const WATCH_BACKLOG: usize = 1024;

/// Resolves when its replica is to stop: its record was deleted, or the whole store ended.
pub(super) type StopSignal = oneshot::Receiver<()>;

pub(super) struct Store {
    state: Mutex<State>,
    changes: broadcast::Sender<ReplicaEvent>,
    pub(super) metrics: Arc<LocalMetrics>,
}

struct State {
    replicas: BTreeMap<ReplicaUid, Entry>,
    next_name: u64,
    closed: bool,
}

struct Entry {
    /// Shared with every watch that has not read it yet.
    replica: Arc<Replica>,
    /// Held so that dropping the entry, for whatever reason, stops the process.
    _stop: oneshot::Sender<()>,
}

impl Store {
    pub(super) fn new(metrics: Arc<LocalMetrics>) -> Self {
        Self {
            state: Mutex::new(State { replicas: BTreeMap::new(), next_name: 1, closed: false }),
            changes: broadcast::Sender::new(WATCH_BACKLOG),
            metrics,
        }
    }

    /// What exists, and every change after exactly that.
    pub(super) fn list_and_subscribe(&self) -> (Vec<Arc<Replica>>, broadcast::Receiver<ReplicaEvent>) {
        let state = self.state.lock();
        let replicas = state.replicas.values().map(|entry| Arc::clone(&entry.replica)).collect();
        (replicas, self.changes.subscribe())
    }

    pub(super) fn get(&self, uid: &ReplicaUid) -> Option<Replica> {
        self.state.lock().replicas.get(uid).map(|entry| Replica::clone(&entry.replica))
    }

    pub(super) fn insert(&self, new: NewReplica) -> Result<(Replica, StopSignal), ClusterError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(ClusterError::Unavailable("it is shutting down".to_owned()));
        }
        let name = format!("wrapper-{}", state.next_name);
        state.next_name += 1;
        let replica = Replica {
            uid: random_uid(),
            name,
            namespace: new.namespace,
            pool: new.pool,
            device: new.device,
            contract: CONTRACT.to_owned(),
            service_account: new.service_account,
            resources: new.resources,
            state: if new.claim.is_some() { ReplicaState::Claimed } else { ReplicaState::Idle },
            claim: new.claim,
            serving: None,
            lifecycle: Lifecycle::Starting,
            created: SystemTime::now(),
            startup: None,
            pid: None,
        };
        let (stop, stopped) = oneshot::channel();
        state.replicas.insert(replica.uid.clone(), Entry { replica: Arc::new(replica.clone()), _stop: stop });
        self.publish(ReplicaEvent::Applied(Arc::new(replica.clone())));
        Ok((replica, stopped))
    }

    pub(super) fn transition(&self, uid: &ReplicaUid, expected: &Expected, patch: &Patch) -> Transition {
        let mut state = self.state.lock();
        let Some(entry) = state.replicas.get_mut(uid) else { return Transition::Lost };
        let replica = &entry.replica;
        if !expected.is_met_by(replica) {
            return Transition::Lost;
        }
        if let Some(claim) = &patch.claim
            && !claim.is_in_namespace(&replica.namespace)
        {
            tracing::warn!(
                replica = %replica.name, namespace = %replica.namespace, revision = %claim.revision,
                "refused a claim from another namespace"
            );
            return Transition::Lost;
        }
        patch.apply_to(Arc::make_mut(&mut entry.replica));
        let replica = Arc::clone(&entry.replica);
        self.publish(ReplicaEvent::Applied(Arc::clone(&replica)));
        Transition::Won(replica)
    }

    /// Takes the record away at once; the process ends after it.
    pub(super) fn delete(&self, uid: &ReplicaUid, expected: &Expected) -> Deletion {
        let mut state = self.state.lock();
        match state.replicas.get(uid) {
            None => Deletion::Deleted,
            Some(entry) if !expected.is_met_by(&entry.replica) => Deletion::Refused,
            Some(_) => {
                state.replicas.remove(uid);
                self.publish(ReplicaEvent::Deleted(uid.clone()));
                Deletion::Deleted
            }
        }
    }

    /// Deletes everything, for good.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for uid in std::mem::take(&mut state.replicas).into_keys() {
            self.publish(ReplicaEvent::Deleted(uid));
        }
    }

    /// Records what the machine says of a replica; nothing where the record is gone.
    pub(super) fn observe(&self, uid: &ReplicaUid, change: impl FnOnce(&mut Replica)) {
        let mut state = self.state.lock();
        if let Some(entry) = state.replicas.get_mut(uid) {
            change(Arc::make_mut(&mut entry.replica));
            let replica = Arc::clone(&entry.replica);
            self.publish(ReplicaEvent::Applied(replica));
        }
    }

    /// Called with the state locked, so that changes reach watches in the order in which they took effect.
    fn publish(&self, event: ReplicaEvent) {
        // An error means only that nobody watches.
        let _ = self.changes.send(event);
    }
}

/// A random (version 4) UUID, as Kubernetes gives its objects.
fn random_uid() -> ReplicaUid {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    ReplicaUid(text)
}
