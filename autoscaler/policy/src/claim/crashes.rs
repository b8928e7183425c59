//! Models that crash the replicas that serve them.
//!
//! Such a model loads without fault, so that each of its replicas would be replaced at once, as one is that something else
//! has killed, and a single caller could take the whole pool apart. A replica that ends before it has settled therefore
//! counts against its model, unless a settled one shows that it can be served.

use std::sync::Arc;

use gateway_policy::Moment;

use super::effect::ConditionReason;
use super::pod::Lifecycle;
use super::replica::Stop;
use super::revision::RevisionState;
use super::state::{State, Work};
use crate::ids::{RevisionKey, Uid};

impl State {
    /// A replica that gateways were told of is gone or about to be.
    pub(super) fn note_end_of_service(&mut self, uid: &Uid, key: &RevisionKey, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(since) = pod.serves_since.take() else { return };
        let stopping = pod.stop != Stop::Not;
        let settled =
            self.settings.settled_after <= work.now.saturating_since(since) || self.has_settled(key, work.now);
        let Some(revision) = self.revisions.get_mut(key) else { return };
        if settled {
            revision.crashes = 0;
        }
        if settled || stopping {
            return;
        }
        revision.crashes = revision.crashes.saturating_add(1);
        let excess = revision.crashes.saturating_sub(self.settings.crashes_tolerated);
        if excess > 0 {
            revision.retry_at = Some(work.now + self.settings.backoff(excess));
            let message = format!(
                "{} replicas in a row ended soon after they had begun to serve this model: see their logs",
                revision.crashes
            );
            revision.trouble = Some((ConditionReason::CrashLooping, Arc::from(message)));
        }
        work.revisions.insert(key.clone());
    }

    /// A replica that has lasted shows that the model can be served.
    pub(super) fn forgive_crashes(&mut self, key: &RevisionKey, now: Moment) {
        let crashed = self.revisions.get(key).is_some_and(|revision| revision.crashes > 0);
        if crashed
            && self.has_settled(key, now)
            && let Some(revision) = self.revisions.get_mut(key)
        {
            revision.crashes = 0;
        }
    }

    pub(super) fn is_crash_looping(&self, revision: &RevisionState) -> bool {
        revision.crashes > self.settings.crashes_tolerated
    }

    /// When a replica of a model that crashes them will have lasted.
    pub(super) fn next_to_settle(&self, key: &RevisionKey) -> Option<Moment> {
        let revision = self.revisions.get(key).filter(|revision| self.is_crash_looping(revision))?;
        let pods = revision.members.iter().filter_map(|uid| self.pods.get(uid));
        pods.filter(|pod| pod.is_ready())
            .filter_map(|pod| pod.serves_since)
            .min()
            .map(|at| at + self.settings.settled_after)
    }

    /// Of one that another leader brought up it is not known, and taken to be so.
    fn has_settled(&self, key: &RevisionKey, now: Moment) -> bool {
        let Some(revision) = self.revisions.get(key) else { return false };
        let lasted = |since| self.settings.settled_after <= now.saturating_since(since);
        let mut pods = revision.members.iter().filter_map(|uid| self.pods.get(uid)).filter(|pod| pod.is_ready());
        pods.any(|pod| pod.view.lifecycle != Lifecycle::Exited && pod.serves_since.is_none_or(lasted))
    }
}
