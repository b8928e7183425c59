//! One pool as a state machine: what it sees goes in as events with the time, what to do comes out as actions.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gateway_policy::Moment;
use poolctl_cluster::{Lifecycle, Replica, ReplicaState, ReplicaUid};

use super::placement::Sizing;

/// How fast a pool fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Replicas that are being started at a time.
    pub starting: u32,
    /// Quiet time before the refill begins, once the claimed replica serves.
    pub after_claim: Duration,
    /// Claims do not put the refill off for longer than this, however many there are and however long they load.
    pub at_most: Duration,
    /// Wait after the second failed start in a row; it doubles with each further one.
    pub backoff: Duration,
    /// Longest wait after a failed start.
    pub max_backoff: Duration,
    /// A replica that was ready for this long shows that starting works again.
    pub stable: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            // Starting processes beside claims costs the claims more than anything else does.
            starting: 1,
            // Several times what the first answer of a small model takes.
            after_claim: Duration::from_millis(50),
            // By then even a model of some hundred megabytes is loaded.
            at_most: Duration::from_millis(500),
            backoff: Duration::from_millis(250),
            // People who repair a broken installation look at it for longer than this.
            max_backoff: Duration::from_secs(15),
            stable: Duration::from_secs(5),
        }
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start an idle replica; [`PoolState::created`] tells how it went.
    Create,
    /// Take an idle replica out of the pool, then delete it; [`PoolState::settled`] when done.
    Retire(ReplicaUid),
    /// Delete what is left of an idle or retired replica; [`PoolState::settled`] when done.
    Sweep(ReplicaUid),
}

/// Replicas of a pool, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Idle and ready: they can be claimed now.
    pub idle: u32,
    /// Idle and being started.
    pub starting: u32,
    /// Lost to models, and not gone yet.
    pub claimed: u32,
    /// Being taken out of the pool.
    pub retiring: u32,
}

/// One pool.
#[derive(Clone, Debug)]
pub struct PoolState {
    sizing: Sizing,
    pacing: Pacing,
    /// Replicas are only created once all that exist are known.
    synced: bool,
    members: BTreeMap<ReplicaUid, Member>,
    /// Creations that were not answered yet.
    creating: u32,
    /// Created, but not shown by the watch yet.
    expected: BTreeSet<ReplicaUid>,
    /// Gone while a creation was not answered: the answer may name one of them.
    gone: BTreeSet<ReplicaUid>,
    /// Replicas with an action under way.
    busy: BTreeSet<ReplicaUid>,
    /// Replicas that are being started for a model because no pool had one: they answer somebody who waits.
    cold_starts: BTreeSet<ReplicaUid>,
    /// The first claim since the last creation, and the last time that one was made or began to serve.
    claims: Option<(Moment, Moment)>,
    /// Starts that failed in a row.
    failures: u32,
    /// No creation before this.
    blocked_until: Moment,
    last_failure: Option<String>,
}

#[derive(Clone, Debug)]
struct Member {
    state: ReplicaState,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready { since: Moment },
    Exited,
}

/// Idle replicas that a pool should have now.
///
/// A pool of a fixed size keeps its minimum. It is a function of its own, so that a law that follows demand can take its
/// place without touching what creates and retires replicas.
#[must_use]
pub const fn desired_size(sizing: Sizing) -> u32 {
    if sizing.min < sizing.max { sizing.min } else { sizing.max }
}

impl PoolState {
    /// An empty pool.
    #[must_use]
    pub const fn new(sizing: Sizing, pacing: Pacing) -> Self {
        Self {
            sizing,
            pacing,
            synced: false,
            members: BTreeMap::new(),
            creating: 0,
            expected: BTreeSet::new(),
            gone: BTreeSet::new(),
            busy: BTreeSet::new(),
            cold_starts: BTreeSet::new(),
            claims: None,
            failures: 0,
            blocked_until: Moment::ZERO,
            last_failure: None,
        }
    }

    /// Changes the bounds.
    pub const fn resize(&mut self, sizing: Sizing) {
        self.sizing = sizing;
    }

    /// The number of idle replicas that it should have.
    #[must_use]
    pub const fn size(&self) -> u32 {
        desired_size(self.sizing)
    }

    /// All replicas that exist are known.
    pub fn synced(&mut self) {
        self.synced = true;
        self.expected.clear();
    }

