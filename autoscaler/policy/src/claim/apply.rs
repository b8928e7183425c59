//! Events: what each changes of what is known. What follows from it is done by settling.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::effect::{ConditionReason, Effect, Origin};
use super::event::{
    CreateOutcome, DeleteOutcome, Event, GetOutcome, LoadOutcome, StateOutcome, Ticket, Write, WriteOutcome,
};
use super::pod::{Label, PodView};
use super::rank::Level;
use super::replica::{Activation, Ask, Load, Op, Place, Pod, Stop};
use super::revision::Target;
use super::state::{State, Timer, Work};
use crate::ids::{ClaimId, RevisionKey, Uid};
use crate::revision::Revision;

impl State {
    pub(super) fn note(&mut self, event: Event, work: &mut Work<'_>) {
        match event {
            Event::Applied(view) => self.note_applied(view, work),
            Event::Deleted(uid) => self.forget_pod(&uid, work),
            Event::Synced => self.note_synced(work),
            Event::Revisions(revisions) => self.note_revisions(&revisions, work),
            Event::Desired { revision, replicas } => {
                // A revision that is not in the table wants nothing: its desired number would be kept for ever.
                if let Some(known) = self.revisions.get_mut(&revision) {
                    known.desired = Some(replicas);
                    work.revisions.insert(revision);
                }
            }
            Event::Written { ticket, outcome } => self.note_written(&ticket, &outcome, work),
            Event::Got { uid, outcome } => self.note_got(&uid, &outcome, work),
            Event::Specialized { uid, claim, outcome } => self.note_specialized(&uid, &claim, outcome, work),
            Event::State { uid, outcome } => self.note_state(&uid, outcome, work),
            Event::Reported { revision, uid, claim } => self.note_reported(revision, uid, claim, work),
            Event::Fault { uid } => self.note_fault(&uid, work),
            Event::RemovalAcked { uid, claim } => {
                self.advance_stop(&uid, &claim, Stop::Removed, work);
            }
            Event::Drained { uid, claim } => {
                self.advance_stop(&uid, &claim, Stop::Drained, work);
            }
            Event::Deletion { uid, label, outcome } => self.note_deletion(&uid, label, outcome, work),
            Event::Created { claim, outcome } => self.note_created(&claim, outcome, work),
            Event::Tick => self.note_tick(work),
        }
    }

