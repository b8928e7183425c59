//! Which replica serves a request, and why.

use std::fmt;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::{Aim, Device, Load, Moment, Replica, Slot, predict};

/// Pairs of replicas of a class that are looked at before all of them are: with half of them full, fewer than one
/// request in two hundred looks further.
const PAIRS: u32 = 4;

/// The replicas of one model on one kind of device at one cost, as they stand for one request.
#[derive(Debug)]
pub struct Class<'a, R> {
    /// What they run on.
    pub device: Device,
    /// Relative cost of a replica-second.
    pub cost: f64,
    /// Of this request on an idle replica ([`crate::ServiceTimes::estimate`]).
    pub service_time: Duration,
    /// Whether that is a guess, so that a request may be sent to find out ([`crate::ServiceTimes::wants_trial`]).
    pub wants_trial: bool,
    /// The active replicas. None means that the class is cold.
    pub replicas: &'a [R],
}

impl<R> Clone for Class<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Class<'_, R> {}

/// Why a device served a request: the values of [`crate::REASON_HEADER`] of a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Only one class had a replica with a free slot.
    OnlyCandidate,
    /// The least device cost of those predicted within the target.
    CheapestWithinTarget,
    /// None was predicted within the target.
    Fastest,
    /// What is known of a cheaper class is a guess: this request measures it.
    Trial,
    /// A class that would have been preferred has no active replica.
    ColdStandby,
    /// Nothing was scored: the route names its replicas itself.
    Static,
}

impl Reason {
    /// Every reason, for metrics that register their label values beforehand.
    pub const ALL: [Self; 6] =
        [Self::OnlyCandidate, Self::CheapestWithinTarget, Self::Fastest, Self::Trial, Self::ColdStandby, Self::Static];

    /// The header and label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnlyCandidate => "only-candidate",
            Self::CheapestWithinTarget => "cheapest-within-target",
            Self::Fastest => "fastest",
            Self::Trial => "trial",
            Self::ColdStandby => "cold-standby",
            Self::Static => "static",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision: which replica, what it promises and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Position of the class among those given.
    pub class: usize,
    /// Position of the replica in its class.
    pub replica: usize,
    /// Until the request completes.
    pub predicted: Duration,
    /// Why this class.
    pub reason: Reason,
}

/// A [`Choice`] with its slot taken.
#[derive(Debug)]
pub struct Pick<R: Replica> {
    /// The replica, reserved for this request.
    pub slot: Slot<R>,
    /// Why it.
    pub choice: Choice,
}

/// Chooses a replica and takes a slot of it; `None` when every slot of every replica is taken.
///
/// Other threads take slots at the same time. Whoever loses a race for one chooses again, which ends: a race is lost
/// only when another request won a slot, and when the last is gone [`choose`] finds none.
#[expect(clippy::needless_pass_by_value, reason = "callers make the iterator in place")]
pub fn pick<'a, R, C>(classes: C, aim: Aim, now: Moment, rng: &mut impl Rng) -> Option<Pick<R>>
where
    R: Replica + Clone + 'a,
    C: Iterator<Item = Class<'a, R>> + Clone,
{
    loop {
        let (choice, replica) = decide(classes.clone(), aim, now, rng)?;
        if let Ok(slot) = Slot::acquire(replica.clone()) {
            return Some(Pick { slot, choice });
        }
    }
}

/// Chooses a replica for a request and takes nothing; `None` when every slot of every replica is taken.
///
/// In each class two replicas drawn at random are compared, and the one that would answer earlier is the candidate.
/// Of the candidates predicted to answer within the target the one of least cost is chosen; if there is none, the fastest.
/// A replica that can serve now is never passed over for a class that is cold: the reason says when one would have been
/// preferred.
///
/// A class that is never chosen is never measured, so a wrong guess would keep it from being chosen for ever. A cheaper
/// class of which only a guess is known therefore gets the request as a trial, if its replica is idle and not ejected and
/// by the guess the caller gets its answer in time. It does so only where the class that it would have had was asked lately:
/// of a model that is asked less often than a measurement counts, every request would be a trial. The caller tells the
/// class's service times ([`crate::ServiceTimes::begin_trial`]).
///
/// A replica is eligible when it has a free slot and is not ejected. Where neither of two is, further pairs are drawn,
/// and then all replicas of the class are looked at, so that none with a free slot is missed. In a class where all are
/// ejected the ejections are ignored: a replica that may fail is better than none.
pub fn choose<'a, R, C>(classes: C, aim: Aim, now: Moment, rng: &mut impl Rng) -> Option<Choice>
where
    R: Replica + 'a,
    C: Iterator<Item = Class<'a, R>>,
{
    decide(classes, aim, now, rng).map(|(choice, _)| choice)
}