    /// A replica of this pool exists and looks like this.
    pub fn applied(&mut self, replica: &Replica, now: Moment) {
        let before = self.members.get(&replica.uid).cloned();
        let phase = match (&replica.lifecycle, before.as_ref().map(|member| member.phase)) {
            (Lifecycle::Starting, _) => Phase::Starting,
            (Lifecycle::Ready { .. }, Some(Phase::Ready { since })) => Phase::Ready { since },
            (Lifecycle::Ready { .. }, _) => Phase::Ready { since: now },
            (Lifecycle::Exited { .. }, _) => Phase::Exited,
        };
        let was_idle = before.as_ref().is_some_and(|member| member.state == ReplicaState::Idle);
        let was_running = before.as_ref().is_none_or(|member| member.phase != Phase::Exited);
        if let (ReplicaState::Idle, Lifecycle::Exited { reason }, true) =
            (replica.state, &replica.lifecycle, was_running)
        {
            self.failed(reason.clone(), now);
        }
        let was_claimed = before.as_ref().is_some_and(|member| member.state == ReplicaState::Claimed);
        let claimed = was_idle && matches!(replica.state, ReplicaState::Claimed | ReplicaState::Serving);
        let activated = was_claimed && replica.state == ReplicaState::Serving && self.claims.is_some();
        if claimed || activated {
            let first = self.claims.map_or(now, |(first, _)| first);
            self.claims = Some((first, now));
        }
        self.expected.remove(&replica.uid);
        self.members.insert(replica.uid.clone(), Member { state: replica.state, phase });
    }

    /// A replica of no pool exists and looks like this. A refill that claims have put off waits until it serves, too.
    pub fn cold_start(&mut self, replica: &Replica, now: Moment) {
        let ended = matches!(replica.lifecycle, Lifecycle::Exited { .. });
        if replica.state == ReplicaState::Claimed && !ended {
            self.cold_starts.insert(replica.uid.clone());
        } else if self.cold_starts.remove(&replica.uid)
            && let Some((_, last)) = &mut self.claims
        {
            *last = now;
        }
    }

    /// A replica is gone.
    pub fn deleted(&mut self, uid: &ReplicaUid) {
        self.members.remove(uid);
        self.cold_starts.remove(uid);
        self.busy.remove(uid);
        self.expected.remove(uid);
        if self.creating > 0 {
            self.gone.insert(uid.clone());
        }
    }

    /// The answer to an [`Action::Create`]: the replica, or why there is none. The watch may show the replica before or
    /// after, in any state.
    pub fn created(&mut self, outcome: Result<ReplicaUid, String>, now: Moment) {
        self.creating = self.creating.saturating_sub(1);
        match outcome {
            Ok(uid) => {
                if !self.members.contains_key(&uid) && !self.gone.contains(&uid) {
                    self.expected.insert(uid);
                }
            }
            Err(reason) => self.failed(reason, now),
        }
        if self.creating == 0 {
            self.gone.clear();
        }
    }

    /// An [`Action::Retire`] or [`Action::Sweep`] is over, whatever became of it: what the watch says counts.
    pub fn settled(&mut self, uid: &ReplicaUid) {
        self.busy.remove(uid);
    }

