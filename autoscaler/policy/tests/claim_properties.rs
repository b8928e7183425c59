//! Any sequence of events, sensible or not: a step never panics, never touches what is another's, never waits in vain.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use autoscaler_policy::claim::{
    CreateOutcome, DeleteOutcome, Effect, Event, GetOutcome, Label, Lifecycle, LoadOutcome, Order, Ownership, PodView,
    Settings, State, StateOutcome, Ticket, Warmth, Write, WriteOutcome, step,
};
use autoscaler_policy::{ClaimId, Digest, Resources, Revision, RevisionKey, Uid, example};
use gateway_policy::{Device, Moment};
use proptest::prelude::*;

fn revision(number: u8, unavailable: bool) -> Arc<Revision> {
    let mut revision = example::revision("m", Device::Cpu);
    revision.key = RevisionKey::from(format!("r{number}"));
    revision.digest = Digest::from(format!("d{number}"));
    revision.unavailable = unavailable.then(|| "none here".into());
    if number == 2 {
        revision.placement.pool = None;
    }
    Arc::new(revision)
}

fn uid() -> impl Strategy<Value = Uid> {
    (0_u8..5).prop_map(|n| Uid::from(format!("u{n}")))
}

fn key() -> impl Strategy<Value = RevisionKey> {
    (0_u8..3).prop_map(|n| RevisionKey::from(format!("r{n}")))
}

/// Claims of this leader, of another, and of cold starts.
fn claim() -> impl Strategy<Value = ClaimId> {
    prop_oneof![
        (0_u8..5).prop_map(|n| ClaimId::from(format!("me-u{n}"))),
        (0_u8..2).prop_map(|n| ClaimId::from(format!("other-{n}"))),
        (1_u8..4).prop_map(|n| ClaimId::from(format!("me-cold-{n}"))),
    ]
}

fn label() -> impl Strategy<Value = Label> {
    prop::sample::select(vec![
        Label::Idle,
        Label::Idle,
        Label::Claimed,
        Label::Serving,
        Label::Draining,
        Label::Retired,
    ])
}

fn view_of(uid: Uid) -> impl Strategy<Value = PodView> {
    let lifecycle =
        prop::sample::select(vec![Lifecycle::Starting, Lifecycle::Ready, Lifecycle::Ready, Lifecycle::Exited]);
    let loaded = prop::option::of((0_u8..2).prop_map(|n| Digest::from(format!("d{n}"))));
    (label(), lifecycle, claim(), key(), 0_u64..200, loaded).prop_map(
        move |(label, lifecycle, claim, revision, deadline, loaded)| PodView {
            uid: uid.clone(),
            label,
            ownership: matches!(label, Label::Claimed | Label::Serving | Label::Draining).then(|| Ownership {
                claim,
                revision,
                deadline: Moment::from_micros(deadline * 1_000_000),
            }),
            lifecycle,
            fit: Arc::new(example::fit()),
            resources: Arc::new(Resources::default()),
            warmth: Arc::new(Warmth { loaded, node: "n".into(), runtime: "onnx".into() }),
            created: Moment::ZERO,
        },
    )
}

fn view() -> impl Strategy<Value = PodView> {
    uid().prop_flat_map(view_of)
}

fn write() -> impl Strategy<Value = Write> {
    prop::sample::select(vec![Write::Claim, Write::ClaimServing, Write::Serve, Write::Drain])
}

fn event() -> impl Strategy<Value = Event> {
    let written = (uid(), claim(), write(), 1_u32..4)
        .prop_flat_map(|(uid, claim, write, attempt)| {
            let ticket = Ticket { uid: uid.clone(), claim, write, attempt };
            let outcome = prop_oneof![
                view_of(uid).prop_map(WriteOutcome::Won),
                Just(WriteOutcome::Lost),
                Just(WriteOutcome::Unknown)
            ];
            (Just(ticket), outcome)
        })
        .prop_map(|(ticket, outcome)| Event::Written { ticket, outcome });
    let got = uid()
        .prop_flat_map(|uid| {
            let outcome = prop_oneof![
                view_of(uid.clone()).prop_map(GetOutcome::Found),
                Just(GetOutcome::Gone),
                Just(GetOutcome::Unknown)
            ];
            (Just(uid), outcome)
        })
        .prop_map(|(uid, outcome)| Event::Got { uid, outcome });
    let load = prop::sample::select(vec![
        LoadOutcome::Loaded { load: Duration::ZERO },
        LoadOutcome::Conflict,
        LoadOutcome::Rejected { message: "bad".into() },
        LoadOutcome::TimedOut,
        LoadOutcome::Unreachable,
    ]);
    let state = prop_oneof![
        Just(StateOutcome::Empty),
        claim().prop_map(StateOutcome::Loading),
        claim().prop_map(StateOutcome::Serving),
        Just(StateOutcome::Useless { message: "bad".into() }),
        Just(StateOutcome::Unreachable),
    ];
    let deletion = prop::sample::select(vec![DeleteOutcome::Deleted, DeleteOutcome::Refused, DeleteOutcome::Unknown]);
    let creation = prop_oneof![
        uid().prop_map(CreateOutcome::Created),
        Just(CreateOutcome::NoCapacity("full".into())),
        Just(CreateOutcome::Failed("broken".into())),
        Just(CreateOutcome::Unknown),
    ];
    prop_oneof![
        4 => view().prop_map(Event::Applied),
        1 => uid().prop_map(Event::Deleted),
        1 => Just(Event::Synced),
        1 => prop::collection::vec((0_u8..3, any::<bool>()), 0..3).prop_map(|table| {
            Event::Revisions(table.into_iter().map(|(number, unavailable)| revision(number, unavailable && number == 1)).collect())
        }),
        2 => (key(), 0_u32..4).prop_map(|(revision, replicas)| Event::Desired { revision, replicas }),
        2 => written,
        1 => got,
        2 => (uid(), claim(), load).prop_map(|(uid, claim, outcome)| Event::Specialized { uid, claim, outcome }),
        1 => (uid(), state).prop_map(|(uid, outcome)| Event::State { uid, outcome }),
        1 => (key(), uid(), claim()).prop_map(|(revision, uid, claim)| Event::Reported { revision, uid, claim }),
        1 => uid().prop_map(|uid| Event::Fault { uid }),
        1 => (uid(), claim()).prop_map(|(uid, claim)| Event::RemovalAcked { uid, claim }),
        1 => (uid(), claim()).prop_map(|(uid, claim)| Event::Drained { uid, claim }),
        1 => (uid(), label(), deletion).prop_map(|(uid, label, outcome)| Event::Deletion { uid, label, outcome }),
        1 => (claim(), creation).prop_map(|(claim, outcome)| Event::Created { claim, outcome }),
        2 => Just(Event::Tick),
    ]
}

