//! The watch: list, then changes; after a lag list again and report what went away meanwhile.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::store::Store;
use crate::{ReplicaEvent, ReplicaUid};

struct Watch {
    /// Weak: a watch must not keep the cluster, and its processes, alive.
    store: Weak<Store>,
    changes: broadcast::Receiver<ReplicaEvent>,
    known: BTreeSet<ReplicaUid>,
    pending: VecDeque<ReplicaEvent>,
}

pub(super) fn watch(store: &Arc<Store>) -> impl Stream<Item = ReplicaEvent> + Send + Unpin + 'static {
    let (replicas, changes) = store.list_and_subscribe();
    let mut pending: VecDeque<_> = replicas.into_iter().map(ReplicaEvent::Applied).collect();
    pending.push_back(ReplicaEvent::Synced);
    let watch = Watch { store: Arc::downgrade(store), changes, known: BTreeSet::new(), pending };
    stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((event, watch))
    })
    .boxed()
}

impl Watch {
    async fn next(&mut self) -> Option<ReplicaEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.remember(&event);
                return Some(event);
            }
            match self.changes.recv().await {
                Ok(event) => self.pending.push_back(event),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => self.relist()?,
            }
        }
    }

    fn relist(&mut self) -> Option<()> {
        let store = self.store.upgrade()?;
        store.metrics.relists.inc();
        let (replicas, changes) = store.list_and_subscribe();
        self.changes = changes;
        let existing: BTreeSet<_> = replicas.iter().map(|replica| &replica.uid).collect();
        let gone = self.known.iter().filter(|uid| !existing.contains(uid));
        self.pending.extend(gone.cloned().map(ReplicaEvent::Deleted));
        self.pending.extend(replicas.into_iter().map(ReplicaEvent::Applied));
        Some(())
    }

    fn remember(&mut self, event: &ReplicaEvent) {
        match event {
            ReplicaEvent::Applied(replica) => {
                if !self.known.contains(&replica.uid) {
                    self.known.insert(replica.uid.clone());
                }
            }
            ReplicaEvent::Deleted(uid) => {
                self.known.remove(uid);
            }
            ReplicaEvent::Synced => {}
        }
    }
}
