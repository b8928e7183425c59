//! What became of the effects that were asked for.

use std::sync::Arc;

use crate::claim::effect::ConditionReason;
use crate::claim::event::{
    CreateOutcome, DeleteOutcome, GetOutcome, LoadOutcome, StateOutcome, Ticket, Write, WriteOutcome,
};
use crate::claim::pod::Label;
use crate::claim::replica::{Ask, Load, Op, Stop};
use crate::claim::state::{State, Work};
use crate::ids::{ClaimId, Uid};

impl State {
    pub(super) fn note_written(&mut self, ticket: &Ticket, outcome: &WriteOutcome, work: &mut Work<'_>) {
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

    pub(super) fn note_got(&mut self, uid: &Uid, outcome: &GetOutcome, work: &mut Work<'_>) {
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

    pub(super) fn note_specialized(&mut self, uid: &Uid, claim: &ClaimId, outcome: LoadOutcome, work: &mut Work<'_>) {
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

    pub(super) fn note_state(&mut self, uid: &Uid, outcome: StateOutcome, work: &mut Work<'_>) {
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

    /// Takes the next step of stopping, unless that is not what is waited for.
    pub(super) fn advance_stop(&mut self, uid: &Uid, claim: &ClaimId, to: Stop, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let is_owner = pod.view.ownership.as_ref().is_some_and(|owner| owner.claim == *claim);
        let is_next = matches!((pod.stop, to), (Stop::Removing(_), Stop::Removed) | (Stop::Draining, Stop::Drained));
        if is_owner && is_next {
            pod.stop = to;
            work.pods.insert(uid.clone());
        }
    }

    pub(super) fn note_deletion(&mut self, uid: &Uid, label: Label, outcome: DeleteOutcome, work: &mut Work<'_>) {
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

    pub(super) fn note_created(&mut self, claim: &ClaimId, outcome: CreateOutcome, work: &mut Work<'_>) {
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
}
