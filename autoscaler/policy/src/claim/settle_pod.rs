//! What is due for one replica, from its label and what is known of it.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::Moment;

use super::effect::{ConditionReason, Effect, Origin, Timings};
use super::event::{Ticket, Write};
use super::pod::{Label, Lifecycle};
use super::rank::Level;
use super::replica::{Activation, Ask, Load, Op, Pod, Stop};
use super::revision::Wanted;
use super::settings::Order;
use super::state::{State, Work};
use crate::ids::{ClaimId, RevisionKey, Uid};

impl State {
    pub(super) fn settle_pod(&mut self, uid: &Uid, work: &mut Work<'_>) {
        self.reconcile_owner(uid, work);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.gone {
            return;
        }
        // An operation without a reply is resolved before anything else is tried.
        if let Op::Wait(until) = pod.op
            && until <= work.now
        {
            pod.op = Op::Get;
            work.effects.push(Effect::Get { uid: uid.clone() });
        }
        if let Some(revision) = pod.published.as_ref().map(|(revision, _)| revision.clone())
            && (pod.doomed || pod.view.lifecycle == Lifecycle::Exited)
        {
            pod.published = None;
            work.effects.push(Effect::Gone { uid: uid.clone(), revision: revision.clone() });
            self.note_end_of_service(uid, &revision, work);
        }
        let Some(pod) = self.pods.get(uid) else { return };
        match pod.view.label {
            Label::Idle => self.settle_idle(uid, work),
            Label::Claimed | Label::Serving => self.settle_owned(uid, work),
            Label::Draining => self.settle_draining(uid, work),
            Label::Retired => {}
        }
    }

    /// The label is the truth about ownership: what contradicts it is dropped.
    fn reconcile_owner(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let lost_idle = pod.view.label == Label::Idle && pod.spent;
        let owner = pod.view.ownership.as_ref().map(|owner| &owner.claim);
        let is_foreign = |claim: &ClaimId| match pod.view.label {
            Label::Idle => lost_idle,
            Label::Claimed | Label::Serving => owner != Some(claim),
            // What is on its way out is nobody's to publish, but by the one who is taking it out.
            Label::Draining | Label::Retired => owner != Some(claim) || pod.stop == Stop::Not,
        };
        let dropped = pod.activation.take_if(|activation| is_foreign(&activation.claim));
        let unpublished = pod.published.take_if(|(_, claim)| is_foreign(claim));
        if let Some((revision, _)) = unpublished {
            work.effects.push(Effect::Gone { uid: uid.clone(), revision });
        }
        if let Some(activation) = dropped {
            if pod.op == Op::Write(Write::Claim) || pod.op == Op::Write(Write::ClaimServing) {
                pod.op = Op::None;
            }
            pod.doomed = false;
            work.revisions.insert(activation.revision.clone());
            self.cold_start_ended(&activation.claim, work);
        }
    }

    fn settle_idle(&mut self, uid: &Uid, work: &mut Work<'_>) {
        self.expire(uid, work);
        let order = self.settings.order;
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(activation) = &mut pod.activation else { return };
        let (claim, revision, deadline) = (activation.claim.clone(), activation.revision.clone(), activation.deadline);
        let one_patch = activation.level == Level::Loaded;
        let send_now = order == Order::Optimistic && activation.load == Load::Needed;
        if send_now {
            activation.load = Load::Sent(work.now);
        }
        if pod.op == Op::None {
            // Also one whose model failed: without the label it could not be deleted, and would stay in the pool.
            let write = if one_patch { Write::ClaimServing } else { Write::Claim };
            pod.write(write, deadline, work);
        }
        if send_now {
            work.effects.push(Effect::Specialize { uid: uid.clone(), claim, revision, deadline });
        }
    }

    fn settle_owned(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.view.lifecycle == Lifecycle::Exited && !pod.doomed {
            let loading = pod.activation.as_ref().is_some_and(|a| matches!(a.load, Load::Sent(_) | Load::Needed));
            pod.doomed = true;
            if loading {
                let message = Arc::from("the replica ended while it loaded the model");
                self.fail_activation(uid, Some((ConditionReason::LoadFailed, message)), work);
            }
        }
        self.begin_finishing(uid);
        self.expire(uid, work);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.doomed {
            pod.delete(work);
        } else if pod.stop == Stop::Not {
            self.bring_up(uid, work);
            self.ask(uid, work);
        } else {
            pod.take_out(work);
        }
    }

