//! A replica as every adapter describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// Identity of one replica, never reused: the pod's uid on Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReplicaUid(pub String);

impl fmt::Display for ReplicaUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The label `kferving.dev/state`: who owns the replica and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// In its pool, free to be claimed.
    Idle,
    /// Owned by a claim, not yet published.
    Claimed,
    /// Serves a revision.
    Serving,
    /// Takes no new requests; deleted once it is drained.
    Draining,
    /// Taken out of the pool to shrink it; deleted next.
    Retired,
}

impl ReplicaState {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Claimed => "claimed",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Retired => "retired",
        }
    }
}

/// What the machine says of the replica, whatever its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Being started; its addresses are not known yet.
    Starting,
    /// Up: it answers on both addresses.
    Ready {
        /// Where it takes predictions.
        traffic: SocketAddr,
        /// Where it takes specialize and drain.
        admin: SocketAddr,
        /// Where Prometheus reads it.
        metrics: SocketAddr,
    },
    /// It ended by itself.
    Exited {
        /// Why, for people.
        reason: String,
    },
}

/// Annotations `kferving.dev/claim-id` and `-deadline`, and the owner of a claimed replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Unique id of the claim.
    pub id: String,
    /// The revision that owns the replica, as NAMESPACE/REVISION (its WarmScale on Kubernetes).
    pub revision: String,
    /// A claimed replica that does not serve by then is deleted.
    pub deadline: SystemTime,
}

impl Claim {
    /// Whether the revision that claims is in `namespace`: an owner and what it owns always are in the same one.
    #[must_use]
    pub fn is_in_namespace(&self, namespace: &str) -> bool {
        self.revision.split_once('/').is_some_and(|(owner, _)| owner == namespace)
    }
}

/// The labels that make a replica part of a Knative revision: `serving.knative.dev/{revision,revisionUID,service,configuration}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingIdentity {
    /// Name of the revision, without namespace.
    pub revision: String,
    /// Uid of the revision.
    pub revision_uid: String,
    /// Name of the Knative Service.
    pub service: String,
}

/// One replica: an idle, claimed or serving wrapper.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Identity, never reused.
    pub uid: ReplicaUid,
    /// Name that people see.
    pub name: String,
    /// Kubernetes namespace, or the one that `poolctl up` was given.
    pub namespace: String,
    /// The WarmPool it was made for (`kferving.dev/pool`); empty for one that was started cold for a revision.
    pub pool: String,
    /// `kferving.dev/device`: cpu or gpu.
    pub device: String,
    /// `kferving.dev/contract`: version of the contract between wrapper and autoscaler.
    pub contract: String,
    /// Service account it runs as.
    pub service_account: String,
    /// Resource requests as Kubernetes quantities, by resource name.
    pub resources: BTreeMap<String, String>,
    /// `kferving.dev/state`.
    pub state: ReplicaState,
    /// The claim that owns it, from `claimed` on.
    pub claim: Option<Claim>,
    /// The revision it is published as, from `serving` on.
    pub serving: Option<ServingIdentity>,
    /// What the machine says of it.
    pub lifecycle: Lifecycle,
    /// When it was created.
    pub created: SystemTime,
    /// From creation to ready, once it was ready: what a cold start costs.
    pub startup: Option<Duration>,
    /// Process id, where the replica is a process of this machine.
    pub pid: Option<u32>,
}

/// What a replica must look like for a write to take effect. Fields left `None` are not tested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The state label.
    pub state: Option<ReplicaState>,
    /// The claim id.
    pub claim_id: Option<String>,
}

impl Expected {
    /// Whether `replica` is as expected.
    #[must_use]
    pub fn is_met_by(&self, replica: &Replica) -> bool {
        self.state.is_none_or(|state| state == replica.state)
            && self.claim_id.as_ref().is_none_or(|id| replica.claim.as_ref().is_some_and(|claim| claim.id == *id))
    }
}

/// A write to a replica. Fields left `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// New state label.
    pub state: Option<ReplicaState>,
    /// New claim.
    pub claim: Option<Claim>,
    /// New serving identity; `Some(None)` takes the Knative labels off.
    pub serving: Option<Option<ServingIdentity>>,
}

impl Patch {
    /// Writes the fields that are set.
    pub fn apply_to(&self, replica: &mut Replica) {
        if let Some(state) = self.state {
            replica.state = state;
        }
        if let Some(claim) = &self.claim {
            replica.claim = Some(claim.clone());
        }
        if let Some(serving) = &self.serving {
            replica.serving.clone_from(serving);
        }
    }
}

/// A replica to start.
#[derive(Clone, Debug, PartialEq)]
pub struct NewReplica {
    /// Namespace to start it in.
    pub namespace: String,
    /// The pool it is for; empty for a cold start.
    pub pool: String,
    /// cpu or gpu.
    pub device: String,
    /// Service account to run as.
    pub service_account: String,
    /// Resource requests as Kubernetes quantities, by resource name.
    pub resources: BTreeMap<String, String>,
    /// For a cold start: it is born `claimed`, owned by this claim, so that no other claimant can take it.
    pub claim: Option<Claim>,
}
