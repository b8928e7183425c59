//! Replicas as child processes of this machine.
//!
//! [`LocalCluster`] gives the embedded stack what Kubernetes gives a cluster: a store of replicas with compare-and-swap,
//! a watch, and something that starts, observes and stops what the store says. The store is a handle that outlives whoever
//! uses it, as an API server outlives its clients: an autoscaler that starts anew on it finds what its predecessor left.
//!
//! No replica outlives this process. Each holds the other end of a pipe as its stdin and exits when the pipe closes,
//! which the kernel does for us even on SIGKILL. And what a replica started, be it the model server itself where a script is
//! around it, is killed when its first process ends.

mod group;
mod lines;
mod log;
mod metrics;
mod process;
mod store;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use prometheus::Registry;
use tokio::sync::Semaphore;

pub use self::group::ProcessGroup;
use self::metrics::LocalMetrics;
use self::process::{Launch, Slots};
use self::store::Store;
use crate::{
    Cluster, ClusterError, Deletion, Expected, NewReplica, Patch, Replica, ReplicaEvent, ReplicaUid, Transition,
};

/// Version of the contract between wrapper and autoscaler that replicas of this build speak: label
/// `kferving.dev/contract`.
pub const CONTRACT: &str = "1";

/// The service account of a replica that was made without one, as on Kubernetes.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// How a [`LocalCluster`] starts and stops replicas.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// The `model-wrapper` program.
    pub wrapper: PathBuf,
    /// Environment of every replica, on top of this process's own without its `KFERVING_*` variables (those are meant
    /// for this process).
    pub environment: BTreeMap<String, String>,
    /// The Ed25519 public key (base64, 32 bytes) whose signature a replica asks of a specialize token.
    pub claim_key: String,
    /// Device classes that this machine has. A replica of another one is refused.
    pub devices: BTreeSet<String>,
    /// Most replicas at a time, those that are still stopping included.
    pub max_replicas: usize,
    /// Most replicas being started at a time for pools. One that a claim waits for does not queue behind them.
    pub concurrent_refills: usize,
    /// Most replicas being started at a time because a claim waits for them.
    pub concurrent_cold_starts: usize,
    /// A replica that is not ready by then is stopped and counts as exited.
    pub start_timeout: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

impl LocalSettings {
    /// Settings with the defaults of `poolctl up` for a machine without a GPU.
    #[must_use]
    pub fn new(wrapper: PathBuf, claim_key: String) -> Self {
        Self {
            wrapper,
            environment: BTreeMap::new(),
            claim_key,
            devices: BTreeSet::from(["cpu".to_owned()]),
            // An idle wrapper is tens of megabytes: a thousand of them is beyond one machine, a hundred is not.
            max_replicas: 256,
            // Starting processes costs the claims beside it more than anything else, so refills go one by one.
            concurrent_refills: 1,
            concurrent_cold_starts: 4,
            start_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// Replicas as child processes of this machine. Clones share one store; it ends, and every replica with it, with the last
/// clone or with [`LocalCluster::shutdown`].
#[derive(Clone)]
pub struct LocalCluster {
    store: Arc<Store>,
    slots: Slots,
    launch: Arc<Launch>,
}

impl LocalCluster {
    /// A cluster without replicas.
    ///
    /// # Errors
    /// `registry` already holds metrics of these names.
    pub fn new(settings: LocalSettings, registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Arc::new(LocalMetrics::register(registry)?);
        let refills = Arc::new(Semaphore::new(settings.concurrent_refills.max(1)));
        let cold_starts = Arc::new(Semaphore::new(settings.concurrent_cold_starts.max(1)));
        Ok(Self {
            store: Arc::new(Store::new(Arc::clone(&metrics))),
            slots: Slots::new(settings.max_replicas, Arc::clone(&metrics)),
            launch: Arc::new(Launch { settings, metrics, refills, cold_starts }),
        })
    }

    /// Stops every replica and returns when the last process is gone. Nothing can be created afterwards.
    pub async fn shutdown(&self) {
        self.store.close();
        self.slots.all_free().await;
    }

    fn admissible(&self, new: &NewReplica) -> Result<(), ClusterError> {
        let devices = &self.launch.settings.devices;
        if !devices.contains(&new.device) {
            let known = devices.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(ClusterError::NoCapacity(format!(
                "this machine has no device {:?} (it has: {known})",
                new.device
            )));
        }
        if let Some(claim) = &new.claim
            && !claim.is_in_namespace(&new.namespace)
        {
            return Err(ClusterError::Rejected(format!(
                "revision {} cannot own a replica in namespace {:?}: an owner must be in the same namespace",
                claim.revision, new.namespace
            )));
        }
        Ok(())
    }
}

impl Cluster for LocalCluster {
    fn watch(&self) -> impl Stream<Item = ReplicaEvent> + Send + Unpin + 'static {
        watch::watch(&self.store)
    }

    async fn get(&self, uid: &ReplicaUid) -> Result<Option<Replica>, ClusterError> {
        Ok(self.store.get(uid))
    }

    async fn create(&self, mut new: NewReplica) -> Result<Replica, ClusterError> {
        self.admissible(&new)?;
        if new.service_account.is_empty() {
            DEFAULT_SERVICE_ACCOUNT.clone_into(&mut new.service_account);
        }
        let slot = self.slots.take()?;
        let (replica, stop) = self.store.insert(new)?;
        process::supervise(&self.launch, &self.store, &replica, stop, slot);
        Ok(replica)
    }

    async fn transition(&self, uid: &ReplicaUid, expected: &Expected, patch: &Patch) -> Transition {
        self.store.transition(uid, expected, patch)
    }

    async fn delete(&self, uid: &ReplicaUid, expected: &Expected) -> Deletion {
        self.store.delete(uid, expected)
    }
}