/// What a test knows of who owns what: all that the leader was ever shown.
#[derive(Default)]
struct Shown {
    owners: BTreeSet<(Uid, ClaimId)>,
    reported: BTreeSet<(Uid, ClaimId)>,
    idle: BTreeSet<Uid>,
}

impl Shown {
    fn note(&mut self, event: &Event) {
        let view = match event {
            Event::Applied(view) => view,
            Event::Written { outcome: WriteOutcome::Won(view), .. } => view,
            Event::Got { outcome: GetOutcome::Found(view), .. } => view,
            Event::Reported { uid, claim, .. } => {
                self.reported.insert((uid.clone(), claim.clone()));
                return;
            }
            _ => return,
        };
        match &view.ownership {
            Some(owner) => _ = self.owners.insert((view.uid.clone(), owner.claim.clone())),
            None => _ = self.idle.insert(view.uid.clone()),
        }
    }

    /// Whether the effect is on a replica that is this leader's to act on, with the claim that makes it so.
    fn permits(&self, effect: &Effect) -> bool {
        let owns = |uid: &Uid, claim: &ClaimId| self.owners.contains(&(uid.clone(), claim.clone()));
        let may_claim = |uid: &Uid, claim: &ClaimId| {
            let own = claim.as_str() == format!("me-{uid}");
            self.idle.contains(uid) && (own || self.reported.contains(&(uid.clone(), claim.clone())))
        };
        match effect {
            Effect::Delete { uid, claim, label } => {
                owns(uid, claim) && matches!(label, Label::Claimed | Label::Serving | Label::Draining)
            }
            Effect::Drain { uid, claim } => owns(uid, claim),
            Effect::Write { ticket, from, .. } => match (ticket.write, from) {
                (Write::Claim | Write::ClaimServing, Label::Idle) => may_claim(&ticket.uid, &ticket.claim),
                (Write::Serve, Label::Claimed) => owns(&ticket.uid, &ticket.claim),
                (Write::Drain, Label::Claimed | Label::Serving) => owns(&ticket.uid, &ticket.claim),
                _ => false,
            },
            Effect::Specialize { uid, claim, .. } => owns(uid, claim) || may_claim(uid, claim),
            _ => true,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_events_in_any_order(
        sequential in any::<bool>(),
        events in prop::collection::vec((event(), 0_u64..3_000), 0..120),
    ) {
        let order = if sequential { Order::Sequential } else { Order::Optimistic };
        let mut state = State::new("me", Settings { order, ..Settings::default() });
        let mut shown = Shown::default();
        let mut now = Moment::from_micros(1);
        for (event, pause_ms) in events {
            now = now + Duration::from_millis(pause_ms);
            shown.note(&event);
            let again = step(state.clone(), event.clone(), now);
            let (next, effects) = step(state, event, now);
            prop_assert_eq!(&(next.clone(), effects.clone()), &again, "a step is a function");
            for effect in &effects {
                prop_assert!(shown.permits(effect), "{effect:?}");
            }
            let in_flight = effects.iter().filter(|effect| matches!(effect, Effect::Write { .. })).count();
            let written: BTreeSet<_> = effects
                .iter()
                .filter_map(|effect| if let Effect::Write { ticket, .. } = effect { Some(&ticket.uid) } else { None })
                .collect();
            prop_assert_eq!(in_flight, written.len(), "one write to a replica at a time");

            let (ticked, _) = step(next.clone(), Event::Tick, now);
            prop_assert!(ticked.next_wake().is_none_or(|wake| wake > now), "a tick that has to be repeated at once");
            state = next;
        }
    }

    /// Whatever happened before, once the store and the wrappers answer, everything comes to rest.
    #[test]
    fn it_comes_to_rest_when_everything_answers(
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut state = State::new("me", Settings::default());
        let now = Moment::from_micros(1);
        for event in events {
            state = step(state, event, now).0;
        }
        let (mut now, mut steps) = (now, 0);
        for event in [Event::Revisions(Vec::new()), Event::Synced] {
            state = step(state, event, now).0;
        }
        for n in 0..5 {
            state = step(state, Event::Deleted(Uid::from(format!("u{n}"))), now).0;
        }
        while let Some(wake) = state.next_wake() {
            now = now.max(wake);
            state = step(state, Event::Tick, now).0;
            steps += 1;
            prop_assert!(steps < 100, "timers that never end");
        }
        let totals = state.totals();
        prop_assert_eq!((totals.replicas, totals.idle, totals.cold_starts, totals.waiting), (0, 0, 0, 0));
        prop_assert_eq!(state.published().count(), 0);
    }
}