    /// Why the last start failed, while starts fail.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Starts that failed in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Replicas by what they are to the pool.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { starting: self.unseen(), ..Counts::default() };
        for member in self.members.values() {
            match (member.state, member.phase) {
                (ReplicaState::Idle, Phase::Ready { .. }) => counts.idle += 1,
                (ReplicaState::Idle, Phase::Starting) => counts.starting += 1,
                (ReplicaState::Idle, Phase::Exited) => {}
                (ReplicaState::Retired, _) => counts.retiring += 1,
                (ReplicaState::Claimed | ReplicaState::Serving | ReplicaState::Draining, _) => counts.claimed += 1,
            }
        }
        counts
    }

    /// What to do now. Each action is given once, until its answer.
    pub fn plan(&mut self, now: Moment) -> Vec<Action> {
        self.forgive(now);
        let mut actions: Vec<Action> = self.leftovers().into_iter().map(Action::Sweep).collect();
        let counts = self.counts();
        let (have, size) = (counts.idle + counts.starting, self.size());
        // the watch may show a new replica before its creation is answered: only what it shows is surplus
        let shown = have - self.unseen();
        if shown > size {
            actions.extend(self.surplus(shown - size).into_iter().map(Action::Retire));
        } else if self.synced && now >= self.refill_from() {
            let room = self.pacing.starting.saturating_sub(counts.starting);
            let missing = size.saturating_sub(have).min(room);
            if missing > 0 {
                self.claims = None;
            }
            self.creating += missing;
            actions.extend((0..missing).map(|_| Action::Create));
        }
        for action in &actions {
            if let Action::Retire(uid) | Action::Sweep(uid) = action {
                self.busy.insert(uid.clone());
            }
        }
        actions
    }

    /// When to plan again if nothing happens before; `None`: not until something happens.
    #[must_use]
    pub fn next_wake(&self, now: Moment) -> Option<Moment> {
        let counts = self.counts();
        let waits = self.synced && counts.idle + counts.starting < self.size() && self.refill_from() > now;
        let refill = waits.then(|| self.refill_from());
        let proof = (self.failures > 0).then(|| self.oldest_ready().map(|since| since + self.pacing.stable)).flatten();
        refill.into_iter().chain(proof).filter(|wake| *wake > now).min()
    }

    /// Replicas on their way that the watch does not show yet; while creations are not answered, some may be counted
    /// twice.
    fn unseen(&self) -> u32 {
        self.creating.saturating_add(u32::try_from(self.expected.len()).unwrap_or(u32::MAX))
    }

    fn refill_from(&self) -> Moment {
        let claimed = self.members.values().any(|member| member.state == ReplicaState::Claimed);
        let activating = claimed || !self.cold_starts.is_empty();
        let after_claims = self.claims.map_or(Moment::ZERO, |(first, last)| {
            let latest = first + self.pacing.at_most;
            if activating { latest } else { latest.min(last + self.pacing.after_claim) }
        });
        after_claims.max(self.blocked_until)
    }

    /// One failure may be chance and is made good at once. From the second in a row on, waiting keeps a broken
    /// installation from starting processes in a hot loop.
    fn failed(&mut self, reason: String, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(reason);
        if let Some(doublings) = self.failures.checked_sub(2) {
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            let wait = self.pacing.backoff.saturating_mul(factor).min(self.pacing.max_backoff);
            self.blocked_until = now + wait;
        }
    }

    /// Forgets failures once a replica has proved that starting works.
    fn forgive(&mut self, now: Moment) {
        let proved = self.oldest_ready().is_some_and(|since| now >= since + self.pacing.stable);
        if self.failures > 0 && proved {
            self.failures = 0;
            self.last_failure = None;
            self.blocked_until = Moment::ZERO;
        }
    }

    fn oldest_ready(&self) -> Option<Moment> {
        let idle = self.members.values().filter(|member| member.state == ReplicaState::Idle);
        idle.filter_map(|member| match member.phase {
            Phase::Ready { since } => Some(since),
            Phase::Starting | Phase::Exited => None,
        })
        .min()
    }

    fn leftovers(&self) -> Vec<ReplicaUid> {
        let ours = |member: &Member| match member.state {
            ReplicaState::Idle => member.phase == Phase::Exited,
            // retired by a controller that did not come to delete it
            ReplicaState::Retired => true,
            ReplicaState::Claimed | ReplicaState::Serving | ReplicaState::Draining => false,
        };
        let idle = self.members.iter().filter(|(uid, member)| ours(member) && !self.busy.contains(uid));
        idle.map(|(uid, _)| uid.clone()).collect()
    }

    /// Idle replicas to give up: those that cannot be claimed yet first, then the youngest.
    fn surplus(&self, count: u32) -> Vec<ReplicaUid> {
        let mut candidates: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.state == ReplicaState::Idle && member.phase != Phase::Exited)
            .map(|(uid, member)| {
                let since = match member.phase {
                    Phase::Ready { since } => Some(since),
                    Phase::Starting | Phase::Exited => None,
                };
                (since.is_some(), std::cmp::Reverse(since), uid)
            })
            .collect();
        candidates.sort();
        let under_way = candidates.iter().filter(|(.., uid)| self.busy.contains(uid)).count();
        let count = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(under_way);
        let free = candidates.into_iter().filter(|(.., uid)| !self.busy.contains(*uid));
        free.take(count).map(|(.., uid)| uid.clone()).collect()
    }
}
