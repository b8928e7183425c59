//! All replicas as the cluster's watch shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::RwLock;
use poolctl_cluster::{Cluster, Replica, ReplicaEvent, ReplicaUid};
use tokio::sync::watch;

/// A copy of the cluster's replicas. Clones share it.
#[derive(Clone, Default)]
pub struct Fleet {
    replicas: Arc<RwLock<BTreeMap<ReplicaUid, Arc<Replica>>>>,
    changed: watch::Sender<()>,
}

impl Fleet {
    /// Follows `cluster` until its watch ends.
    pub async fn follow<C: Cluster>(&self, cluster: C) {
        let mut events = cluster.watch();
        while let Some(event) = events.next().await {
            match event {
                ReplicaEvent::Applied(replica) => {
                    self.replicas.write().insert(replica.uid.clone(), replica);
                }
                ReplicaEvent::Deleted(uid) => {
                    self.replicas.write().remove(&uid);
                }
                ReplicaEvent::Synced => {}
            }
            self.changed.send_replace(());
        }
    }

    /// All replicas, the oldest first.
    #[must_use]
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        let mut replicas: Vec<_> = self.replicas.read().values().cloned().collect();
        replicas.sort_by(|one, other| (one.created, &one.uid).cmp(&(other.created, &other.uid)));
        replicas
    }

    /// Wakes whenever a replica changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
