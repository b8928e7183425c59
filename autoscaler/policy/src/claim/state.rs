//! The state of one leader: its replicas and revisions, and the indexes that keep a step cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_policy::Moment;

use super::effect::{Condition, Effect};
use super::event::Event;
use super::pod::Label;
use super::rank::{ActivationTimes, IdleIndex};
use super::replica::{Place, Pod, Stop};
use super::revision::{RevisionState, Waiting};
use super::settings::Settings;
use crate::ids::{ClaimId, RevisionKey, Uid};

/// What one leader knows. A new leader starts with a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) settings: Arc<Settings>,
    /// Tells this leader's claims from those of every other.
    pub(super) incarnation: Arc<str>,
    /// Cold starts asked for: numbers their claims.
    pub(super) created: u64,
    pub(super) synced: bool,
    /// The table of revisions has been told: what is not in it is gone.
    pub(super) revisions_known: bool,
    pub(super) pods: BTreeMap<Uid, Pod>,
    pub(super) revisions: BTreeMap<RevisionKey, RevisionState>,
    pub(super) idle: IdleIndex,
    pub(super) waiting: Waiting,
    /// Claims of cold starts in flight, and whom they are for.
    pub(super) cold: BTreeMap<ClaimId, RevisionKey>,
    /// What gateways report of replicas that the watch has not shown yet.
    pub(super) reports: BTreeMap<Uid, (RevisionKey, ClaimId)>,
    pub(super) timers: BTreeSet<(Moment, Timer)>,
    pub(super) times: ActivationTimes,
}

/// What a moment is waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    Pod(Uid),
    Revision(RevisionKey),
}

/// What one step has to look at again, and what it asks for.
pub(super) struct Work<'a> {
    pub(super) now: Moment,
    pub(super) pods: BTreeSet<Uid>,
    pub(super) revisions: BTreeSet<RevisionKey>,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// Takes one step.
///
/// A pure function: the same state, event and moment give the same result. [`State::apply`] does the same in place.
#[must_use]
pub fn step(mut state: State, event: Event, now: Moment) -> (State, Vec<Effect>) {
    let mut effects = Vec::new();
    state.apply(event, now, &mut effects);
    (state, effects)
}

/// How many replicas a revision has, by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Requests can be sent to them.
    pub ready: u32,
    /// Being claimed, started or loaded.
    pub activating: u32,
    /// On their way out.
    pub stopping: u32,
    /// Cold starts that were asked for and have not shown up yet.
    pub creating: u32,
}

/// What one replica of a revision is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaPhase {
    /// Being claimed, started or loaded.
    Activating,
    /// Requests can be sent to it.
    Serving,
    /// On its way out.
    Stopping,
}

/// A replica that gateways may send traffic to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Published<'a> {
    /// The replica.
    pub uid: &'a Uid,
    /// The claim that loaded it.
    pub claim: &'a ClaimId,
    /// The revision that it answers for.
    pub revision: &'a RevisionKey,
}

/// Sizes, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Totals {
    /// Replicas known.
    pub replicas: usize,
    /// Idle replicas that can be claimed.
    pub idle: usize,
    /// Cold starts in flight.
    pub cold_starts: usize,
    /// Revisions that wait for a replica or for room to start one.
    pub waiting: usize,
}

