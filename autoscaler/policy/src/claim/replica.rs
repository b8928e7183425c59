//! What one leader knows of a replica beyond its labels.

use gateway_policy::Moment;

use super::effect::Origin;
use super::event::Write;
use super::pod::{Label, Lifecycle, PodView};
use super::rank::Level;
use super::revision::Wanted;
use crate::ids::{ClaimId, RevisionKey};

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pod {
    pub(super) view: PodView,
    /// P1 was lost, or the replica was found unfit: it is no candidate again, whatever an old view says of its label.
    pub(super) spent: bool,
    pub(super) activation: Option<Activation>,
    /// What gateways were told, or told us.
    pub(super) published: Option<(RevisionKey, ClaimId)>,
    /// Since when it serves, where this leader brought it up.
    pub(super) serves_since: Option<Moment>,
    pub(super) op: Op,
    /// Writes sent to this replica so far.
    pub(super) attempt: u32,
    pub(super) ask: Ask,
    pub(super) unanswered: u8,
    pub(super) stop: Stop,
    /// It is to be deleted as soon as that is allowed.
    pub(super) doomed: bool,
    /// The store confirmed its deletion; the watch will follow.
    pub(super) gone: bool,
    pub(super) wake: Option<Moment>,
    pub(super) place: Place,
}

/// Bringing a replica up for a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Activation {
    pub(super) claim: ClaimId,
    pub(super) revision: RevisionKey,
    pub(super) deadline: Moment,
    /// The demand for it; absent for one that another leader began.
    pub(super) wanted: Option<Wanted>,
    pub(super) origin: Origin,
    pub(super) level: Level,
    pub(super) load: Load,
}

/// How far the model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Load {
    /// Another leader began: the wrapper has to be asked.
    Unknown,
    /// To be sent.
    Needed,
    /// Sent, not yet answered.
    Sent(Moment),
    /// The wrapper holds the claim and answers for its revision.
    Done,
    /// It will not.
    Failed,
}

/// The one operation on the store that is in flight for a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    None,
    Write(Write),
    Delete(Label),
    Get,
    /// An operation had no reply: read the replica then.
    Wait(Moment),
}

/// Whether the wrapper is being asked what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    Not,
    Wanted,
    Sent,
    Wait(Moment),
}

/// Taking a replica out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stop {
    Not,
    /// Gateways were told; their acknowledgement is awaited until then.
    Removing(Moment),
    /// No gateway sends to it.
    Removed,
    /// It was asked to finish.
    Draining,
    /// It has finished.
    Drained,
}

/// Which index holds the replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    None,
    Candidate,
    Member(RevisionKey),
}

impl Pod {
    pub(super) fn new(view: PodView) -> Self {
        Self {
            view,
            spent: false,
            activation: None,
            published: None,
            serves_since: None,
            op: Op::None,
            attempt: 0,
            ask: Ask::Not,
            unanswered: 0,
            stop: Stop::Not,
            doomed: false,
            gone: false,
            wake: None,
            place: Place::None,
        }
    }

    /// The index that it belongs in.
    pub(super) fn place(&self) -> Place {
        if let Some(owner) = &self.view.ownership {
            return Place::Member(owner.revision.clone());
        }
        match &self.activation {
            Some(activation) => Place::Member(activation.revision.clone()),
            None if self.is_candidate() => Place::Candidate,
            None => Place::None,
        }
    }

    fn is_candidate(&self) -> bool {
        self.view.label == Label::Idle && self.view.lifecycle == Lifecycle::Ready && !self.spent
    }

    /// Whether it serves, or is on the way to: what a revision counts against what it wants.
    pub(super) fn is_supply(&self, now: Moment) -> bool {
        let owned = match self.view.label {
            // A claim that nobody answers for must not hold up another.
            Label::Idle => self.activation.as_ref().is_some_and(|a| a.load == Load::Done || now < a.deadline),
            Label::Claimed | Label::Serving => true,
            Label::Draining | Label::Retired => false,
        };
        owned && !self.doomed && !self.gone && self.stop == Stop::Not && self.view.lifecycle != Lifecycle::Exited
    }

    /// Whether requests can be sent to it.
    pub(super) fn is_ready(&self) -> bool {
        self.published.is_some() && self.stop == Stop::Not && !self.doomed
    }

    /// The earliest moment at which time alone changes what is to be done with it.
    pub(super) fn next_wake(&self) -> Option<Moment> {
        if self.gone {
            return None;
        }
        let op = if let Op::Wait(until) = self.op { Some(until) } else { None };
        if self.doomed || self.view.label > Label::Serving {
            return op;
        }
        let loading = self.activation.as_ref().filter(|a| matches!(a.load, Load::Needed | Load::Sent(_)));
        let deadline = loading.map(|a| a.deadline);
        let ask = if let (Ask::Wait(until), Stop::Not) = (self.ask, self.stop) { Some(until) } else { None };
        let stop = if let Stop::Removing(until) = self.stop { Some(until) } else { None };
        [op, deadline, ask, stop].into_iter().flatten().min()
    }
}
