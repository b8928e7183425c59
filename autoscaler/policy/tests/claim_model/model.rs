//! Everything that can happen in the world, in every order.

use std::collections::BTreeMap;
use std::sync::Arc;

use autoscaler_policy::claim::{Effect, Event, Label, Lifecycle, Settings, State};
use autoscaler_policy::{ClaimId, Revision, RevisionKey, Uid, example};
use gateway_policy::{Device, Moment};
use stateright::{Model, Property};

use crate::properties;
use crate::world::{Budget, Call, Late, Leader, Pod, Safeguards, World};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A request is performed and its reply delivered.
    Answer { deposed: bool, call: Call },
    /// A request is performed and its reply lost.
    LoseReply { deposed: bool, call: Call },
    /// The sender gives up; the request is still on its way.
    GiveUp { deposed: bool, call: Call },
    /// A request is performed; its reply is on its way.
    AnswerLate { deposed: bool, call: Call },
    /// A reply arrives, and once more later.
    AnswerTwice { deposed: bool, call: Call },
    /// A model cannot be loaded.
    Reject { deposed: bool, call: Call },
    /// A late reply arrives.
    Deliver { deposed: bool, index: usize },
    /// A request that nobody waits for is performed, or lost.
    Orphan { call: Call, performed: bool },
    /// The watch delivers a replica as it is now.
    Watch { deposed: bool, uid: Uid },
    /// The new leader hears of a replica that the gateway uses.
    Report { revision: RevisionKey, uid: Uid, claim: ClaimId },
    /// Time passes: when nothing else is waited for, or all the same.
    Tick { deposed: bool },
    /// The leader dies.
    Crash,
    /// A new leader takes over.
    Start,
    /// A new leader takes over while the old one goes on for a while.
    Depose,
    /// The deposed leader notices.
    StepDown,
    /// A replica dies.
    Die { uid: Uid },
    /// The pool clears away a replica that died idle, or that it retired.
    Sweep { uid: Uid },
    /// The pool shrinks.
    Retire { uid: Uid },
    /// The pool grows.
    Refill { address: usize },
    /// A request comes to a replica that is not what the gateway takes it for.
    Request { uid: Uid },
    /// The number of replicas that a revision should have changes.
    Scale { revision: RevisionKey, replicas: u32 },
}

/// What is explored.
#[derive(Clone, Debug)]
pub(crate) struct ClaimModel {
    pub(crate) addresses: usize,
    /// Addresses that have an idle replica at first.
    pub(crate) pool: usize,
    pub(crate) revisions: u32,
    /// Replicas that each should have, and to which it may change.
    pub(crate) desired: u32,
    pub(crate) settings: Settings,
    pub(crate) budget: Budget,
    pub(crate) safeguards: Safeguards,
}

impl ClaimModel {
    fn revision(number: u32) -> Arc<Revision> {
        Arc::new(Revision {
            key: RevisionKey::from(format!("r{number}")),
            ..example::revision(&format!("m{number}"), Device::Cpu)
        })
    }

    /// A leader that has just been told everything that there is, but for what the gateway uses.
    fn start(&self, world: &mut World, deposed: Option<Leader>) {
        world.leaders_so_far += 1;
        let mut leader = Leader {
            state: Arc::new(State::new(&format!("l{}", world.leaders_so_far), self.settings.clone())),
            calls: Default::default(),
            unseen: Default::default(),
            reports: Default::default(),
            late: Vec::new(),
        };
        if self.safeguards.reports {
            let known = world.gateway.iter();
            leader.reports =
                known.map(|(uid, (revision, claim, _))| (revision.clone(), uid.clone(), claim.clone())).collect();
        }
        world.leader = Some(leader);
        world.deposed = deposed;
        world.step(false, Event::Revisions((0..self.revisions).map(Self::revision).collect()));
        for (revision, replicas) in world.desired.clone() {
            world.step(false, Event::Desired { revision, replicas });
        }
        let views: Vec<_> = world.addresses.iter().flatten().map(World::view).collect();
        for view in views {
            world.step(false, Event::Applied(view));
        }
        world.step(false, Event::Synced);
    }

