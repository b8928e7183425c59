//! The claim protocol: how replicas come to serve a revision, and stop to, as one pure step.
//!
//! [`State`] is what one leader knows; [`step`] takes an [`Event`] and says which [`Effect`]s to perform. It does no I/O
//! and reads no clock, so the same code runs in the autoscaler, under a model checker that explores every order of
//! replies and crashes, and in simulations.
//!
//! The label of a replica is the truth about who owns it, the claim lock of its wrapper about what it runs. Each is a
//! compare-and-swap; where the two come apart (a claimer died between them, or two raced) the label wins and the
//! replica is finished, adopted or deleted:
//!
//! - P1 lost: the replica is another's. Gateways drop it, and it is never deleted from here.
//! - P1 won and the wrapper refuses (409), cannot load the model, or passes its deadline: it is deleted, if it still is
//!   as it was claimed.
//! - P1 without a reply: the replica is read; it is ours only if the claim id is ours.
//! - Owned and not yet published, claimed by an earlier leader: finished with *that* claim id.
//! - Idle, yet a gateway uses it (its claimer died before writing): adopted with the claim id that the gateway reports,
//!   before anything else is claimed for its revision.
//! - More replicas than wanted: unfinished ones go first, then the newest; among equals the lowest uid stays, so that two
//!   leaders who both see a surplus pick the same one.
//!
//! A replica is settled from its label and from what is known of it, not from the history of events: an event updates
//! what is known, then [`State`] does whatever is due for the replicas and revisions that it touched. No event costs more
//! than the replicas of one revision.

mod apply;
mod crashes;
mod effect;
mod event;
mod pod;
mod rank;
mod replica;
mod revision;
mod settings;
mod settle_pod;
mod settle_revision;
mod state;
#[cfg(test)]
mod tests;

pub use effect::{Condition, ConditionReason, Effect, Origin, Timings};
pub use event::{
    CreateOutcome, DeleteOutcome, Event, GetOutcome, LoadOutcome, StateOutcome, Ticket, Write, WriteOutcome,
};
pub use pod::{FitKey, Label, Lifecycle, Ownership, PodView, Warmth};
pub use rank::Level;
pub use settings::{Order, Settings};
pub use state::{Counts, Published, ReplicaPhase, State, Totals, step};