    /// Takes over what a view knows further of a replica.
    fn merge(&mut self, uid: &Uid, view: &PodView) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.place == Place::Candidate {
            // The index is keyed by what the view may change; settling puts the replica back.
            self.idle.remove(&pod.view);
            pod.place = Place::None;
        }
        pod.view.merge(view);
    }

    fn note_applied(&mut self, view: PodView, work: &mut Work<'_>) {
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
    pub(super) fn forget_pod(&mut self, uid: &Uid, work: &mut Work<'_>) {
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

    fn note_synced(&mut self, work: &mut Work<'_>) {
        self.synced = true;
        for (uid, (revision, _)) in std::mem::take(&mut self.reports) {
            work.effects.push(Effect::Gone { uid, revision });
        }
        work.revisions.extend(self.revisions.keys().cloned());
    }

    fn note_revisions(&mut self, revisions: &[Arc<Revision>], work: &mut Work<'_>) {
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

    fn note_written(&mut self, ticket: &Ticket, outcome: &WriteOutcome, work: &mut Work<'_>) {
        /// Writes to one replica before a pause is made between them: P1 and P2, each once more.
        const PROMPT_ATTEMPTS: u32 = 4;
        let retry_at = work.now + self.settings.retry;
        if let WriteOutcome::Won(view) = outcome {
            self.merge(&ticket.uid, view);
        }
        let Some(pod) = self.pods.get_mut(&ticket.uid) else { return };
        let current = pod.op == Op::Write(ticket.write) && pod.attempt == ticket.attempt;
        if current {
            let first_claim = pod.attempt == 1 && matches!(ticket.write, Write::Claim | Write::ClaimServing);
            pod.op = match outcome {
                WriteOutcome::Won(_) => Op::None,
                WriteOutcome::Lost if first_claim => {
                    pod.spent = true;
                    Op::None
                }
                WriteOutcome::Unknown if pod.attempt > PROMPT_ATTEMPTS => Op::Wait(retry_at),
                // An earlier attempt whose reply was lost may have won: only the store knows.
                WriteOutcome::Lost | WriteOutcome::Unknown => Op::Wait(work.now),
            };
        }
        work.pods.insert(ticket.uid.clone());
    }

    fn note_got(&mut self, uid: &Uid, outcome: &GetOutcome, work: &mut Work<'_>) {
        let retry_at = work.now + self.settings.retry;
        if let GetOutcome::Found(view) = outcome {
            self.merge(uid, view);
        }
        let Some(pod) = self.pods.get_mut(uid) else { return };
        match outcome {
            GetOutcome::Found(_) => {
                if pod.op == Op::Get {
                    pod.op = Op::None;
                }
            }
            GetOutcome::Gone => return self.forget_pod(uid, work),
            GetOutcome::Unknown if pod.op == Op::Get => pod.op = Op::Wait(retry_at),
            GetOutcome::Unknown => {}
        }
        work.pods.insert(uid.clone());
    }

    fn note_specialized(&mut self, uid: &Uid, claim: &ClaimId, outcome: LoadOutcome, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(activation) = pod.activation.as_mut().filter(|a| a.claim == *claim) else { return };
        let Load::Sent(sent) = activation.load else { return };
        work.pods.insert(uid.clone());
        let doomed = pod.doomed;
        let trouble = match outcome {
            LoadOutcome::Loaded { load } => {
                let took = work.now.saturating_since(sent);
                let (level, revision) = (activation.level, activation.revision.clone());
                let node = Arc::clone(&pod.view.warmth.node);
                self.publish_loaded(uid, took, load, work);
                if let Some(target) = self.revisions.get(&revision).and_then(|revision| revision.target.as_ref()) {
                    self.times.record(&target.digest, level, &node, took);
                }
                return;
            }
            LoadOutcome::Rejected { message } => Some((ConditionReason::LoadFailed, message)),
            // It is being deleted: that it does not answer is no wonder.
            _ if doomed => return,
            LoadOutcome::Conflict | LoadOutcome::Unreachable => None,
            LoadOutcome::TimedOut => {
                Some((ConditionReason::LoadFailed, Arc::from("the model did not load before its deadline")))
            }
        };
        self.fail_activation(uid, trouble, work);
    }

    fn note_state(&mut self, uid: &Uid, outcome: StateOutcome, work: &mut Work<'_>) {
        let retry_at = work.now + self.settings.retry;
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.ask == Ask::Sent) else { return };
        work.pods.insert(uid.clone());
        if outcome == StateOutcome::Unreachable {
            pod.unanswered = pod.unanswered.saturating_add(1);
            // A replica that is still to be finished has until its deadline.
            let finishing = pod.activation.as_ref().is_some_and(|a| a.load == Load::Unknown);
            if finishing || pod.unanswered < self.settings.max_unanswered {
                pod.ask = Ask::Wait(retry_at);
            } else {
                pod.ask = Ask::Not;
                pod.doomed = true;
            }
            return;
        }
        pod.ask = Ask::Not;
        pod.unanswered = 0;
        let Some(owner) = pod.view.ownership.clone() else { return };
        let holds = |claim: &ClaimId| *claim == owner.claim;
        match (&mut pod.activation, outcome) {
            (Some(activation), outcome) if activation.load == Load::Unknown => match outcome {
                StateOutcome::Serving(claim) if holds(&claim) => activation.load = Load::Done,
                // Asking it again to load the same claim waits for the load that is under way.
                StateOutcome::Loading(claim) if holds(&claim) => activation.load = Load::Needed,
                StateOutcome::Empty => activation.load = Load::Needed,
                StateOutcome::Useless { message } => {
                    self.fail_activation(uid, Some((ConditionReason::LoadFailed, message)), work);
                }
                _ => self.fail_activation(uid, None, work),
            },
            (Some(_), _) => {}
            (None, StateOutcome::Serving(claim)) if holds(&claim) => {}
            (None, _) => pod.doomed = true,
        }
    }

    fn note_reported(&mut self, revision: RevisionKey, uid: Uid, claim: ClaimId, work: &mut Work<'_>) {
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

    fn note_fault(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.published.is_some() && pod.ask == Ask::Not && pod.stop == Stop::Not {
            pod.ask = Ask::Wanted;
            work.pods.insert(uid.clone());
        }
    }

    /// Takes the next step of stopping, unless that is not what is waited for.
    fn advance_stop(&mut self, uid: &Uid, claim: &ClaimId, to: Stop, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let is_owner = pod.view.ownership.as_ref().is_some_and(|owner| owner.claim == *claim);
        let is_next = matches!((pod.stop, to), (Stop::Removing(_), Stop::Removed) | (Stop::Draining, Stop::Drained));
        if is_owner && is_next {
            pod.stop = to;
            work.pods.insert(uid.clone());
        }
    }

    fn note_deletion(&mut self, uid: &Uid, label: Label, outcome: DeleteOutcome, work: &mut Work<'_>) {
        let retry_at = work.now + self.settings.retry;
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.op == Op::Delete(label)) else { return };
        match outcome {
            DeleteOutcome::Deleted => {
                pod.op = Op::None;
                pod.gone = true;
            }
            DeleteOutcome::Refused | DeleteOutcome::Unknown => pod.op = Op::Wait(retry_at),
        }
        work.pods.insert(uid.clone());
    }

    fn note_created(&mut self, claim: &ClaimId, outcome: CreateOutcome, work: &mut Work<'_>) {
        let unknown_until = work.now + self.settings.create_unknown;
        let Some(key) = self.cold.get(claim).cloned() else { return };
        let Some(revision) = self.revisions.get_mut(&key) else { return };
        if !revision.creating.contains_key(claim) {
            return;
        }
        work.revisions.insert(key.clone());
        match outcome {
            CreateOutcome::Created(_) => {
                revision.failed_starts = 0;
                revision.no_start_before = None;
                revision.no_room = None;
            }
            CreateOutcome::Unknown => {
                if let Some(creating) = revision.creating.get_mut(claim) {
                    creating.until = creating.until.min(unknown_until);
                }
            }
            CreateOutcome::NoCapacity(message) | CreateOutcome::Failed(message) => {
                revision.creating.remove(claim);
                revision.failed_starts = revision.failed_starts.saturating_add(1);
                let pause = self.settings.backoff(revision.failed_starts).min(self.settings.start_pause_longest);
                revision.no_start_before = Some(work.now + pause);
                revision.no_room = Some(message);
                self.cold_start_ended(claim, work);
            }
        }
    }

    fn note_tick(&mut self, work: &mut Work<'_>) {
        while let Some((at, _)) = self.timers.first() {
            if *at > work.now {
                break;
            }
            match self.timers.pop_first() {
                Some((_, Timer::Pod(uid))) => {
                    if let Some(pod) = self.pods.get_mut(&uid) {
                        pod.wake = None;
                    }
                    work.pods.insert(uid);
                }
                Some((_, Timer::Revision(key))) => {
                    if let Some(revision) = self.revisions.get_mut(&key) {
                        revision.wake = None;
                    }
                    work.revisions.insert(key);
                }
                None => break,
            }
        }
    }

    /// An attempt to activate a replica, or to start one, came to nothing.
    pub(super) fn count_failure(
        &mut self,
        key: &RevisionKey,
        trouble: Option<(ConditionReason, Arc<str>)>,
        work: &mut Work<'_>,
    ) {
        /// Replicas in a row that may fail for reasons of their own before that is the model's trouble.
        const UNLUCKY: u32 = 2;
        let Some(revision) = self.revisions.get_mut(key) else { return };
        revision.failures = revision.failures.saturating_add(1);
        let own_fault = trouble.is_some();
        if own_fault || revision.failures > UNLUCKY {
            let excess = if own_fault { revision.failures } else { revision.failures - UNLUCKY };
            revision.retry_at = Some(work.now + self.settings.backoff(excess));
            revision.trouble = trouble.or_else(|| {
                Some((ConditionReason::LoadFailed, Arc::from("several replicas in a row could not be activated")))
            });
        }
        work.revisions.insert(key.clone());
    }
}

fn member_of(place: Place) -> Option<RevisionKey> {
    match place {
        Place::Member(key) => Some(key),
        Place::None | Place::Candidate => None,
    }
}