fn decide<'a, R, C>(classes: C, aim: Aim, now: Moment, rng: &mut impl Rng) -> Option<(Choice, &'a R)>
where
    R: Replica + 'a,
    C: Iterator<Item = Class<'a, R>>,
{
    let mut best: Option<(Candidate, usize, &'a R)> = None;
    let mut best_cold: Option<Candidate> = None;
    let mut best_trial: Option<(Candidate, usize, &'a R)> = None;
    let mut candidates = 0;
    for (index, class) in classes.enumerate() {
        if class.replicas.is_empty() {
            let candidate = Candidate::new(&class, Load::IDLE, index, aim.target);
            if best_cold.is_none_or(|best| candidate.beats(&best)) {
                best_cold = Some(candidate);
            }
        } else if let Some((replica, load)) = eligible(class.replicas, now, rng) {
            candidates += 1;
            let candidate = Candidate::new(&class, load, index, aim.target);
            let reference = &class.replicas[replica];
            let may_be_tried = class.wants_trial
                && load.ahead == 0
                && candidate.predicted <= aim.trial
                && !reference.health().is_ejected(now);
            if may_be_tried && best_trial.is_none_or(|(best, ..)| candidate.is_cheaper(&best)) {
                best_trial = Some((candidate, replica, reference));
            }
            if best.is_none_or(|(best, ..)| candidate.beats(&best)) {
                best = Some((candidate, replica, reference));
            }
        }
    }
    let best = best?;
    let trial = best_trial.filter(|(trial, ..)| trial.is_cheaper(&best.0) && !best.0.is_guess);
    let (chosen, replica, reference) = trial.unwrap_or(best);
    let reason = if trial.is_some() {
        Reason::Trial
    } else if best_cold.is_some_and(|cold| cold.beats(&chosen)) {
        Reason::ColdStandby
    } else if candidates == 1 {
        Reason::OnlyCandidate
    } else if chosen.within_target {
        Reason::CheapestWithinTarget
    } else {
        Reason::Fastest
    };
    let choice = Choice { class: chosen.class, replica, predicted: chosen.predicted, reason };
    Some((choice, reference))
}

/// What a class offers.
#[derive(Clone, Copy)]
struct Candidate {
    class: usize,
    cost: f64,
    predicted: Duration,
    within_target: bool,
    is_guess: bool,
}

impl Candidate {
    fn new<R>(class: &Class<'_, R>, load: Load, index: usize, target: Duration) -> Self {
        let predicted = predict(class.service_time, load, Duration::ZERO);
        let within_target = predicted <= target;
        Self { class: index, cost: class.cost, predicted, within_target, is_guess: class.wants_trial }
    }

    fn is_cheaper(&self, other: &Self) -> bool {
        self.cost.total_cmp(&other.cost).is_lt()
    }

    fn beats(&self, other: &Self) -> bool {
        let by_cost = self.cost.total_cmp(&other.cost);
        let by_time = self.predicted.cmp(&other.predicted);
        match (self.within_target, other.within_target) {
            (true, true) => by_cost.then(by_time).is_lt(),
            (false, false) => by_time.then(by_cost).is_lt(),
            (within, _) => within,
        }
    }
}

/// A replica with a free slot that is not ejected: the better of two at random if there is one among the first few
/// pairs, else whichever there is.
fn eligible<R: Replica>(replicas: &[R], now: Moment, rng: &mut impl Rng) -> Option<(usize, Load)> {
    if replicas.len() > 2 {
        for _ in 0..PAIRS {
            let (first, second) = draw_two(replicas.len(), rng);
            if let Some(better) = better_of(replicas, first, second, now) {
                return Some(better);
            }
        }
    }
    walk(replicas, now, rng)
}

/// Two different positions below `len`, which must be 2 at least.
fn draw_two(len: usize, rng: &mut impl Rng) -> (usize, usize) {
    let first = rng.random_range(0..len);
    let second = rng.random_range(0..len - 1);
    (first, if second < first { second } else { second + 1 })
}

fn better_of<R: Replica>(replicas: &[R], first: usize, second: usize, now: Moment) -> Option<(usize, Load)> {
    let look = |index: usize| {
        let replica = &replicas[index];
        (replica.slots().has_free() && !replica.health().is_ejected(now)).then(|| (index, replica.slots().load()))
    };
    match (look(first), look(second)) {
        (Some(one), Some(other)) => Some(if is_lighter(other.1, one.1) { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Whether a request would be answered earlier under `load` than under `other`, on replicas of one service time.
fn is_lighter(load: Load, other: Load) -> bool {
    load.stretch().total_cmp(&other.stretch()).then(load.ahead.cmp(&other.ahead)).is_lt()
}

/// Looks at every replica, from a random one on: the lighter of the first two eligible ones.
fn walk<R: Replica>(replicas: &[R], now: Moment, rng: &mut impl Rng) -> Option<(usize, Load)> {
    let start = if replicas.len() < 2 { 0 } else { rng.random_range(0..replicas.len()) };
    let mut found: Option<(usize, Load)> = None;
    let mut ejected_only: Option<(usize, Load)> = None;
    let mut all_ejected = true;
    for index in (start..replicas.len()).chain(0..start) {
        let replica = &replicas[index];
        let ejected = replica.health().is_ejected(now);
        all_ejected &= ejected;
        let load = replica.slots().load();
        if !replica.slots().has_free() {
            continue;
        }
        if ejected {
            ejected_only.get_or_insert((index, load));
        } else if let Some(first) = found {
            return Some(if is_lighter(load, first.1) { (index, load) } else { first });
        } else {
            found = Some((index, load));
        }
    }
    found.or(ejected_only.filter(|_| all_ejected))
}

#[cfg(test)]
mod tests;
