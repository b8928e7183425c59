use super::*;

fn rejected() -> LoadOutcome {
    LoadOutcome::Rejected { message: "opset 99 is not supported".into() }
}

#[test]
fn a_replica_that_refuses_or_fails_is_deleted_once_its_claim_is_won() {
    for outcome in [LoadOutcome::Conflict, LoadOutcome::Unreachable, LoadOutcome::TimedOut, rejected()] {
        let mut rig = Rig::simple(&["u1"]);
        let p1 = ticket(&rig.want("a", 1));
        let effects = rig.specialized("u1", &p1.claim, outcome.clone());
        assert!(!summary(&effects).contains(&"delete u1".to_owned()), "{outcome:?}: its label may be another's");
        let effects = rig.on(won(&p1, Label::Claimed, "a"));
        let delete = Effect::Delete { uid: Uid::from("u1"), claim: p1.claim.clone(), label: Label::Claimed };
        assert_eq!(effects, [delete], "{outcome:?}");
        let deleted = Event::Deletion { uid: Uid::from("u1"), label: Label::Claimed, outcome: DeleteOutcome::Deleted };
        assert_eq!(rig.on(deleted.clone()), []);
        assert_eq!(rig.on(deleted), [], "a repeated reply changes nothing");
        assert_eq!(rig.on(Event::Deleted(Uid::from("u1"))), []);
        assert_eq!(rig.state.totals().replicas, 0);
    }
}

#[test]
fn two_bad_replicas_of_the_pool_are_followed_by_a_fresh_one() {
    let mut rig = Rig::simple(&["u1", "u2", "u3"]);
    rig.want("a", 1);
    let effects = rig.specialized("u1", &claim_of("u1"), LoadOutcome::Unreachable);
    assert_eq!(summary(&effects), ["Claim u2", "specialize u2"]);
    let effects = rig.specialized("u2", &claim_of("u2"), LoadOutcome::Conflict);
    assert_eq!(summary(&effects), ["create ns/a"]);
    assert_eq!(rig.state.counts(&key("a")).creating, 1);
}

#[test]
fn a_model_that_cannot_be_loaded_does_not_eat_the_pool() {
    let pods: Vec<_> = (0..100).map(|n| format!("u{n:03}")).collect();
    let mut rig = Rig::simple(&pods.iter().map(String::as_str).collect::<Vec<_>>());
    let mut effects = rig.want("a", 50);
    assert_eq!(effects.len(), 8, "four at a time until one has worked");
    let mut consumed = 0;
    let started = rig.now;
    while rig.now.saturating_since(started) < Duration::from_secs(600) {
        let mut next = Vec::new();
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Specialize { uid, claim, .. } => {
                    consumed += 1;
                    next.extend(rig.specialized(uid.as_str(), &claim, rejected()));
                }
                Effect::Create { claim, .. } => {
                    let full = CreateOutcome::NoCapacity("full".into());
                    next.extend(rig.on(Event::Created { claim, outcome: full }));
                }
                _ => {}
            }
        }
        if next.is_empty() {
            rig.now = rig.state.next_wake().expect("it tries again").max(rig.now);
            next = rig.on(Event::Tick);
        }
        effects = next;
    }
    assert!((8..=16).contains(&consumed), "{consumed} in ten minutes");
    assert_eq!(rig.state.failures(&key("a")), consumed);
    assert_eq!(rig.state.condition(&key("a")).map(|condition| condition.reason), Some(ConditionReason::LoadFailed));
}

