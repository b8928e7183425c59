//! What one leader knows of a revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gateway_policy::Moment;

use super::effect::{Condition, ConditionReason};
use super::pod::FitKey;
use crate::ids::{ClaimId, Digest, RevisionKey, Uid};
use crate::resources::Resources;
use crate::revision::Revision;

/// What of a [`Revision`] matters for claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) digest: Digest,
    pub(super) runtime: Arc<str>,
    /// Absent for a revision without a pool.
    pub(super) fit: Option<FitKey>,
    pub(super) resources: Resources,
    pub(super) unavailable: Option<Arc<str>>,
}

impl Target {
    pub(super) fn of(revision: &Revision) -> Self {
        let placement = &revision.placement;
        Self {
            digest: revision.digest.clone(),
            runtime: Arc::clone(&revision.source.format),
            fit: placement.pool.as_ref().map(|pool| FitKey {
                namespace: Arc::clone(&revision.model.namespace),
                pool: Arc::clone(pool),
                service_account: Arc::clone(&placement.service_account),
                device: revision.device,
                contract: Arc::clone(&placement.contract),
            }),
            resources: placement.resources.clone(),
            unavailable: revision.unavailable.clone(),
        }
    }
}

/// A revision, or one that is gone and still has replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RevisionState {
    /// Absent for a revision that is not in the table.
    pub(super) target: Option<Target>,
    /// Absent until it was told: what another leader wanted is neither missing nor surplus.
    pub(super) desired: Option<u32>,
    /// Replicas that it owns or that are being claimed for it.
    pub(super) members: BTreeSet<Uid>,
    /// Cold starts that the watch has not shown yet, with the time until which they are waited for.
    pub(super) creating: BTreeMap<ClaimId, Creating>,
    /// Whether its model was ever loaded.
    pub(super) proven: bool,
    /// Failed activations since the last one that worked: also the number of replicas that they cost.
    pub(super) failures: u32,
    /// Replicas in a row that ended soon after they had begun to serve.
    pub(super) crashes: u32,
    pub(super) trouble: Option<(ConditionReason, Arc<str>)>,
    pub(super) retry_at: Option<Moment>,
    /// Cold starts that failed in a row, until when no other is tried, and why the last one failed.
    pub(super) failed_starts: u32,
    pub(super) no_start_before: Option<Moment>,
    pub(super) no_room: Option<Arc<str>>,
    /// Since when it has had fewer replicas than desired.
    pub(super) short_since: Option<Moment>,
    /// Since when it has found neither an idle replica nor room for a cold start.
    pub(super) waiting_since: Option<Moment>,
    /// The condition as last reported.
    pub(super) condition: Option<Condition>,
    pub(super) wake: Option<Moment>,
}

/// A cold start that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Creating {
    pub(super) wanted: Wanted,
    pub(super) until: Moment,
}

/// Since when a replica is wanted, and how much of the time since then was the pause after an attempt that had failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) since: Moment,
    pub(super) backoff: Duration,
}

impl RevisionState {
    /// Replicas that it should have now; `None` while that is not known.
    pub(super) fn want(&self) -> Option<usize> {
        match &self.target {
            Some(Target { unavailable: None, .. }) => Some(usize::try_from(self.desired?).unwrap_or(usize::MAX)),
            _ => Some(0),
        }
    }

    /// What an attempt that begins at `now` is for.
    pub(super) fn wanted(&self, now: Moment) -> Wanted {
        let since = self.short_since.unwrap_or(now);
        // A replica of the pool can come before the pause between starts is over.
        let paused_until =
            [self.retry_at, self.no_start_before].into_iter().flatten().max().map(|until| until.min(now));
        Wanted { since, backoff: paused_until.map_or(Duration::ZERO, |until| until.saturating_since(since)) }
    }

    /// Nothing is left to remember.
    pub(super) fn is_forgettable(&self) -> bool {
        self.target.is_none() && self.members.is_empty() && self.creating.is_empty()
    }
}

/// Revisions without a replica to claim and without room for a cold start, longest waiting first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    all: BTreeSet<(Moment, RevisionKey)>,
    by_fit: BTreeMap<FitKey, BTreeSet<(Moment, RevisionKey)>>,
}

impl Waiting {
    pub(super) fn insert(&mut self, since: Moment, key: &RevisionKey, fit: Option<&FitKey>) {
        self.all.insert((since, key.clone()));
        if let Some(fit) = fit {
            self.by_fit.entry(fit.clone()).or_default().insert((since, key.clone()));
        }
    }

    pub(super) fn remove(&mut self, since: Moment, key: &RevisionKey, fit: Option<&FitKey>) {
        let entry = (since, key.clone());
        self.all.remove(&entry);
        let Some(fit) = fit else { return };
        if let Some(waiting) = self.by_fit.get_mut(fit) {
            waiting.remove(&entry);
            if waiting.is_empty() {
                self.by_fit.remove(fit);
            }
        }
    }

    pub(super) fn first(&self) -> Option<&RevisionKey> {
        self.all.first().map(|(_, key)| key)
    }

    pub(super) fn for_fit<'a>(&'a self, fit: &FitKey) -> impl Iterator<Item = &'a RevisionKey> + use<'a> {
        self.by_fit.get(fit).into_iter().flatten().map(|(_, key)| key)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
