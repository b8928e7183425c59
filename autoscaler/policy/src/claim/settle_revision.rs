//! What is due for one revision: replicas to claim, to start, or to take out.

use std::cmp::Reverse;
use std::sync::Arc;

use gateway_policy::Moment;

use super::effect::{Condition, ConditionReason, Effect, Origin};
use super::pod::Label;
use super::replica::{Activation, Load, Pod};
use super::revision::{Creating, RevisionState, Wanted};
use super::state::{State, Timer, Work};
use crate::ids::{ClaimId, RevisionKey, Uid};

/// Where the next replica comes from.
enum Source {
    Pool,
    Cold,
    Nowhere,
}

impl State {
    pub(super) fn settle_revision(&mut self, key: &RevisionKey, work: &mut Work<'_>) {
        // What a leader has not seen, or not been told to want, it must not count as missing or as surplus.
        if !(self.synced && self.revisions_known) {
            return;
        }
        self.drop_overdue_creations(key, work);
        self.forgive_crashes(key, work.now);
        let Some(revision) = self.revisions.get(key) else { return };
        let have = self.supply(key, work.now);
        let want = revision.want().unwrap_or(have);
        if have > want {
            self.reap(key, have - want, work);
        }
        if have >= want {
            if let Some(revision) = self.revisions.get_mut(key) {
                revision.short_since = None;
            }
            self.leave_queue(key);
        } else {
            self.fill(key, want - have, work);
        }
        self.report(key, work);
        self.set_revision_timer(key, work.now);
        if self.revisions.get(key).is_some_and(RevisionState::is_forgettable)
            && let Some(revision) = self.revisions.remove(key)
        {
            self.set_timer(Timer::Revision(key.clone()), revision.wake, None);
        }
    }

    /// Replicas that serve or are on the way to, and cold starts that have not shown up.
    fn supply(&self, key: &RevisionKey, now: Moment) -> usize {
        self.revisions.get(key).map_or(0, |revision| {
            let pods = revision.members.iter().filter_map(|uid| self.pods.get(uid));
            pods.filter(|pod| pod.is_supply(now)).count() + revision.creating.len()
        })
    }

    fn drop_overdue_creations(&mut self, key: &RevisionKey, work: &mut Work<'_>) {
        let Some(revision) = self.revisions.get_mut(key) else { return };
        let overdue: Vec<ClaimId> = revision
            .creating
            .iter()
            .filter(|(_, creating)| creating.until <= work.now)
            .map(|(claim, _)| claim.clone())
            .collect();
        for claim in overdue {
            revision.creating.remove(&claim);
            self.cold.remove(&claim);
            work.revisions.extend(self.waiting.first().cloned());
        }
    }

    /// Takes out `surplus` replicas: unfinished ones first, then the newest. Among equals the lowest uid stays, so that
    /// two leaders pick the same.
    fn reap(&mut self, key: &RevisionKey, surplus: usize, work: &mut Work<'_>) {
        let Some(revision) = self.revisions.get(key) else { return };
        let rank =
            |uid: &Uid, pod: &Pod| (pod.view.label == Label::Serving, Reverse(pod.view.created), Reverse(uid.clone()));
        let mut victims: Vec<_> = revision
            .members
            .iter()
            .filter_map(|uid| self.pods.get(uid).filter(|pod| pod.is_supply(work.now)).map(|pod| rank(uid, pod)))
            .collect();
        victims.sort_unstable();
        for (_, _, Reverse(uid)) in victims.into_iter().take(surplus) {
            self.stop_pod(&uid, work);
        }
    }

    fn fill(&mut self, key: &RevisionKey, deficit: usize, work: &mut Work<'_>) {
        let Some(revision) = self.revisions.get_mut(key) else { return };
        let since = *revision.short_since.get_or_insert(work.now);
        if revision.retry_at.is_some_and(|at| work.now < at) {
            self.leave_queue(key);
            return;
        }
        let wanted = revision.wanted(work.now);
        for _ in 0..deficit.min(self.allowed_attempts(key, work.now)) {
            match self.next_source(key, work.now) {
                Source::Pool if self.claim_best(key, wanted, work) => {}
                Source::Pool | Source::Nowhere => return self.join_queue(key, since),
                Source::Cold => self.create(key, wanted, work),
            }
        }
        self.leave_queue(key);
    }

    /// How many activations may begin now, of a model that has failed or was never loaded. One that crashes its replicas has
    /// one at a time, until that has lasted.
    fn allowed_attempts(&self, key: &RevisionKey, now: Moment) -> usize {
        let Some(revision) = self.revisions.get(key) else { return 0 };
        if self.is_crash_looping(revision) {
            return 1_usize.saturating_sub(self.supply(key, now));
        }
        let limit = match (revision.failures, revision.proven) {
            (1.., _) => 1,
            (0, true) => return usize::MAX,
            (0, false) => self.settings.max_unproven,
        };
        let activating =
            |pod: &&Pod| pod.activation.as_ref().is_some_and(|a| !matches!(a.load, Load::Done | Load::Failed));
        let pods = revision.members.iter().filter_map(|uid| self.pods.get(uid));
        limit.saturating_sub(pods.filter(activating).count() + revision.creating.len())
    }