#[test]
fn a_load_that_works_ends_the_trouble() {
    let mut rig = Rig::simple(&["u1", "u2"]);
    rig.want("a", 1);
    let effects = rig.specialized("u1", &claim_of("u1"), rejected());
    let [Effect::Condition { condition: Some(condition), .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(&*condition.message, "opset 99 is not supported");
    assert_eq!(condition.retry_at, Some(rig.now + Duration::from_secs(1)));
    assert_eq!(rig.wait(Duration::from_millis(999)), []);
    assert_eq!(summary(&rig.wait(Duration::from_millis(1))), ["Claim u2", "specialize u2"]);
    let effects = rig.specialized("u2", &claim_of("u2"), LoadOutcome::Loaded { load: Duration::ZERO });
    assert_eq!(summary(&effects), ["publish u2", "condition none"]);
    assert_eq!(rig.state.failures(&key("a")), 0);
}

/// The timings that an activation was published with.
fn timings(effects: &[Effect]) -> Timings {
    let mut published = effects.iter().filter_map(|effect| match effect {
        Effect::Publish { timings, .. } => *timings,
        _ => None,
    });
    published.next().expect("a replica is published by who brought it up")
}

const LOADED: LoadOutcome = LoadOutcome::Loaded { load: Duration::ZERO };

#[test]
fn the_pause_after_a_failed_load_is_no_part_of_the_claim() {
    let mut rig = Rig::simple(&["u1", "u2", "u3"]);
    rig.want("a", 1);
    rig.specialized("u1", &claim_of("u1"), rejected());
    rig.wait(Duration::from_secs(1));
    rig.now = rig.now + Duration::from_millis(5);
    let load = Duration::from_millis(3);
    let effects = rig.specialized("u2", &claim_of("u2"), LoadOutcome::Loaded { load });
    let expected = Timings {
        backoff: Duration::from_secs(1),
        claim: Duration::ZERO,
        specialize: Duration::from_millis(2),
        load,
        origin: Origin::Pool,
    };
    assert_eq!(timings(&effects), expected);

    rig.want("a", 2);
    let effects = rig.specialized("u3", &claim_of("u3"), LOADED);
    assert_eq!(timings(&effects).backoff, Duration::ZERO, "its demand is younger than the failure");
}

#[test]
fn the_pause_after_a_failed_start_is_no_part_of_the_claim() {
    let mut rig = Rig::simple(&[]);
    rig.want("a", 1);
    let failed = CreateOutcome::Failed("no such image".into());
    rig.on(Event::Created { claim: ClaimId::from("leader-cold-1"), outcome: failed });
    rig.wait(Duration::from_secs(1));
    let claim = ClaimId::from("leader-cold-2");
    rig.on(Event::Created { claim: claim.clone(), outcome: CreateOutcome::Created(Uid::from("u1")) });
    rig.now = rig.now + Duration::from_millis(150);
    rig.on(Event::Applied(owned("u1", Label::Claimed, &claim, "a")));
    let timings = timings(&rig.specialized("u1", &claim, LOADED));
    assert_eq!((timings.backoff, timings.claim), (Duration::from_secs(1), Duration::from_millis(150)));
}

#[test]
fn a_replica_that_comes_within_the_pause_ends_it() {
    let mut rig = Rig::simple(&[]);
    rig.want("a", 1);
    let failed = CreateOutcome::Failed("no such image".into());
    rig.on(Event::Created { claim: ClaimId::from("leader-cold-1"), outcome: failed });
    rig.now = rig.now + Duration::from_millis(400);
    rig.on(Event::Applied(idle("u1")));
    let timings = timings(&rig.specialized("u1", &claim_of("u1"), LOADED));
    assert_eq!((timings.backoff, timings.claim), (Duration::from_millis(400), Duration::ZERO));
}

#[test]
fn a_new_definition_is_tried_at_once() {
    let mut rig = Rig::simple(&["u1", "u2"]);
    rig.want("a", 1);
    rig.specialized("u1", &claim_of("u1"), rejected());
    let mended = Revision { digest: Digest::from("sha256:mended"), ..revision("a") };
    let effects = rig.on(Event::Revisions(vec![Arc::new(mended)]));
    assert_eq!(summary(&effects), ["condition none", "Claim u2", "specialize u2"]);
}

#[test]
fn a_replica_that_dies_while_it_loads_counts_against_the_model() {
    let mut rig = Rig::simple(&["u1", "u2"]);
    rig.want("a", 1);
    let effects = rig.on(Event::Deleted(Uid::from("u1")));
    assert_eq!(
        summary(&effects),
        ["condition load-failed"],
        "a model that crashes the wrapper must not crash the pool"
    );
}

#[test]
fn a_serving_replica_that_dies_is_replaced() {
    let mut rig = Rig::simple(&["u1", "u2"]);
    let effects = rig.want("a", 1);
    rig.serve_all(effects);
    let exited = PodView { lifecycle: Lifecycle::Exited, ..owned("u1", Label::Serving, &claim_of("u1"), "a") };
    let effects = rig.on(Event::Applied(exited));
    assert_eq!(summary(&effects), ["gone u1", "delete u1", "Claim u2", "specialize u2"]);
    let effects = rig.on(Event::Deleted(Uid::from("u1")));
    assert_eq!(effects, []);
}

#[test]
fn a_faulty_replica_is_asked_what_it_holds() {
    for (answer, expected) in [
        (StateOutcome::Serving(claim_of("u1")), vec![]),
        (StateOutcome::Empty, vec!["gone u1", "delete u1"]),
        (StateOutcome::Serving(ClaimId::from("other")), vec!["gone u1", "delete u1"]),
    ] {
        let mut rig = Rig::simple(&["u1"]);
        let effects = rig.want("a", 1);
        rig.serve_all(effects);
        let settings = Settings { max_cold_starts: 0, ..Settings::default() };
        rig.state.settings = Arc::new(settings);
        assert_eq!(summary(&rig.on(Event::Fault { uid: Uid::from("u1") })), ["ask u1"]);
        assert_eq!(rig.on(Event::Fault { uid: Uid::from("u1") }), [], "it is being asked");
        let mut effects = summary(&rig.on(Event::State { uid: Uid::from("u1"), outcome: answer.clone() }));
        effects.retain(|effect| !effect.starts_with("condition"));
        assert_eq!(effects, expected, "{answer:?}");
    }
}

#[test]
fn a_replica_that_does_not_answer_is_dead_after_the_third_time() {
    let mut rig = Rig::simple(&["u1"]);
    let effects = rig.want("a", 1);
    rig.serve_all(effects);
    rig.on(Event::Fault { uid: Uid::from("u1") });
    let silent = || Event::State { uid: Uid::from("u1"), outcome: StateOutcome::Unreachable };
    assert_eq!(rig.on(silent()), []);
    assert_eq!(summary(&rig.wait(Duration::from_secs(1))), ["ask u1"]);
    assert_eq!(rig.on(silent()), []);
    assert_eq!(summary(&rig.wait(Duration::from_secs(1))), ["ask u1"]);
    assert_eq!(summary(&rig.on(silent())), ["gone u1", "delete u1", "create ns/a"]);
}

#[test]
fn a_claim_past_its_deadline_is_given_up() {
    let mut rig = Rig::simple(&["u1"]);
    let p1 = ticket(&rig.want("a", 1));
    rig.on(won(&p1, Label::Claimed, "a"));
    let effects = rig.wait(Settings::default().claim_deadline);
    assert_eq!(summary(&effects), ["delete u1", "condition load-failed"]);
    let late = rig.specialized("u1", &p1.claim, LoadOutcome::Loaded { load: Duration::ZERO });
    assert_eq!(late, [], "too late: it is being deleted");
}

#[test]
fn a_delete_without_a_reply_is_resolved_by_reading() {
    let mut rig = Rig::simple(&["u1"]);
    let p1 = ticket(&rig.want("a", 1));
    rig.on(won(&p1, Label::Claimed, "a"));
    rig.specialized("u1", &p1.claim, LoadOutcome::Conflict);
    let unknown = Event::Deletion { uid: Uid::from("u1"), label: Label::Claimed, outcome: DeleteOutcome::Unknown };
    assert_eq!(rig.on(unknown), []);
    assert_eq!(summary(&rig.wait(Duration::from_secs(1))), ["get u1"]);
    let found = GetOutcome::Found(owned("u1", Label::Claimed, &p1.claim, "a"));
    assert_eq!(summary(&rig.on(Event::Got { uid: Uid::from("u1"), outcome: found })), ["delete u1"]);
    let unknown = Event::Deletion { uid: Uid::from("u1"), label: Label::Claimed, outcome: DeleteOutcome::Unknown };
    rig.on(unknown);
    rig.wait(Duration::from_secs(1));
    rig.on(Event::Got { uid: Uid::from("u1"), outcome: GetOutcome::Gone });
    assert_eq!(rig.state.totals().replicas, 0);
}

/// The replica that serves the revision ends.
fn crash(rig: &mut Rig, uid: &Uid) -> Vec<Effect> {
    let claim = rig.state.published().find(|published| published.uid == uid).unwrap().claim.clone();
    let exited = PodView { lifecycle: Lifecycle::Exited, ..owned(uid.as_str(), Label::Serving, &claim, "a") };
    let effects = rig.on(Event::Applied(exited));
    assert_eq!(rig.on(Event::Deleted(uid.clone())), []);
    effects
}

fn serving(rig: &Rig) -> Vec<Uid> {
    rig.state.published().map(|published| published.uid.clone()).collect()
}

fn many(count: usize) -> Rig {
    let pods: Vec<_> = (0..count).map(|n| format!("u{n:03}")).collect();
    Rig::simple(&pods.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_model_that_crashes_what_serves_it_does_not_eat_the_pool() {
    let mut rig = many(100);
    let mut effects = rig.want("a", 2);
    let started = rig.now;
    let mut crashes = 0;
    while rig.now.saturating_since(started) < Duration::from_secs(600) {
        rig.serve_all(std::mem::take(&mut effects));
        for uid in serving(&rig) {
            crashes += 1;
            effects.extend(crash(&mut rig, &uid));
        }
        let more = effects.iter().any(|effect| matches!(effect, Effect::Specialize { .. }));
        if !more {
            let condition = rig.state.condition(&key("a")).expect("a reason to wait");
            assert_eq!(condition.reason, ConditionReason::CrashLooping);
            assert!(condition.retry_at > Some(rig.now), "held requests are told for how long it is in vain");
            rig.now = rig.state.next_wake().expect("it tries again");
            effects = rig.on(Event::Tick);
        }
    }
    assert!((8..=16).contains(&crashes), "{crashes} in ten minutes");
}

#[test]
fn what_is_killed_at_random_is_replaced_at_once() {
    let mut rig = many(100);
    let effects = rig.want("a", 1);
    rig.serve_all(effects);
    for _ in 0..20 {
        rig.wait(Settings::default().settled_after);
        let uid = serving(&rig).remove(0);
        let effects = crash(&mut rig, &uid);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Specialize { .. })), "{effects:?}");
        rig.serve_all(effects);
    }
    let effects = rig.want("a", 2);
    rig.serve_all(effects);
    let kept = serving(&rig).remove(0);
    rig.wait(Settings::default().settled_after);
    for _ in 0..20 {
        let uid = serving(&rig).into_iter().find(|uid| *uid != kept).unwrap();
        let effects = crash(&mut rig, &uid);
        assert!(
            effects.iter().any(|effect| matches!(effect, Effect::Specialize { .. })),
            "one that lasts: {effects:?}"
        );
        rig.serve_all(effects);
    }
}

#[test]
fn a_model_that_crashed_is_trusted_again_once_a_replica_lasts() {
    let mut rig = many(100);
    let mut effects = rig.want("a", 3);
    let tolerated = Settings::default().crashes_tolerated;
    let mut crashes = 0;
    while crashes <= tolerated {
        rig.serve_all(std::mem::take(&mut effects));
        for uid in serving(&rig) {
            crashes += 1;
            effects.extend(crash(&mut rig, &uid));
        }
    }
    rig.serve_all(effects);
    for uid in serving(&rig) {
        crash(&mut rig, &uid);
    }
    let wake = rig.state.next_wake().expect("it tries again");
    rig.now = wake;
    let effects = rig.on(Event::Tick);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Specialize { .. })).count(), 1);
    rig.serve_all(effects);
    assert_eq!(rig.state.counts(&key("a")).ready, 1, "one at a time");
    assert_eq!(rig.state.condition(&key("a")), None);
    let effects = rig.wait(Settings::default().settled_after);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Specialize { .. })).count(), 2);
}
