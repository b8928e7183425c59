//! The world around a leader: a store with compare-and-swap, wrappers with a claim lock, one gateway, and all that can go
//! wrong with them.
//!
//! Requests are performed at any time after they were sent. A reply can be late, lost or repeated; a leader can die
//! with requests on the way, each of which is then performed or not; replicas die, and new ones take their addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use autoscaler_policy::claim::{
    CreateOutcome, DeleteOutcome, Effect, Event, GetOutcome, Label, Lifecycle, LoadOutcome, Ownership, PodView, State,
    StateOutcome, Warmth, Write, WriteOutcome,
};
use autoscaler_policy::{ClaimId, Resources, RevisionKey, Uid, example};
use gateway_policy::Moment;

/// A wrapper process and the store's record of it, at one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pod {
    pub(crate) uid: Uid,
    pub(crate) label: Label,
    pub(crate) ownership: Option<Ownership>,
    pub(crate) lifecycle: Lifecycle,
    /// What its wrapper's lock holds; it loads at once.
    pub(crate) holds: Option<(ClaimId, RevisionKey)>,
    /// Its model could not be loaded.
    pub(crate) failed: bool,
    pub(crate) born_cold: bool,
}

/// A request on its way, and the address that its sender knew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Call {
    pub(crate) effect: Effect,
    pub(crate) address: Option<usize>,
}

/// A leader, or one that does not know yet that it is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    pub(crate) state: Arc<State>,
    /// Requests sent and not yet answered.
    pub(crate) calls: BTreeSet<Call>,
    /// Replicas that changed since the watch last delivered them.
    pub(crate) unseen: BTreeSet<Uid>,
    /// What the gateway said when it connected, not yet delivered.
    pub(crate) reports: BTreeSet<(RevisionKey, Uid, ClaimId)>,
    /// Replies that are delivered later.
    pub(crate) late: Vec<Late>,
}

/// A reply that is delivered later. Events hold whole revisions and are not hashed; its text is all there is to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Late(pub(crate) Event);

impl Eq for Late {}

impl Hash for Late {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{:?}", self.0).hash(state);
    }
}

/// How often each thing may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) deposals: u8,
    pub(crate) deaths: u8,
    pub(crate) retirements: u8,
    pub(crate) refills: u8,
    pub(crate) lost_replies: u8,
    pub(crate) late_requests: u8,
    pub(crate) late_replies: u8,
    pub(crate) repeats: u8,
    pub(crate) rejections: u8,
    pub(crate) scale_changes: u8,
    /// Time passes although replies are awaited.
    pub(crate) hurries: u8,
}

/// The safeguards outside the protocol. The product's are all on; a model without one must break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Safeguards {
    /// A new leader is told which replicas the gateway uses.
    pub(crate) reports: bool,
    /// Replicas are taken out when the leader says so.
    pub(crate) removals: bool,
    /// A wrapper refuses a second claim.
    pub(crate) claim_lock: bool,
    /// A write is conditional on label and claim.
    pub(crate) write_test: bool,
    /// A wrapper refuses a request for a revision that it does not hold.
    pub(crate) identity_check: bool,
}

impl Safeguards {
    pub(crate) const ALL: Self =
        Self { reports: true, removals: true, claim_lock: true, write_test: true, identity_check: true };
}

/// The whole world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) addresses: Vec<Option<Pod>>,
    pub(crate) born: u8,
    pub(crate) leader: Option<Leader>,
    /// A leader that was replaced and still acts.
    pub(crate) deposed: Option<Leader>,
    pub(crate) leaders_so_far: u8,
    /// Requests whose sender is dead or has given up waiting: performed at any time, or never.
    pub(crate) orphans: BTreeSet<Call>,
    /// What the gateway sends traffic to: the revision, the claim and the address.
    pub(crate) gateway: BTreeMap<Uid, (RevisionKey, ClaimId, usize)>,
    pub(crate) desired: BTreeMap<RevisionKey, u32>,
    pub(crate) now: Moment,
    pub(crate) budget: Budget,
    /// Something that must never happen has.
    pub(crate) fault: Option<&'static str>,
}

impl World {
    pub(crate) fn address_of(&self, uid: &Uid) -> Option<usize> {
        self.addresses.iter().position(|pod| pod.as_ref().is_some_and(|pod| pod.uid == *uid))
    }

    pub(crate) fn pod(&self, uid: &Uid) -> Option<&Pod> {
        self.addresses.iter().flatten().find(|pod| pod.uid == *uid)
    }

    fn pod_mut(&mut self, uid: &Uid) -> Option<&mut Pod> {
        self.addresses.iter_mut().flatten().find(|pod| pod.uid == *uid)
    }

    pub(crate) fn view(pod: &Pod) -> PodView {
        let mut fit = example::fit();
        if pod.born_cold {
            fit.pool = "".into();
        }
        PodView {
            uid: pod.uid.clone(),
            label: pod.label,
            ownership: pod.ownership.clone(),
            lifecycle: pod.lifecycle,
            fit: Arc::new(fit),
            resources: Arc::new(Resources::default()),
            warmth: Arc::new(Warmth { loaded: None, node: "n".into(), runtime: "onnx".into() }),
            created: Moment::ZERO,
        }
    }

