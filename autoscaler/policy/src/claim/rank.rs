//! Which idle replica would be up first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::pod::{FitKey, PodView, Warmth};
use super::revision::Target;
use crate::ids::{Digest, Uid};
use crate::resources::Resources;

/// How similar an idle replica is to what a revision needs, most similar first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The model is in its memory.
    Loaded,
    /// Its runtime is started and the model is in the cache of its machine.
    Cached,
    /// Its runtime is started.
    Runtime,
    /// It has neither.
    Bare,
}

impl Level {
    const ALL: [Self; 4] = [Self::Loaded, Self::Cached, Self::Runtime, Self::Bare];

    /// Activation time to assume until one is measured.
    const fn prior(self) -> Duration {
        match self {
            Self::Loaded => Duration::from_millis(5),
            Self::Cached => Duration::from_millis(20),
            Self::Runtime => Duration::from_millis(200),
            Self::Bare => Duration::from_secs(2),
        }
    }
}

/// What activations have taken, and on which machines models have been loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ActivationTimes {
    cached_on: BTreeMap<Digest, BTreeSet<Arc<str>>>,
    measured: BTreeMap<(Digest, Level), Duration>,
}

impl ActivationTimes {
    /// Similarity of a replica with this warmth to a revision.
    pub(super) fn level(&self, warmth: &Warmth, target: &Target) -> Level {
        if warmth.loaded.as_ref() == Some(&target.digest) {
            Level::Loaded
        } else if warmth.runtime != target.runtime {
            Level::Bare
        } else if self.cached_on.get(&target.digest).is_some_and(|nodes| nodes.contains(&warmth.node)) {
            Level::Cached
        } else {
            Level::Runtime
        }
    }

    /// Predicted time from claim to serving. What is not measured is no slower than what is measured of a less similar
    /// replica.
    pub(super) fn predict(&self, digest: &Digest, level: Level) -> Duration {
        let measured = |level: Level| self.measured.get(&(digest.clone(), level)).copied();
        measured(level).unwrap_or_else(|| {
            let less_similar = Level::ALL.into_iter().filter(|other| *other > level).filter_map(measured);
            less_similar.chain([level.prior()]).min().unwrap_or_default()
        })
    }

    /// A replica at `level` took `time` to load the model; its machine has it in the cache now.
    pub(super) fn record(&mut self, digest: &Digest, level: Level, node: &Arc<str>, time: Duration) {
        // An eighth, as TCP smooths its round trips: a few activations settle it, one outlier does not upset it.
        let smooth = |old: Duration| (old * 7 + time) / 8;
        let measured = self.measured.entry((digest.clone(), level)).or_insert(time);
        *measured = smooth(*measured);
        self.cached_on.entry(digest.clone()).or_default().insert(Arc::clone(node));
    }

    /// Forgets digests that no revision has.
    pub(super) fn retain(&mut self, known: &BTreeSet<Digest>) {
        self.cached_on.retain(|digest, _| known.contains(digest));
        self.measured.retain(|(digest, _), _| known.contains(digest));
    }
}

/// Idle replicas, grouped by all that tells one from another for a claimant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct IdleIndex {
    by_fit: BTreeMap<Arc<FitKey>, BTreeMap<Group, BTreeSet<Uid>>>,
    count: usize,
}

type Group = (Arc<Warmth>, Arc<Resources>);

impl IdleIndex {
    pub(super) fn insert(&mut self, view: &PodView) {
        let groups = self.by_fit.entry(Arc::clone(&view.fit)).or_default();
        let group = groups.entry((Arc::clone(&view.warmth), Arc::clone(&view.resources))).or_default();
        self.count += usize::from(group.insert(view.uid.clone()));
    }

    pub(super) fn remove(&mut self, view: &PodView) {
        let group_key = (Arc::clone(&view.warmth), Arc::clone(&view.resources));
        let Some(groups) = self.by_fit.get_mut(&view.fit) else { return };
        let Some(group) = groups.get_mut(&group_key) else { return };
        self.count -= usize::from(group.remove(&view.uid));
        if group.is_empty() {
            groups.remove(&group_key);
        }
        if groups.is_empty() {
            self.by_fit.remove(&view.fit);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The replica that fits `target` and is predicted to be up first.
    pub(super) fn best(&self, target: &Target, times: &ActivationTimes) -> Option<(Uid, Level)> {
        let groups = self.by_fit.get(target.fit.as_ref()?)?;
        groups
            .iter()
            .filter(|((_, resources), _)| resources.satisfies(&target.resources))
            .filter_map(|((warmth, _), uids)| {
                let level = times.level(warmth, target);
                Some((times.predict(&target.digest, level), level, uids.first()?))
            })
            .min()
            .map(|(_, level, uid)| (uid.clone(), level))
    }
}