    fn leader_actions(&self, world: &World, deposed: bool, actions: &mut Vec<Action>) {
        let Some(leader) = (if deposed { &world.deposed } else { &world.leader }) else { return };
        let budget = world.budget;
        for call in &leader.calls {
            let call = call.clone();
            actions.push(Action::Answer { deposed, call: call.clone() });
            let has_reply = World::no_reply(&call.effect).is_some();
            if has_reply && budget.lost_replies > 0 {
                actions.push(Action::LoseReply { deposed, call: call.clone() });
            }
            if has_reply && budget.late_requests > 0 {
                actions.push(Action::GiveUp { deposed, call: call.clone() });
            }
            if has_reply && budget.late_replies > 0 {
                actions.push(Action::AnswerLate { deposed, call: call.clone() });
            }
            if has_reply && budget.repeats > 0 {
                actions.push(Action::AnswerTwice { deposed, call: call.clone() });
            }
            if budget.rejections > 0 && matches!(call.effect, Effect::Specialize { .. }) {
                actions.push(Action::Reject { deposed, call });
            }
        }
        actions.extend((0..leader.late.len()).map(|index| Action::Deliver { deposed, index }));
        actions.extend(leader.unseen.iter().map(|uid| Action::Watch { deposed, uid: uid.clone() }));
        if waits_only_for_time(leader) || budget.hurries > 0 {
            let due = leader.state.next_wake().filter(|_| self.safeguards.removals);
            actions.extend(due.map(|_| Action::Tick { deposed }));
        }
    }
}

pub(crate) fn is_sweepable(pod: &Pod) -> bool {
    pod.label == Label::Retired || (pod.label == Label::Idle && pod.lifecycle == Lifecycle::Exited)
}