    /// The store changed a replica: every watch will say so.
    fn changed(&mut self, uid: &Uid) {
        for leader in [&mut self.leader, &mut self.deposed].into_iter().flatten() {
            leader.unseen.insert(uid.clone());
        }
    }

    pub(crate) fn birth(&mut self, address: usize, ownership: Option<Ownership>) {
        self.born += 1;
        let uid = Uid::from(format!("u{}", self.born));
        let born_cold = ownership.is_some();
        self.addresses[address] = Some(Pod {
            uid: uid.clone(),
            label: if born_cold { Label::Claimed } else { Label::Idle },
            ownership,
            lifecycle: Lifecycle::Ready,
            holds: None,
            failed: false,
            born_cold,
        });
        self.changed(&uid);
    }

    pub(crate) fn remove(&mut self, uid: &Uid) {
        if let Some(address) = self.address_of(uid) {
            self.addresses[address] = None;
            self.changed(uid);
        }
    }

    pub(crate) fn die(&mut self, uid: &Uid) {
        if let Some(pod) = self.pod_mut(uid) {
            pod.lifecycle = Lifecycle::Exited;
            pod.holds = None;
        }
        self.changed(uid);
    }

    pub(crate) fn retire(&mut self, uid: &Uid) {
        if let Some(pod) = self.pod_mut(uid) {
            pod.label = Label::Retired;
        }
        self.changed(uid);
    }

    /// The replica that answers at an address.
    fn listening(&mut self, address: Option<usize>) -> Option<&mut Pod> {
        self.addresses.get_mut(address?)?.as_mut().filter(|pod| pod.lifecycle == Lifecycle::Ready)
    }

    /// Performs a request and says what its sender would hear.
    pub(crate) fn perform(&mut self, call: &Call, safeguards: Safeguards, reject: bool) -> Option<Event> {
        match &call.effect {
            Effect::Write { ticket, from, revision, deadline } => {
                let outcome = match self.pod_mut(&ticket.uid) {
                    Some(pod) => {
                        let owner = pod.ownership.as_ref().map(|owner| &owner.claim);
                        let passes = pod.label == *from && (*from == Label::Idle || owner == Some(&ticket.claim));
                        if passes || !safeguards.write_test {
                            let ownership = Ownership {
                                claim: ticket.claim.clone(),
                                revision: revision.clone(),
                                deadline: *deadline,
                            };
                            match ticket.write {
                                Write::Claim => (pod.label, pod.ownership) = (Label::Claimed, Some(ownership)),
                                Write::ClaimServing => (pod.label, pod.ownership) = (Label::Serving, Some(ownership)),
                                Write::Serve => pod.label = Label::Serving,
                                Write::Drain => pod.label = Label::Draining,
                            }
                            WriteOutcome::Won(Self::view(pod))
                        } else {
                            WriteOutcome::Lost
                        }
                    }
                    None => WriteOutcome::Lost,
                };
                if matches!(outcome, WriteOutcome::Won(_)) {
                    self.changed(&ticket.uid);
                }
                Some(Event::Written { ticket: ticket.clone(), outcome })
            }
            Effect::Get { uid } => {
                let outcome = self.pod(uid).map_or(GetOutcome::Gone, |pod| GetOutcome::Found(Self::view(pod)));
                Some(Event::Got { uid: uid.clone(), outcome })
            }
            Effect::Specialize { uid, claim, revision, .. } => {
                let outcome = match self.listening(call.address) {
                    None => LoadOutcome::Unreachable,
                    Some(pod) if pod.uid != *uid => LoadOutcome::Conflict,
                    Some(pod) => match &pod.holds {
                        Some((held, _)) if safeguards.claim_lock && held != claim => LoadOutcome::Conflict,
                        Some(_) if pod.failed => LoadOutcome::Rejected { message: "bad".into() },
                        _ => {
                            pod.holds = Some((claim.clone(), revision.clone()));
                            pod.failed = reject;
                            if reject {
                                LoadOutcome::Rejected { message: "bad".into() }
                            } else {
                                LoadOutcome::Loaded { load: Duration::ZERO }
                            }
                        }
                    },
                };
                Some(Event::Specialized { uid: uid.clone(), claim: claim.clone(), outcome })
            }
            Effect::AskState { uid } => {
                let outcome = match self.listening(call.address) {
                    Some(pod) if pod.uid == *uid => match &pod.holds {
                        Some(_) if pod.failed => StateOutcome::Useless { message: "bad".into() },
                        Some((claim, _)) => StateOutcome::Serving(claim.clone()),
                        None => StateOutcome::Empty,
                    },
                    Some(_) => StateOutcome::Useless { message: "another replica".into() },
                    None => StateOutcome::Unreachable,
                };
                Some(Event::State { uid: uid.clone(), outcome })
            }
            Effect::Remove { uid, claim, .. } => {
                safeguards.removals.then(|| Event::RemovalAcked { uid: uid.clone(), claim: claim.clone() })
            }
            Effect::Drain { uid, claim } => Some(Event::Drained { uid: uid.clone(), claim: claim.clone() }),
            Effect::Delete { .. } if !safeguards.removals => None,
            Effect::Delete { uid, claim, label } => {
                let passes = |pod: &Pod| {
                    pod.label == *label && pod.ownership.as_ref().is_some_and(|owner| owner.claim == *claim)
                };
                let outcome = match self.pod(uid) {
                    Some(pod) if passes(pod) => {
                        self.remove(uid);
                        DeleteOutcome::Deleted
                    }
                    Some(_) => DeleteOutcome::Refused,
                    None => DeleteOutcome::Deleted,
                };
                Some(Event::Deletion { uid: uid.clone(), label: *label, outcome })
            }
            Effect::Create { claim, revision, deadline } => {
                let outcome = match self.addresses.iter().position(Option::is_none) {
                    Some(address) => {
                        let ownership =
                            Ownership { claim: claim.clone(), revision: revision.clone(), deadline: *deadline };
                        self.birth(address, Some(ownership));
                        CreateOutcome::Created(Uid::from(format!("u{}", self.born)))
                    }
                    None => CreateOutcome::NoCapacity("full".into()),
                };
                Some(Event::Created { claim: claim.clone(), outcome })
            }
            Effect::Publish { .. } | Effect::Gone { .. } | Effect::Condition { .. } => None,
        }
    }