    fn next_source(&self, key: &RevisionKey, now: Moment) -> Source {
        let Some(revision) = self.revisions.get(key) else { return Source::Nowhere };
        let Some(target) = &revision.target else { return Source::Nowhere };
        let idle = self.idle.best(target, &self.times).is_some();
        let allowed = revision.no_start_before.is_none_or(|at| at <= now);
        let room = allowed && self.cold.len() < self.settings.max_cold_starts;
        // Two replicas of the pool could not be activated: something of the pool may be broken, a fresh one may not be.
        let pool_failed = revision.failures % 3 == 2;
        match (idle, room) {
            (true, true) if pool_failed => Source::Cold,
            (true, _) => Source::Pool,
            (false, true) => Source::Cold,
            (false, false) => Source::Nowhere,
        }
    }

    /// Hands the best idle replica to this revision; nobody else is offered it from here on.
    fn claim_best(&mut self, key: &RevisionKey, wanted: Wanted, work: &mut Work<'_>) -> bool {
        let target = self.revisions.get(key).and_then(|revision| revision.target.as_ref());
        let Some((uid, level)) = target.and_then(|target| self.idle.best(target, &self.times)) else { return false };
        let Some(pod) = self.pods.get_mut(&uid) else { return false };
        pod.activation = Some(Activation {
            claim: ClaimId::from(format!("{}-{uid}", self.incarnation)),
            revision: key.clone(),
            deadline: work.now + self.settings.claim_deadline,
            wanted: Some(wanted),
            origin: Origin::Pool,
            level,
            load: Load::Needed,
        });
        self.reindex(&uid, work);
        work.pods.insert(uid);
        true
    }

    fn create(&mut self, key: &RevisionKey, wanted: Wanted, work: &mut Work<'_>) {
        let Some(revision) = self.revisions.get_mut(key) else { return };
        self.created += 1;
        let claim = ClaimId::from(format!("{}-cold-{}", self.incarnation, self.created));
        let deadline = work.now + self.settings.claim_deadline;
        revision.creating.insert(claim.clone(), Creating { wanted, until: deadline });
        self.cold.insert(claim.clone(), key.clone());
        work.effects.push(Effect::Create { claim, revision: key.clone(), deadline });
    }

    fn join_queue(&mut self, key: &RevisionKey, since: Moment) {
        let Some(revision) = self.revisions.get_mut(key) else { return };
        if revision.waiting_since.is_none() {
            revision.waiting_since = Some(since);
            self.waiting.insert(since, key, revision.target.as_ref().and_then(|target| target.fit.as_ref()));
        }
    }

    fn leave_queue(&mut self, key: &RevisionKey) {
        let Some(revision) = self.revisions.get_mut(key) else { return };
        if let Some(since) = revision.waiting_since.take() {
            self.waiting.remove(since, key, revision.target.as_ref().and_then(|target| target.fit.as_ref()));
        }
    }

    /// Says what keeps the revision from having its replicas, when that has changed.
    fn report(&mut self, key: &RevisionKey, work: &mut Work<'_>) {
        let has_supply = self.supply(key, work.now) > 0;
        let Some(revision) = self.revisions.get_mut(key) else { return };
        let Some(target) = &revision.target else { return };
        let condition = if let Some(message) = &target.unavailable {
            Some(Condition { reason: ConditionReason::DeviceUnavailable, message: Arc::clone(message), retry_at: None })
        } else if let Some((reason, message)) = &revision.trouble {
            Some(Condition { reason: *reason, message: Arc::clone(message), retry_at: revision.retry_at })
        } else if revision.waiting_since.is_some() && !has_supply {
            let message = revision.no_room.clone();
            Some(Condition {
                reason: ConditionReason::NoCapacity,
                message: message
                    .unwrap_or_else(|| Arc::from("no idle replica fits and no more may be started at the moment")),
                retry_at: revision.no_start_before,
            })
        } else {
            None
        };
        if revision.condition != condition {
            revision.condition.clone_from(&condition);
            work.effects.push(Effect::Condition { revision: key.clone(), condition });
        }
    }

    fn set_revision_timer(&mut self, key: &RevisionKey, now: Moment) {
        let settles = self.next_to_settle(key);
        let Some(revision) = self.revisions.get_mut(key) else { return };
        let short = revision.short_since.is_some();
        let retry = [revision.retry_at, revision.no_start_before].into_iter().flatten().filter(|at| short && *at > now);
        let creating = revision.creating.values().map(|creating| creating.until).min();
        let wake = retry.chain(creating).chain(settles.filter(|at| short && *at > now)).min();
        let old = std::mem::replace(&mut revision.wake, wake);
        self.set_timer(Timer::Revision(key.clone()), old, wake);
    }
}