    /// An owned replica that is not published is finished, whoever claimed it.
    fn begin_finishing(&mut self, uid: &Uid) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(owner) = &pod.view.ownership else { return };
        let finished = pod.view.label == Label::Serving && pod.published.is_some();
        if pod.activation.is_some() || finished || pod.stop != Stop::Not {
            return;
        }
        // A gateway uses only what had answered, and the label says serving only of that; but for a replica that had the
        // model from the start, whose label is written in one patch while its wrapper is asked.
        let one_patch = pod.view.warmth.loaded.is_some();
        let is_up = pod.published.is_some() || pod.view.label == Label::Serving && !one_patch;
        // A replica that was started for its revision is of no pool.
        let origin = if pod.view.fit.pool.is_empty() { Origin::Cold } else { Origin::Pool };
        pod.activation = Some(Activation {
            claim: owner.claim.clone(),
            revision: owner.revision.clone(),
            deadline: owner.deadline,
            wanted: None,
            origin,
            level: Level::Runtime,
            load: if is_up { Load::Done } else { Load::Unknown },
        });
    }

    /// The deadline of an activation ends it.
    fn expire(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get(uid) else { return };
        let Some(activation) = pod.activation.as_ref().filter(|a| a.deadline <= work.now && !pod.doomed) else {
            return;
        };
        let expired = match activation.load {
            // It may serve already: only its wrapper can say.
            Load::Unknown => pod.unanswered > 0,
            Load::Needed | Load::Sent(_) => true,
            Load::Done | Load::Failed => false,
        };
        if expired {
            let sent = matches!(activation.load, Load::Sent(_));
            let message = Arc::from("the model did not load before its deadline");
            self.fail_activation(uid, sent.then_some((ConditionReason::LoadFailed, message)), work);
        }
    }

    /// Claimed → loaded → published → serving.
    fn bring_up(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(activation) = &mut pod.activation else { return };
        match activation.load {
            Load::Unknown if pod.ask == Ask::Not => pod.ask = Ask::Wanted,
            Load::Needed if pod.view.lifecycle == Lifecycle::Ready => {
                activation.load = Load::Sent(work.now);
                work.effects.push(Effect::Specialize {
                    uid: uid.clone(),
                    claim: activation.claim.clone(),
                    revision: activation.revision.clone(),
                    deadline: activation.deadline,
                });
            }
            Load::Done => {
                let (claim, revision) = (activation.claim.clone(), activation.revision.clone());
                let deadline = activation.deadline;
                if pod.published.is_none() {
                    pod.published = Some((revision.clone(), claim.clone()));
                    let (uid, claim) = (uid.clone(), claim.clone());
                    work.effects.push(Effect::Publish { uid, claim, revision, timings: None });
                }
                if pod.view.label == Label::Serving {
                    pod.activation = None;
                    self.cold_start_ended(&claim, work);
                } else if pod.op == Op::None {
                    pod.write(Write::Serve, deadline, work);
                }
            }
            Load::Unknown | Load::Needed | Load::Sent(_) | Load::Failed => {}
        }
    }

    fn ask(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let due = match pod.ask {
            Ask::Wanted => true,
            Ask::Wait(until) => until <= work.now,
            Ask::Not | Ask::Sent => false,
        };
        if due && pod.view.lifecycle == Lifecycle::Ready {
            pod.ask = Ask::Sent;
            work.effects.push(Effect::AskState { uid: uid.clone() });
        }
    }

    fn settle_draining(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.view.lifecycle == Lifecycle::Exited || pod.doomed || pod.stop == Stop::Drained {
            pod.delete(work);
        } else if pod.stop != Stop::Draining
            && let Some(owner) = &pod.view.ownership
        {
            pod.stop = Stop::Draining;
            work.effects.push(Effect::Drain { uid: uid.clone(), claim: owner.claim.clone() });
        }
    }

    /// The wrapper answered 200: requests can go to it at once, whatever is still to be written.
    pub(super) fn publish_loaded(&mut self, uid: &Uid, took: Duration, load: Duration, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(activation) = &mut pod.activation else { return };
        let Load::Sent(sent) = activation.load else { return };
        activation.load = Load::Done;
        let (revision, claim) = (activation.revision.clone(), activation.claim.clone());
        let wanted = activation.wanted.unwrap_or(Wanted { since: sent, backoff: Duration::ZERO });
        if pod.published.is_none() && pod.stop == Stop::Not && !pod.doomed {
            pod.published = Some((revision.clone(), claim.clone()));
            pod.serves_since = Some(work.now);
            let timings = Timings {
                backoff: wanted.backoff,
                claim: sent.saturating_since(wanted.since + wanted.backoff),
                specialize: took.saturating_sub(load),
                load,
                origin: activation.origin,
            };
            work.effects.push(Effect::Publish {
                uid: uid.clone(),
                claim: claim.clone(),
                revision: revision.clone(),
                timings: Some(timings),
            });
        }
        if let Some(state) = self.revisions.get_mut(&revision) {
            state.proven = true;
            state.failures = 0;
            state.trouble = None;
            state.retry_at = None;
        }
        work.revisions.insert(revision);
        self.cold_start_ended(&claim, work);
    }

    /// The activation came to nothing: the replica is to be deleted as soon as its label says that it is ours.
    pub(super) fn fail_activation(
        &mut self,
        uid: &Uid,
        trouble: Option<(ConditionReason, Arc<str>)>,
        work: &mut Work<'_>,
    ) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.doomed = true;
        let Some(activation) = &mut pod.activation else { return };
        if activation.load == Load::Failed {
            return;
        }
        activation.load = Load::Failed;
        let (revision, claim): (RevisionKey, _) = (activation.revision.clone(), activation.claim.clone());
        work.pods.insert(uid.clone());
        self.count_failure(&revision, trouble, work);
        self.cold_start_ended(&claim, work);
    }

    /// Begins to take a replica out of service. One that is only being claimed goes once its claim is decided.
    pub(super) fn stop_pod(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let until = work.now + self.settings.removal_ack;
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(owner) = &pod.view.ownership else { return };
        match (&pod.published, pod.view.label) {
            (Some((revision, claim)), _) => {
                pod.stop = Stop::Removing(until);
                let (revision, claim) = (revision.clone(), claim.clone());
                work.effects.push(Effect::Remove { uid: uid.clone(), claim, revision });
            }
            (None, Label::Serving) => pod.stop = Stop::Removed,
            (None, _) => pod.doomed = true,
        }
        let claim = owner.claim.clone();
        work.pods.insert(uid.clone());
        self.cold_start_ended(&claim, work);
    }
}

