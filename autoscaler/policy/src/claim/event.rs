//! What the claim protocol is told.

use std::sync::Arc;
use std::time::Duration;

use super::pod::{Label, PodView};
use crate::ids::{ClaimId, RevisionKey, Uid};
use crate::revision::Revision;

/// One thing that happened. A reply may come late, twice, or after another replica took the place of the one it is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The watch: the replica exists and looks like this.
    Applied(PodView),
    /// The watch: the replica is gone.
    Deleted(Uid),
    /// The watch: everything that existed when it began has been reported.
    Synced,
    /// The whole table of revisions.
    Revisions(Vec<Arc<Revision>>),
    /// How many replicas a revision should have.
    Desired {
        /// The revision.
        revision: RevisionKey,
        /// Number of replicas.
        replicas: u32,
    },
    /// Reply to [`super::Effect::Write`].
    Written {
        /// The write.
        ticket: Ticket,
        /// What came of it.
        outcome: WriteOutcome,
    },
    /// Reply to [`super::Effect::Get`].
    Got {
        /// The replica that was asked for.
        uid: Uid,
        /// What came of it.
        outcome: GetOutcome,
    },
    /// Reply to [`super::Effect::Specialize`].
    Specialized {
        /// The replica.
        uid: Uid,
        /// The claim that was sent.
        claim: ClaimId,
        /// What came of it.
        outcome: LoadOutcome,
    },
    /// Reply to [`super::Effect::AskState`].
    State {
        /// The replica.
        uid: Uid,
        /// What came of it.
        outcome: StateOutcome,
    },
    /// A gateway says that it sends traffic to this replica (its `Hello`).
    Reported {
        /// The revision it sends it for.
        revision: RevisionKey,
        /// The replica.
        uid: Uid,
        /// The claim it was published with.
        claim: ClaimId,
    },
    /// A gateway could not use a replica, or got 421 from it.
    Fault {
        /// The replica.
        uid: Uid,
    },
    /// Every gateway that is connected has stopped sending to the replica.
    RemovalAcked {
        /// The replica.
        uid: Uid,
        /// The claim it was published with.
        claim: ClaimId,
    },
    /// Reply to [`super::Effect::Drain`]: no request is left on the replica, or it does not answer, or its time is up.
    Drained {
        /// The replica.
        uid: Uid,
        /// The claim it was published with.
        claim: ClaimId,
    },
    /// Reply to [`super::Effect::Delete`].
    Deletion {
        /// The replica.
        uid: Uid,
        /// The label that the delete was conditional on.
        label: Label,
        /// What came of it.
        outcome: DeleteOutcome,
    },
    /// Reply to [`super::Effect::Create`].
    Created {
        /// The claim that the replica was to be born with.
        claim: ClaimId,
        /// What came of it.
        outcome: CreateOutcome,
    },
    /// A moment of [`super::State::next_wake`] has come.
    Tick,
}

/// Names one attempt of one write, so that a late or repeated reply is recognised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The replica.
    pub uid: Uid,
    /// The claim.
    pub claim: ClaimId,
    /// What is written.
    pub write: Write,
    /// Grows with each attempt of a write to this replica.
    pub attempt: u32,
}

/// The writes of the protocol. Each is conditional on the replica's uid, state label and (except P1) claim id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// P1: idle → claimed, with claim id, owner and deadline.
    Claim,
    /// P1 and P2 in one: idle → serving, for a replica that has the model in memory already.
    ClaimServing,
    /// P2: claimed → serving, with the Knative labels.
    Serve,
    /// claimed or serving → draining, with the Knative labels taken off.
    Drain,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It took effect; the replica as it is now.
    Won(PodView),
    /// The replica was not as expected, or is gone.
    Lost,
    /// No reply: it may or may not have taken effect.
    Unknown,
}

/// What came of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetOutcome {
    /// The replica as the store has it now.
    Found(PodView),
    /// It is gone.
    Gone,
    /// No reply.
    Unknown,
}

/// What came of a specialize call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    /// 200: the replica holds the revision and answers for it.
    Loaded {
        /// Time that fetching and loading the model took in the wrapper.
        load: Duration,
    },
    /// 409: another claim holds the wrapper, or it is another replica than the one meant.
    Conflict,
    /// 422: the model cannot be loaded there.
    Rejected {
        /// Why, for people.
        message: Arc<str>,
    },
    /// No answer within the claim's deadline.
    TimedOut,
    /// It does not answer, or the connection broke.
    Unreachable,
}

/// What came of asking a wrapper what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOutcome {
    /// It holds no claim.
    Empty,
    /// A claim holds it and its model is being loaded.
    Loading(ClaimId),
    /// It serves the model of this claim.
    Serving(ClaimId),
    /// Loading failed, or it is draining: it serves nothing for this claim.
    Useless {
        /// Why, for people.
        message: Arc<str>,
    },
    /// It does not answer.
    Unreachable,
}

/// What came of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It is gone or going.
    Deleted,
    /// It exists and is not as expected.
    Refused,
    /// No reply.
    Unknown,
}

/// What came of starting a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    /// It is recorded; the watch will show it.
    Created(Uid),
    /// There is no room for it now.
    NoCapacity(Arc<str>),
    /// It could not be started.
    Failed(Arc<str>),
    /// No reply: it may or may not exist.
    Unknown,
}
