//! The claim protocol case by case. Orders of replies and crashes are explored by the model in `tests/claim_model`.

mod activation;
mod failures;
mod pool;
mod stopping;

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{Device, Moment};

use super::*;
use crate::example;
use crate::ids::{ClaimId, Digest, RevisionKey, Uid};
use crate::resources::Resources;
use crate::revision::Revision;

/// A leader whose clock and events a test sets by hand.
struct Rig {
    state: State,
    now: Moment,
    revisions: Vec<Arc<Revision>>,
}

fn revision(name: &str) -> Revision {
    Revision { key: key(name), max_replicas: 100, ..example::revision(name, Device::Cpu) }
}

fn idle(uid: &str) -> PodView {
    PodView {
        uid: Uid::from(uid),
        label: Label::Idle,
        ownership: None,
        lifecycle: Lifecycle::Ready,
        fit: Arc::new(example::fit()),
        resources: Arc::new(Resources::default()),
        warmth: Arc::new(Warmth { loaded: None, node: "node".into(), runtime: "onnx".into() }),
        created: Moment::ZERO,
    }
}

fn key(name: &str) -> RevisionKey {
    RevisionKey::from(format!("ns/{name}"))
}

/// The claim that this leader makes of a replica.
fn claim_of(uid: &str) -> ClaimId {
    ClaimId::from(format!("leader-{uid}"))
}

fn owned(uid: &str, label: Label, claim: &ClaimId, revision: &str) -> PodView {
    let ownership =
        Ownership { claim: claim.clone(), revision: key(revision), deadline: Moment::from_micros(u64::MAX) };
    PodView { label, ownership: Some(ownership), ..idle(uid) }
}

impl Rig {
    /// A leader that has seen these idle replicas and these revisions.
    fn new(settings: Settings, pods: &[PodView], revisions: &[Revision]) -> Self {
        let revisions: Vec<_> = revisions.iter().cloned().map(Arc::new).collect();
        let mut rig = Self { state: State::new("leader", settings), now: Moment::from_micros(1_000_000), revisions };
        let table = rig.revisions.clone();
        assert_eq!(rig.on(Event::Revisions(table)), []);
        for pod in pods {
            assert_eq!(rig.on(Event::Applied(pod.clone())), []);
        }
        assert_eq!(rig.on(Event::Synced), []);
        rig
    }

    fn simple(pods: &[&str]) -> Self {
        let pods: Vec<_> = pods.iter().map(|uid| idle(uid)).collect();
        Self::new(Settings::default(), &pods, &[revision("a"), revision("b")])
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.apply(event, self.now, &mut effects);
        effects
    }

    fn wait(&mut self, time: Duration) -> Vec<Effect> {
        self.now = self.now + time;
        self.on(Event::Tick)
    }

    fn want(&mut self, revision: &str, replicas: u32) -> Vec<Effect> {
        self.on(Event::Desired { revision: key(revision), replicas })
    }

    fn specialized(&mut self, uid: &str, claim: &ClaimId, outcome: LoadOutcome) -> Vec<Effect> {
        self.on(Event::Specialized { uid: Uid::from(uid), claim: claim.clone(), outcome })
    }

    /// Answers the writes among `effects` as won and the specialize calls as done, until nothing more is asked.
    fn serve_all(&mut self, mut effects: Vec<Effect>) {
        while let Some(effect) = effects.pop() {
            let more = match effect {
                Effect::Write { ticket, revision, .. } => {
                    let label = if ticket.write == Write::Claim { Label::Claimed } else { Label::Serving };
                    let name = revision.as_str().trim_start_matches("ns/").to_owned();
                    let view = owned(ticket.uid.as_str(), label, &ticket.claim, &name);
                    self.on(Event::Written { ticket, outcome: WriteOutcome::Won(view) })
                }
                Effect::Specialize { uid, claim, .. } => {
                    self.specialized(uid.as_str(), &claim, LoadOutcome::Loaded { load: Duration::ZERO })
                }
                _ => Vec::new(),
            };
            effects.extend(more);
        }
    }
}

fn won(ticket: &Ticket, label: Label, revision: &str) -> Event {
    let view = owned(ticket.uid.as_str(), label, &ticket.claim, revision);
    Event::Written { ticket: ticket.clone(), outcome: WriteOutcome::Won(view) }
}

/// The ticket of the only write among effects.
fn ticket(effects: &[Effect]) -> Ticket {
    let mut tickets = effects.iter().filter_map(|effect| match effect {
        Effect::Write { ticket, .. } => Some(ticket.clone()),
        _ => None,
    });
    let ticket = tickets.next().expect("a write");
    assert_eq!(tickets.next(), None);
    ticket
}

/// Effects by what they do and to which replica.
fn summary(effects: &[Effect]) -> Vec<String> {
    let of = |effect: &Effect| match effect {
        Effect::Write { ticket, .. } => format!("{:?} {}", ticket.write, ticket.uid),
        Effect::Get { uid } => format!("get {uid}"),
        Effect::Specialize { uid, .. } => format!("specialize {uid}"),
        Effect::AskState { uid } => format!("ask {uid}"),
        Effect::Publish { uid, .. } => format!("publish {uid}"),
        Effect::Remove { uid, .. } => format!("remove {uid}"),
        Effect::Gone { uid, .. } => format!("gone {uid}"),
        Effect::Drain { uid, .. } => format!("drain {uid}"),
        Effect::Delete { uid, .. } => format!("delete {uid}"),
        Effect::Create { revision, .. } => format!("create {revision}"),
        Effect::Condition { condition, .. } => {
            format!("condition {}", condition.as_ref().map_or("none", |condition| condition.reason.as_str()))
        }
    };
    effects.iter().map(of).collect()
}