impl Pod {
    /// Sends a write that is conditional on the label as it is known.
    fn write(&mut self, write: Write, deadline: Moment, work: &mut Work<'_>) {
        let owner = self.view.ownership.as_ref().map(|owner| (owner.claim.clone(), owner.revision.clone()));
        let planned = self.activation.as_ref().map(|a| (a.claim.clone(), a.revision.clone()));
        let Some((claim, revision)) = owner.or(planned) else { return };
        self.attempt = self.attempt.saturating_add(1);
        self.op = Op::Write(write);
        let ticket = Ticket { uid: self.view.uid.clone(), claim, write, attempt: self.attempt };
        work.effects.push(Effect::Write { ticket, from: self.view.label, revision, deadline });
    }

    fn delete(&mut self, work: &mut Work<'_>) {
        let Some(owner) = &self.view.ownership else { return };
        if self.op == Op::None {
            self.op = Op::Delete(self.view.label);
            let (uid, claim) = (self.view.uid.clone(), owner.claim.clone());
            work.effects.push(Effect::Delete { uid, claim, label: self.view.label });
        }
    }

    /// Out of the gateways, then draining.
    fn take_out(&mut self, work: &mut Work<'_>) {
        if let Stop::Removing(until) = self.stop
            && until <= work.now
        {
            self.stop = Stop::Removed;
        }
        if self.stop == Stop::Removed {
            self.published = None;
            if self.op == Op::None {
                let deadline = self.view.ownership.as_ref().map_or(work.now, |owner| owner.deadline);
                self.write(Write::Drain, deadline, work);
            }
        }
    }
}
