//! What the cluster, the table of revisions and the gateways say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::claim::effect::{ConditionReason, Effect, Origin};
use crate::claim::pod::{Label, PodView};
use crate::claim::rank::Level;
use crate::claim::replica::{Activation, Ask, Load, Place, Pod, Stop};
use crate::claim::revision::Target;
use crate::claim::state::{State, Timer, Work};
use crate::ids::{ClaimId, RevisionKey, Uid};
use crate::revision::Revision;

impl State {
    pub(super) fn note_applied(&mut self, view: PodView, work: &mut Work<'_>) {
        let uid = view.uid.clone();
        if self.pods.contains_key(&uid) {
            self.merge(&uid, &view);
        } else {
            let mut pod = Pod::new(view);
            if let Some(owner) = &pod.view.ownership
                && let Some(revision) = self.revisions.get_mut(&owner.revision)
                && let Some(creating) = revision.creating.remove(&owner.claim)
            {
                pod.activation = Some(Activation {
                    claim: owner.claim.clone(),
                    revision: owner.revision.clone(),
                    deadline: owner.deadline,
                    wanted: Some(creating.wanted),
                    origin: Origin::Cold,
                    level: Level::Bare,
                    load: Load::Needed,
                });
            }
            self.pods.insert(uid.clone(), pod);
        }
        if let Some((revision, claim)) = self.reports.remove(&uid) {
            self.note_reported(revision, uid.clone(), claim, work);
        }
        work.pods.insert(uid);
    }

    /// The replica does not exist any more.
    pub(in crate::claim) fn forget_pod(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let published = self.pods.get(uid).and_then(|pod| pod.published.as_ref());
        if let Some(revision) = published.map(|(revision, _)| revision.clone()) {
            self.note_end_of_service(uid, &revision, work);
        }
        let Some(mut pod) = self.pods.remove(uid) else { return };
        if pod.place == Place::Candidate {
            self.idle.remove(&pod.view);
        }
        self.set_timer(Timer::Pod(uid.clone()), pod.wake, None);
        if let Some((revision, _)) = pod.published.take() {
            work.effects.push(Effect::Gone { uid: uid.clone(), revision });
        }
        if let Some(activation) = pod.activation.take() {
            if matches!(activation.load, Load::Sent(_)) && pod.view.label < Label::Draining && !pod.doomed {
                let message = Arc::from("the replica ended while it loaded the model");
                self.count_failure(&activation.revision, Some((ConditionReason::LoadFailed, message)), work);
            }
            self.cold_start_ended(&activation.claim, work);
        }
        for key in [pod.view.ownership.map(|owner| owner.revision), member_of(pod.place)].into_iter().flatten() {
            if let Some(revision) = self.revisions.get_mut(&key) {
                revision.members.remove(uid);
            }
            work.revisions.insert(key);
        }
    }

    pub(super) fn note_synced(&mut self, work: &mut Work<'_>) {
        self.synced = true;
        for (uid, (revision, _)) in std::mem::take(&mut self.reports) {
            work.effects.push(Effect::Gone { uid, revision });
        }
        work.revisions.extend(self.revisions.keys().cloned());
    }

    pub(super) fn note_revisions(&mut self, revisions: &[Arc<Revision>], work: &mut Work<'_>) {
        self.revisions_known = true;
        let mut targets: BTreeMap<_, _> =
            revisions.iter().map(|revision| (revision.key.clone(), Target::of(revision))).collect();
        let digests: BTreeSet<_> = targets.values().map(|target| target.digest.clone()).collect();
        self.times.retain(&digests);
        for (key, state) in &mut self.revisions {
            let target = targets.remove(key);
            if state.target == target {
                continue;
            }
            if let Some(since) = state.waiting_since.take() {
                let fit = state.target.as_ref().and_then(|target| target.fit.as_ref());
                self.waiting.remove(since, key, fit);
            }
            // What kept the old definition from loading says nothing about the new one.
            state.failures = 0;
            state.crashes = 0;
            state.trouble = None;
            state.retry_at = None;
            state.target = target;
            work.revisions.insert(key.clone());
        }
        for (key, target) in targets {
            self.revisions.entry(key.clone()).or_default().target = Some(target);
            work.revisions.insert(key);
        }
        work.revisions
            .extend(self.revisions.iter().filter(|(_, state)| state.target.is_none()).map(|(key, _)| key.clone()));
    }

    pub(super) fn note_reported(&mut self, revision: RevisionKey, uid: Uid, claim: ClaimId, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(&uid) else {
            if self.synced {
                work.effects.push(Effect::Gone { uid, revision });
            } else {
                self.reports.insert(uid, (revision, claim));
            }
            return;
        };
        let reported = (revision, claim);
        let other_claim = |a: &Activation| a.claim != reported.1;
        let on_its_way_out = pod.stop != Stop::Not || pod.doomed || pod.gone;
        if on_its_way_out
            || pod.published.as_ref().is_some_and(|published| *published != reported)
            || pod.activation.as_ref().is_some_and(other_claim)
        {
            work.effects.push(Effect::Gone { uid, revision: reported.0 });
            return;
        }
        if pod.view.label == Label::Idle && pod.activation.is_none() && !pod.spent {
            pod.activation = Some(Activation {
                claim: reported.1.clone(),
                revision: reported.0.clone(),
                deadline: work.now + self.settings.claim_deadline,
                wanted: None,
                origin: Origin::Pool,
                level: Level::Runtime,
                load: Load::Done,
            });
        } else if let Some(activation) = &mut pod.activation {
            // It was published because its wrapper had answered for this claim.
            activation.load = Load::Done;
        }
        pod.published = Some(reported);
        work.pods.insert(uid);
    }

    pub(super) fn note_fault(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.published.is_some() && pod.ask == Ask::Not && pod.stop == Stop::Not {
            pod.ask = Ask::Wanted;
            work.pods.insert(uid.clone());
        }
    }
}

fn member_of(place: Place) -> Option<RevisionKey> {
    match place {
        Place::Member(key) => Some(key),
        Place::None | Place::Candidate => None,
    }
}