impl State {
    /// The state of a leader that knows nothing yet. `incarnation` tells its claims from those of every other leader: it
    /// must never be used twice.
    #[must_use]
    pub fn new(incarnation: &str, settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            incarnation: Arc::from(incarnation),
            created: 0,
            synced: false,
            revisions_known: false,
            pods: BTreeMap::new(),
            revisions: BTreeMap::new(),
            idle: IdleIndex::default(),
            waiting: Waiting::default(),
            cold: BTreeMap::new(),
            reports: BTreeMap::new(),
            timers: BTreeSet::new(),
            times: ActivationTimes::default(),
        }
    }

    /// Takes one step in place; what is to be done is added to `effects`.
    pub fn apply(&mut self, event: Event, now: Moment, effects: &mut Vec<Effect>) {
        let mut work = Work { now, pods: BTreeSet::new(), revisions: BTreeSet::new(), effects };
        self.note(event, &mut work);
        loop {
            // Replicas first: what a revision lacks is known once all of its replicas are settled.
            if let Some(uid) = work.pods.pop_first() {
                self.settle_pod(&uid, &mut work);
                self.reindex(&uid, &mut work);
            } else if let Some(key) = work.revisions.pop_first() {
                self.settle_revision(&key, &mut work);
            } else {
                break;
            }
        }
    }

    /// When to apply [`Event::Tick`] next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many replicas a revision has.
    #[must_use]
    pub fn counts(&self, key: &RevisionKey) -> Counts {
        let mut counts = Counts::default();
        for (_, phase) in self.replicas(key) {
            match phase {
                ReplicaPhase::Activating => counts.activating += 1,
                ReplicaPhase::Serving => counts.ready += 1,
                ReplicaPhase::Stopping => counts.stopping += 1,
            }
        }
        if let Some(revision) = self.revisions.get(key) {
            counts.creating = u32::try_from(revision.creating.len()).unwrap_or(u32::MAX);
        }
        counts
    }

    /// The replicas of a revision.
    pub fn replicas(&self, key: &RevisionKey) -> impl Iterator<Item = (&Uid, ReplicaPhase)> {
        let members = self.revisions.get(key).into_iter().flat_map(|revision| &revision.members);
        members.filter_map(|uid| {
            let pod = self.pods.get(uid)?;
            let stopping = pod.stop != Stop::Not || pod.doomed || pod.gone || pod.view.label > Label::Serving;
            let phase = match stopping {
                true => ReplicaPhase::Stopping,
                false if pod.is_ready() => ReplicaPhase::Serving,
                false => ReplicaPhase::Activating,
            };
            Some((uid, phase))
        })
    }

    /// Every replica that gateways may send traffic to.
    pub fn published(&self) -> impl Iterator<Item = Published<'_>> {
        self.pods.iter().filter(|(_, pod)| pod.is_ready()).filter_map(|(uid, pod)| {
            let (revision, claim) = pod.published.as_ref()?;
            Some(Published { uid, claim, revision })
        })
    }

    /// What keeps a revision from having its replicas.
    #[must_use]
    pub fn condition(&self, key: &RevisionKey) -> Option<&Condition> {
        self.revisions.get(key)?.condition.as_ref()
    }

    /// Replicas that a revision's model has cost by failing to load, since it last loaded.
    #[must_use]
    pub fn failures(&self, key: &RevisionKey) -> u32 {
        self.revisions.get(key).map_or(0, |revision| revision.failures)
    }

    /// Sizes, for metrics.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            replicas: self.pods.len(),
            idle: self.idle.len(),
            cold_starts: self.cold.len(),
            waiting: self.waiting.len(),
        }
    }

    /// Puts a replica into the index that it belongs in, sets its timer, and has its revision looked at.
    pub(super) fn reindex(&mut self, uid: &Uid, work: &mut Work<'_>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let place = pod.place();
        let old = std::mem::replace(&mut pod.place, place.clone());
        let wake = pod.next_wake();
        let old_wake = std::mem::replace(&mut pod.wake, wake);
        if old != place {
            match &old {
                Place::Candidate => self.idle.remove(&pod.view),
                Place::Member(key) => {
                    if let Some(revision) = self.revisions.get_mut(key) {
                        revision.members.remove(uid);
                    }
                    work.revisions.insert(key.clone());
                }
                Place::None => {}
            }
            match &place {
                Place::Candidate => {
                    self.idle.insert(&pod.view);
                    let offered = self.waiting.for_fit(&pod.view.fit).find(|key| {
                        let target = self.revisions.get(*key).and_then(|revision| revision.target.as_ref());
                        target.is_some_and(|target| pod.view.resources.satisfies(&target.resources))
                    });
                    work.revisions.extend(offered.cloned());
                }
                Place::Member(key) => {
                    self.revisions.entry(key.clone()).or_default().members.insert(uid.clone());
                }
                Place::None => {}
            }
        }
        if let Place::Member(key) = place {
            work.revisions.insert(key);
        }
        if old_wake != wake {
            self.set_timer(Timer::Pod(uid.clone()), old_wake, wake);
        }
    }

    pub(super) fn set_timer(&mut self, timer: Timer, old: Option<Moment>, new: Option<Moment>) {
        if old == new {
            return;
        }
        if let Some(at) = old {
            self.timers.remove(&(at, timer.clone()));
        }
        if let Some(at) = new {
            self.timers.insert((at, timer));
        }
    }

    /// The claim of a cold start came to its end; another may begin.
    pub(super) fn cold_start_ended(&mut self, claim: &ClaimId, work: &mut Work<'_>) {
        if self.cold.remove(claim).is_some() {
            work.revisions.extend(self.waiting.first().cloned());
        }
    }
}

impl crate::Fleet for State {
    fn is_known(&self) -> bool {
        self.synced
    }

    fn ready(&self, revision: &RevisionKey) -> u32 {
        self.counts(revision).ready
    }

    fn obstacle(&self, revision: &RevisionKey) -> Option<super::effect::ConditionReason> {
        self.condition(revision).map(|condition| condition.reason)
    }
}