    /// What a sender hears when no reply comes.
    pub(crate) fn no_reply(effect: &Effect) -> Option<Event> {
        Some(match effect {
            Effect::Write { ticket, .. } => Event::Written { ticket: ticket.clone(), outcome: WriteOutcome::Unknown },
            Effect::Get { uid } => Event::Got { uid: uid.clone(), outcome: GetOutcome::Unknown },
            Effect::Specialize { uid, claim, .. } => {
                Event::Specialized { uid: uid.clone(), claim: claim.clone(), outcome: LoadOutcome::TimedOut }
            }
            Effect::AskState { uid } => Event::State { uid: uid.clone(), outcome: StateOutcome::Unreachable },
            Effect::Delete { uid, label, .. } => {
                Event::Deletion { uid: uid.clone(), label: *label, outcome: DeleteOutcome::Unknown }
            }
            Effect::Create { claim, .. } => Event::Created { claim: claim.clone(), outcome: CreateOutcome::Unknown },
            _ => return None,
        })
    }

    /// Takes one step of the leader (or of the deposed one) and sends what it asks for.
    pub(crate) fn step(&mut self, deposed: bool, event: Event) {
        let now = self.now;
        let slot = if deposed { &mut self.deposed } else { &mut self.leader };
        let Some(leader) = slot else { return };
        let mut effects = Vec::new();
        Arc::make_mut(&mut leader.state).apply(event, now, &mut effects);
        for effect in effects {
            self.send(deposed, effect);
        }
    }

    fn send(&mut self, deposed: bool, effect: Effect) {
        // The gateway listens to the leader that it is connected to; a deposed one has no gateway left to wait for.
        let address = match &effect {
            Effect::Specialize { uid, .. } | Effect::AskState { uid } => self.address_of(uid),
            Effect::Publish { uid, claim, revision, .. } => {
                if let Some(address) = self.address_of(uid).filter(|_| !deposed) {
                    self.gateway.insert(uid.clone(), (revision.clone(), claim.clone(), address));
                }
                return;
            }
            Effect::Gone { uid, .. } => {
                if !deposed {
                    self.gateway.remove(uid);
                }
                return;
            }
            Effect::Remove { uid, .. } => {
                if !deposed {
                    self.gateway.remove(uid);
                }
                None
            }
            Effect::Condition { .. } => return,
            _ => None,
        };
        let slot = if deposed { &mut self.deposed } else { &mut self.leader };
        if let Some(leader) = slot {
            leader.calls.insert(Call { effect, address });
        }
    }

    /// A request for the replica as the gateway knows it.
    pub(crate) fn request(&mut self, uid: &Uid, safeguards: Safeguards) {
        let Some((revision, _, address)) = self.gateway.get(uid).cloned() else { return };
        let holds = self.listening(Some(address)).map(|pod| pod.holds.clone().filter(|_| !pod.failed));
        match holds {
            Some(Some((_, held))) if held == revision => {}
            Some(_) if !safeguards.identity_check => self.fault = Some("a request ran on a replica not loaded for it"),
            // 421, or no connection: the gateway picks another and tells the leader.
            _ => self.step(false, Event::Fault { uid: uid.clone() }),
        }
    }

    /// Whether the gateway's idea of this replica is wrong, so that a request would find out.
    pub(crate) fn is_misdirected(&self, uid: &Uid) -> bool {
        let Some((revision, _, address)) = self.gateway.get(uid) else { return false };
        let pod = self.addresses[*address].as_ref().filter(|pod| pod.lifecycle == Lifecycle::Ready && !pod.failed);
        pod.and_then(|pod| pod.holds.as_ref()).is_none_or(|(_, held)| held != revision)
    }
}