impl Model for ClaimModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World {
            addresses: vec![None; self.addresses],
            born: 0,
            leader: None,
            deposed: None,
            leaders_so_far: 0,
            orphans: Default::default(),
            gateway: BTreeMap::new(),
            desired: (0..self.revisions).map(|number| (Self::revision(number).key.clone(), self.desired)).collect(),
            now: Moment::from_micros(1),
            budget: self.budget,
            fault: None,
        };
        for address in 0..self.pool {
            world.birth(address, None);
        }
        self.start(&mut world, None);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let budget = world.budget;
        if world.fault.is_some() {
            return;
        }
        self.leader_actions(world, false, actions);
        self.leader_actions(world, true, actions);
        for call in &world.orphans {
            actions.extend([true, false].map(|performed| Action::Orphan { call: call.clone(), performed }));
        }
        match &world.leader {
            Some(leader) => {
                actions.extend(leader.reports.iter().map(|(revision, uid, claim)| Action::Report {
                    revision: revision.clone(),
                    uid: uid.clone(),
                    claim: claim.clone(),
                }));
                if budget.crashes > 0 {
                    actions.push(Action::Crash);
                }
                if budget.deposals > 0 && world.deposed.is_none() {
                    actions.push(Action::Depose);
                }
                if budget.scale_changes > 0 {
                    for (revision, replicas) in &world.desired {
                        let replicas = if *replicas == 0 { self.desired } else { 0 };
                        actions.push(Action::Scale { revision: revision.clone(), replicas });
                    }
                }
                let misdirected = world.gateway.keys().filter(|uid| world.is_misdirected(uid));
                actions.extend(misdirected.map(|uid| Action::Request { uid: uid.clone() }));
            }
            None => actions.push(Action::Start),
        }
        if world.deposed.is_some() {
            actions.push(Action::StepDown);
        }
        for (address, slot) in world.addresses.iter().enumerate() {
            match slot {
                Some(pod) => {
                    if budget.deaths > 0 && pod.lifecycle == Lifecycle::Ready {
                        actions.push(Action::Die { uid: pod.uid.clone() });
                    }
                    if budget.retirements > 0 && pod.label == Label::Idle {
                        actions.push(Action::Retire { uid: pod.uid.clone() });
                    }
                    if is_sweepable(pod) {
                        actions.push(Action::Sweep { uid: pod.uid.clone() });
                    }
                }
                None if budget.refills > 0 => actions.push(Action::Refill { address }),
                None => {}
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let take = |world: &mut World, deposed: bool, call: &Call| {
            let leader = if deposed { &mut world.deposed } else { &mut world.leader };
            if let Some(leader) = leader {
                leader.calls.remove(call);
            }
        };
        let keep = |world: &mut World, deposed: bool, reply: Option<Event>| {
            let leader = if deposed { &mut world.deposed } else { &mut world.leader };
            if let (Some(leader), Some(reply)) = (leader, reply) {
                leader.late.push(Late(reply));
            }
        };
        match action {
            Action::Answer { deposed, call } => {
                take(&mut world, deposed, &call);
                if let Some(reply) = world.perform(&call, self.safeguards, false) {
                    world.step(deposed, reply);
                }
            }
            Action::LoseReply { deposed, call } => {
                world.budget.lost_replies -= 1;
                take(&mut world, deposed, &call);
                world.perform(&call, self.safeguards, false);
                world.step(deposed, World::no_reply(&call.effect)?);
            }
            Action::GiveUp { deposed, call } => {
                world.budget.late_requests -= 1;
                take(&mut world, deposed, &call);
                world.orphans.insert(call.clone());
                world.step(deposed, World::no_reply(&call.effect)?);
            }
            Action::AnswerLate { deposed, call } => {
                world.budget.late_replies -= 1;
                take(&mut world, deposed, &call);
                let reply = world.perform(&call, self.safeguards, false);
                keep(&mut world, deposed, reply);
            }
            Action::AnswerTwice { deposed, call } => {
                world.budget.repeats -= 1;
                take(&mut world, deposed, &call);
                let reply = world.perform(&call, self.safeguards, false)?;
                keep(&mut world, deposed, Some(reply.clone()));
                world.step(deposed, reply);
            }
            Action::Reject { deposed, call } => {
                world.budget.rejections -= 1;
                take(&mut world, deposed, &call);
                if let Some(reply) = world.perform(&call, self.safeguards, true) {
                    world.step(deposed, reply);
                }
            }
            Action::Deliver { deposed, index } => {
                let leader = if deposed { world.deposed.as_mut() } else { world.leader.as_mut() };
                let Late(reply) = leader?.late.remove(index);
                world.step(deposed, reply);
            }
            Action::Orphan { call, performed } => {
                world.orphans.remove(&call);
                if performed {
                    world.perform(&call, self.safeguards, false);
                }
            }
            Action::Watch { deposed, uid } => {
                let view = world.pod(&uid).map(World::view);
                let leader = if deposed { &mut world.deposed } else { &mut world.leader };
                leader.as_mut()?.unseen.remove(&uid);
                world.step(deposed, view.map_or(Event::Deleted(uid), Event::Applied));
            }
            Action::Report { revision, uid, claim } => {
                world.leader.as_mut()?.reports.remove(&(revision.clone(), uid.clone(), claim.clone()));
                world.step(false, Event::Reported { revision, uid, claim });
            }
            Action::Tick { deposed } => {
                let leader = (if deposed { &world.deposed } else { &world.leader }).as_ref()?;
                if !waits_only_for_time(leader) {
                    world.budget.hurries -= 1;
                }
                world.now = world.now.max(leader.state.next_wake()?);
                world.step(deposed, Event::Tick);
            }
            Action::Crash => {
                world.budget.crashes -= 1;
                let leader = world.leader.take()?;
                world.orphans.extend(leader.calls.into_iter().filter(changes_something));
            }
            Action::Start => self.start(&mut world, None),
            Action::Depose => {
                world.budget.deposals -= 1;
                let deposed = world.leader.take();
                self.start(&mut world, deposed);
            }
            Action::StepDown => {
                let deposed = world.deposed.take()?;
                world.orphans.extend(deposed.calls.into_iter().filter(changes_something));
            }
            Action::Die { uid } => {
                world.budget.deaths -= 1;
                world.die(&uid);
            }
            Action::Sweep { uid } => world.remove(&uid),
            Action::Retire { uid } => {
                world.budget.retirements -= 1;
                world.retire(&uid);
            }
            Action::Refill { address } => {
                world.budget.refills -= 1;
                world.birth(address, None);
            }
            Action::Request { uid } => world.request(&uid, self.safeguards),
            Action::Scale { revision, replicas } => {
                world.budget.scale_changes -= 1;
                world.desired.insert(revision.clone(), replicas);
                world.step(false, Event::Desired { revision, replicas });
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

pub(crate) fn waits_only_for_time(leader: &Leader) -> bool {
    leader.calls.is_empty() && leader.late.is_empty() && leader.unseen.is_empty() && leader.reports.is_empty()
}

/// A read that nobody waits for any more has no effect.
fn changes_something(call: &Call) -> bool {
    matches!(
        call.effect,
        Effect::Write { .. } | Effect::Specialize { .. } | Effect::Delete { .. } | Effect::Create { .. }
    )
}
