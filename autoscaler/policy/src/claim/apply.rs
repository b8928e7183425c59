//! Events: what each changes of what is known. What follows from it is done by settling.

mod observed;
mod replied;

use std::sync::Arc;

use super::effect::ConditionReason;
use super::event::Event;
use super::pod::PodView;
use super::replica::{Place, Stop};
use super::state::{State, Timer, Work};
use crate::ids::{RevisionKey, Uid};

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
