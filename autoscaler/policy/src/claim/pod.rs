//! A replica as the claim protocol sees it.

use std::sync::Arc;

use gateway_policy::{Device, Moment};

use crate::ids::{ClaimId, Digest, RevisionKey, Uid};
use crate::resources::Resources;

/// The label `kferving.dev/state`. A replica's label only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// In its pool, free to be claimed.
    Idle,
    /// Owned by a claim, not yet published.
    Claimed,
    /// Serves a revision.
    Serving,
    /// Takes no new requests; deleted once it is drained.
    Draining,
    /// Taken out of the pool to shrink it.
    Retired,
}

/// What the machine says of a replica. It, too, only moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifecycle {
    /// Being started.
    Starting,
    /// It answers on its traffic and its admin port.
    Ready,
    /// It ended by itself.
    Exited,
}

/// Who owns a replica from `claimed` on. It never changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    /// The claim.
    pub claim: ClaimId,
    /// The revision that it serves, or will.
    pub revision: RevisionKey,
    /// A claimed replica that does not serve by then is deleted.
    pub deadline: Moment,
}

/// What must be equal for a replica to fit a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FitKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name of the warm pool.
    pub pool: Arc<str>,
    /// Service account it runs as.
    pub service_account: Arc<str>,
    /// Device class.
    pub device: Device,
    /// Version of the contract between wrapper and autoscaler.
    pub contract: Arc<str>,
}

/// What makes one fitting replica faster to activate than another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Warmth {
    /// The model that it has in memory already.
    pub loaded: Option<Digest>,
    /// The machine it runs on: a model that was fetched there is in that machine's cache.
    pub node: Arc<str>,
    /// Model format whose runtime it has started.
    pub runtime: Arc<str>,
}

/// One replica as a watch, or the reply to a read or a write, describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodView {
    /// Identity, never reused.
    pub uid: Uid,
    /// The state label.
    pub label: Label,
    /// The claim that owns it, from `claimed` on.
    pub ownership: Option<Ownership>,
    /// What the machine says.
    pub lifecycle: Lifecycle,
    /// What it fits.
    pub fit: Arc<FitKey>,
    /// What it has.
    pub resources: Arc<Resources>,
    /// How warm it is.
    pub warmth: Arc<Warmth>,
    /// When it was created.
    pub created: Moment,
}

impl PodView {
    /// Takes over what `newer` knows further.
    ///
    /// Replies and the watch travel on different ways, so an older view can arrive after a newer one. Label and
    /// lifecycle never move back, so whichever is further is the later.
    pub(crate) fn merge(&mut self, newer: &Self) {
        if newer.label > self.label {
            self.label = newer.label;
            self.ownership.clone_from(&newer.ownership);
        }
        self.lifecycle = self.lifecycle.max(newer.lifecycle);
        if self.resources != newer.resources {
            self.resources = Arc::clone(&newer.resources);
        }
        if self.warmth != newer.warmth {
            self.warmth = Arc::clone(&newer.warmth);
        }
    }
}
