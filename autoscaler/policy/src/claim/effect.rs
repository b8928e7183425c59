//! What the claim protocol asks for.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::Moment;

use super::event::Ticket;
use super::pod::Label;
use crate::ids::{ClaimId, RevisionKey, Uid};

/// One thing to do. Those that name a reply get it exactly once or more often, within a bound that the caller sets: what
/// does not answer is answered with the outcome that says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Write to the replica if it still is as expected. Reply: [`super::Event::Written`].
    Write {
        /// Names the write.
        ticket: Ticket,
        /// The label that the write is conditional on; for labels other than idle the ticket's claim id is, too.
        from: Label,
        /// The revision to write as owner.
        revision: RevisionKey,
        /// The deadline to write.
        deadline: Moment,
    },
    /// Read the replica from the store, past every cache. Reply: [`super::Event::Got`].
    Get {
        /// The replica.
        uid: Uid,
    },
    /// Have the replica load the revision's model. Reply: [`super::Event::Specialized`].
    Specialize {
        /// The replica.
        uid: Uid,
        /// The claim to hold it with.
        claim: ClaimId,
        /// The revision.
        revision: RevisionKey,
        /// When to give up.
        deadline: Moment,
    },
    /// Ask the wrapper what it holds. Reply: [`super::Event::State`].
    AskState {
        /// The replica.
        uid: Uid,
    },
    /// Gateways may send traffic to the replica.
    Publish {
        /// The replica.
        uid: Uid,
        /// The claim that loaded it.
        claim: ClaimId,
        /// The revision that it answers for.
        revision: RevisionKey,
        /// How long this leader took to bring it up; absent for one that was found up.
        timings: Option<Timings>,
    },
    /// Gateways must stop sending to the replica and say so. Reply: [`super::Event::RemovalAcked`].
    Remove {
        /// The replica.
        uid: Uid,
        /// The claim it was published with.
        claim: ClaimId,
        /// The revision it was published for.
        revision: RevisionKey,
    },
    /// Gateways must drop the replica at once: it is gone, or was never this revision's.
    Gone {
        /// The replica.
        uid: Uid,
        /// The revision it was published for.
        revision: RevisionKey,
    },
    /// Have the replica finish what it runs. Reply: [`super::Event::Drained`].
    Drain {
        /// The replica.
        uid: Uid,
        /// The claim that owns it.
        claim: ClaimId,
    },
    /// Delete the replica if it has this label and claim id. Reply: [`super::Event::Deletion`].
    Delete {
        /// The replica.
        uid: Uid,
        /// The claim that the delete is conditional on.
        claim: ClaimId,
        /// The label that the delete is conditional on.
        label: Label,
    },
    /// Start a replica for the revision, born `claimed` by this claim. Reply: [`super::Event::Created`].
    Create {
        /// The claim it is born with.
        claim: ClaimId,
        /// The revision.
        revision: RevisionKey,
        /// When the claim gives up.
        deadline: Moment,
    },
    /// What keeps a revision from having its replicas, or `None` when nothing does any more.
    Condition {
        /// The revision.
        revision: RevisionKey,
        /// The condition.
        condition: Option<Condition>,
    },
}

/// How long the parts of one activation took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timings {
    /// The pause after an attempt or a start that had failed, as far as this one waited for its end.
    pub backoff: Duration,
    /// From then, or from the demand, to the moment the model was sent to the replica: choosing one, and writing the claim
    /// where that is waited for; of a cold start, the start.
    pub claim: Duration,
    /// The specialize call without loading.
    pub specialize: Duration,
    /// Fetching and loading the model in the wrapper.
    pub load: Duration,
    /// Where the replica came from.
    pub origin: Origin,
}

/// Where a replica came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Claimed from a pool.
    Pool,
    /// Started for the revision.
    Cold,
}

/// What keeps a revision from having its replicas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// The class of trouble.
    pub reason: ConditionReason,
    /// For people.
    pub message: Arc<str>,
    /// When the next attempt is made; until then a request for the model waits in vain.
    pub retry_at: Option<Moment>,
}

/// The class of trouble, under the name that responses and metrics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionReason {
    /// The model could not be loaded.
    LoadFailed,
    /// Replicas end soon after they have begun to serve it.
    CrashLooping,
    /// No replica can be had now.
    NoCapacity,
    /// The device that the variant needs is not here.
    DeviceUnavailable,
}

impl ConditionReason {
    /// The name as `kferving-reason` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoadFailed => "load-failed",
            Self::CrashLooping => "crash-looping",
            Self::NoCapacity => "no-capacity",
            Self::DeviceUnavailable => "device-unavailable",
        }
    }
}
