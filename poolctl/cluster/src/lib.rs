//! The port through which everything acts on replicas, and its adapters.
//!
//! Deciding code never sees an API server or a process: it sees [`Replica`]s on a watch and asks for [`Transition`]s.
//! `local` runs replicas as child processes of this machine; the Kubernetes adapter implements the same trait, and the same
//! behavioural tests run on both.

#[cfg(feature = "faults")]
pub mod faults;
pub mod local;
mod replica;

pub use local::{LocalCluster, LocalSettings};
pub use replica::{Claim, Expected, Lifecycle, NewReplica, Patch, Replica, ReplicaState, ReplicaUid, ServingIdentity};

use std::future::Future;
use std::sync::Arc;

use futures::Stream;

/// A change of one replica, as a watch reports it.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplicaEvent {
    /// The replica exists and looks like this now. A watch begins with one for each that exists.
    Applied(Arc<Replica>),
    /// The replica is gone.
    Deleted(ReplicaUid),
    /// Everything that existed when the watch began has been reported.
    Synced,
}

/// The outcome of a compare-and-swap.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// The write took effect.
    Won(Arc<Replica>),
    /// The replica is gone or was not in the expected state (409, 422 and 404 on Kubernetes): another writer won.
    Lost,
    /// No reply: the write may or may not have taken effect. Ask with [`Cluster::get`].
    Unknown,
}

/// The outcome of a delete with an owner precondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone or going.
    Deleted,
    /// It exists and does not meet the precondition: it is somebody else's.
    Refused,
    /// No reply.
    Unknown,
}

/// Why an operation of a [`Cluster`] failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The cluster cannot hold another replica now.
    #[error("no capacity for another replica: {0}")]
    NoCapacity(String),
    /// The request itself is wrong: repeating it cannot help.
    #[error("the replica was refused: {0}")]
    Rejected(String),
    /// The replica could not be started.
    #[error("starting replica {name} failed: {reason}")]
    Start {
        /// Name of the replica.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// No reply, or a reply that was lost.
    #[error("the cluster did not answer: {0}")]
    Unavailable(String),
}

/// What acts on replicas.
pub trait Cluster: Clone + Send + Sync + 'static {
    /// All replicas, then every change, without gaps: after a lag the stream relists by itself. It ends only with the
    /// cluster.
    fn watch(&self) -> impl Stream<Item = ReplicaEvent> + Send + Unpin + 'static;

    /// The replica as the store has it now; `None` when it is gone.
    fn get(&self, uid: &ReplicaUid) -> impl Future<Output = Result<Option<Replica>, ClusterError>> + Send;

    /// Starts a replica. It returns when the replica is recorded, not when it is ready: readiness comes on the watch.
    fn create(&self, new: NewReplica) -> impl Future<Output = Result<Replica, ClusterError>> + Send;

    /// Writes `patch` if the replica is as `expected`, in one atomic step (JSON Patch with `test` operations on Kubernetes).
    fn transition(
        &self,
        uid: &ReplicaUid,
        expected: &Expected,
        patch: &Patch,
    ) -> impl Future<Output = Transition> + Send;

    /// Deletes the replica if it is as `expected`.
    fn delete(&self, uid: &ReplicaUid, expected: &Expected) -> impl Future<Output = Deletion> + Send;
}
