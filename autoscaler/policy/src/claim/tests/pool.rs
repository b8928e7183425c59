use super::*;

#[test]
fn only_what_fits_is_claimed() {
    let other = |change: fn(&mut FitKey)| {
        let mut fit = (*idle("u").fit).clone();
        change(&mut fit);
        PodView { fit: Arc::new(fit), ..idle("u") }
    };
    let need = Resources::parse([("cpu", "2")]).unwrap();
    let less = Arc::new(Resources::parse([("cpu", "1")]).unwrap());
    let unfit = [
        other(|fit| fit.namespace = "other".into()),
        other(|fit| fit.pool = "other".into()),
        other(|fit| fit.service_account = "other".into()),
        other(|fit| fit.device = Device::Gpu),
        other(|fit| fit.contract = "2".into()),
        PodView { resources: less, ..idle("u") },
        PodView { lifecycle: Lifecycle::Starting, ..idle("u") },
        PodView { label: Label::Retired, ..idle("u") },
    ];
    let mut wanting = revision("a");
    wanting.placement.resources = need;
    for view in unfit {
        let mut rig = Rig::new(Settings::default(), std::slice::from_ref(&view), std::slice::from_ref(&wanting));
        assert_eq!(summary(&rig.want("a", 1)), ["create ns/a"], "{view:?}");
    }
    let mut rig = Rig::new(Settings::default(), &[idle("u")], &[wanting]);
    assert_eq!(summary(&rig.want("a", 1)), ["Claim u", "specialize u"]);
}

#[test]
fn the_replica_that_is_up_first_is_claimed() {
    let warm = |uid: &str, node: &str, runtime: &str| PodView {
        warmth: Arc::new(Warmth { loaded: None, node: node.into(), runtime: runtime.into() }),
        ..idle(uid)
    };
    let pods =
        [warm("u1", "n1", "torchscript"), warm("u2", "n1", "onnx"), warm("u3", "n2", "onnx"), warm("u4", "n1", "onnx")];
    let mut rig = Rig::new(Settings::default(), &pods, &[revision("a")]);
    let effects = rig.want("a", 1);
    assert_eq!(summary(&effects), ["Claim u2", "specialize u2"], "the runtime is started there");
    rig.serve_all(effects);
    assert_eq!(summary(&rig.want("a", 2))[0], "Claim u4", "the model is in the cache of n1 now");
    assert_eq!(summary(&rig.want("a", 3))[0], "Claim u3");
    assert_eq!(summary(&rig.want("a", 4))[0], "Claim u1");
}

#[test]
fn each_replica_is_handed_to_one_claimant() {
    let mut rig = Rig::simple(&["u1", "u2", "u3"]);
    rig.state.settings = Arc::new(Settings { max_cold_starts: 0, ..Settings::default() });
    assert_eq!(summary(&rig.want("a", 2)), ["Claim u1", "specialize u1", "Claim u2", "specialize u2"]);
    assert_eq!(summary(&rig.want("b", 2)), ["Claim u3", "specialize u3"]);
    assert_eq!(rig.state.totals(), Totals { replicas: 3, idle: 0, cold_starts: 0, waiting: 1 });
    assert_eq!(summary(&rig.on(Event::Applied(idle("u4")))), ["Claim u4", "specialize u4"], "who waits gets the next");
}

#[test]
fn who_waits_longest_is_served_first() {
    let mut rig = Rig::simple(&[]);
    rig.state.settings = Arc::new(Settings { max_cold_starts: 0, ..Settings::default() });
    let effects = rig.want("b", 1);
    assert_eq!(summary(&effects), ["condition no-capacity"]);
    rig.now = rig.now + Duration::from_millis(1);
    rig.want("a", 1);
    let effects = rig.on(Event::Applied(idle("u1")));
    assert_eq!(summary(&effects), ["condition none", "Claim u1", "specialize u1"]);
    let Effect::Specialize { revision, .. } = &effects[2] else { panic!("{effects:?}") };
    assert_eq!(revision, &key("b"));
}

#[test]
fn cold_starts_are_bounded_and_who_waits_gets_the_next_one() {
    let mut rig = Rig::simple(&[]);
    rig.state.settings = Arc::new(Settings { max_cold_starts: 1, ..Settings::default() });
    let effects = rig.want("a", 1);
    let [Effect::Create { claim, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(summary(&rig.want("b", 1)), ["condition no-capacity"]);

    let born = |lifecycle| PodView { lifecycle, ..owned("u1", Label::Claimed, claim, "a") };
    assert_eq!(rig.on(Event::Created { claim: claim.clone(), outcome: CreateOutcome::Created(Uid::from("u1")) }), []);
    assert_eq!(rig.on(Event::Applied(born(Lifecycle::Starting))), []);
    rig.now = rig.now + Duration::from_millis(150);
    assert_eq!(summary(&rig.on(Event::Applied(born(Lifecycle::Ready)))), ["specialize u1"]);
    let effects = rig.specialized("u1", claim, LoadOutcome::Loaded { load: Duration::ZERO });
    assert_eq!(summary(&effects), ["publish u1", "Serve u1", "create ns/b", "condition none"]);
    let Effect::Publish { timings: Some(timings), .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((timings.claim, timings.origin), (Duration::from_millis(150), Origin::Cold), "the start is the claim");
}

#[test]
fn a_replica_of_no_pool_that_another_leader_began_with_is_a_cold_start() {
    let claim = ClaimId::from("other-cold-1");
    let born = owned("u1", Label::Claimed, &claim, "a");
    let fit = Arc::new(FitKey { pool: "".into(), ..(*born.fit).clone() });
    for (fit, origin) in [(fit, Origin::Cold), (Arc::clone(&born.fit), Origin::Pool)] {
        let mut rig = Rig::new(Settings::default(), &[], &[revision("a")]);
        rig.on(Event::Applied(PodView { fit, ..born.clone() }));
        rig.want("a", 1);
        rig.on(Event::State { uid: Uid::from("u1"), outcome: StateOutcome::Empty });
        let effects = rig.specialized("u1", &claim, LoadOutcome::Loaded { load: Duration::ZERO });
        let Effect::Publish { timings: Some(timings), .. } = &effects[0] else { panic!("{effects:?}") };
        assert_eq!(timings.origin, origin);
    }
}

#[test]
fn a_start_that_fails_is_tried_again_after_a_pause_and_a_refilled_pool_helps_at_once() {
    let mut rig = Rig::simple(&[]);
    let effects = rig.want("a", 1);
    let [Effect::Create { claim, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let full = CreateOutcome::NoCapacity("all 4 GPUs are taken".into());
    let effects = rig.on(Event::Created { claim: claim.clone(), outcome: full });
    let [Effect::Condition { condition: Some(condition), .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((condition.reason, &*condition.message), (ConditionReason::NoCapacity, "all 4 GPUs are taken"));
    assert_eq!(summary(&rig.wait(Duration::from_secs(1))), ["create ns/a", "condition none"]);
    let claim = ClaimId::from("leader-cold-2");
    rig.on(Event::Created { claim, outcome: CreateOutcome::Failed("no such image".into()) });
    assert_eq!(summary(&rig.on(Event::Applied(idle("u1")))), ["condition none", "Claim u1", "specialize u1"]);
}

#[test]
fn a_start_without_a_reply_is_waited_for_but_not_for_ever() {
    let mut rig = Rig::simple(&[]);
    rig.want("a", 1);
    let first = ClaimId::from("leader-cold-1");
    assert_eq!(rig.on(Event::Created { claim: first.clone(), outcome: CreateOutcome::Unknown }), []);
    assert_eq!(summary(&rig.wait(Duration::from_secs(5))), ["create ns/a"]);
    let late = owned("u1", Label::Claimed, &first, "a");
    assert_eq!(summary(&rig.on(Event::Applied(late))), ["ask u1", "delete u1"], "it did exist: now it is one too many");
}

#[test]
fn an_unavailable_device_is_said_and_nothing_runs_under_its_name() {
    let gpu = Revision { unavailable: Some("no GPU on this machine".into()), ..revision("a") };
    let mut state = State::new("leader", Settings::default());
    let mut effects = Vec::new();
    for event in [
        Event::Revisions(vec![Arc::new(gpu)]),
        Event::Applied(idle("u1")),
        Event::Synced,
        Event::Desired { revision: key("a"), replicas: 3 },
    ] {
        state.apply(event, Moment::ZERO, &mut effects);
    }
    assert_eq!(summary(&effects), ["condition device-unavailable"]);
    assert_eq!(state.totals().idle, 1);
}

#[test]
fn a_revision_without_a_pool_takes_nothing_from_one() {
    let mut alone = revision("a");
    alone.placement.pool = None;
    let mut rig = Rig::new(Settings::default(), &[idle("u1")], &[alone]);
    assert_eq!(summary(&rig.want("a", 1)), ["create ns/a"]);
}

/// Ten claims of a hundred thousand replicas touch ten replicas: no step scans the rest.
#[test]
fn a_hundred_thousand_replicas() {
    let revisions: Vec<_> = (0..10_000).map(|n| revision(&format!("m{n:05}"))).collect();
    let mut rig = Rig::new(Settings::default(), &[], &revisions);
    let shared = idle("shared");
    for n in 0..100_000 {
        assert_eq!(rig.on(Event::Applied(PodView { uid: Uid::from(format!("u{n:06}")), ..shared.clone() })), []);
    }
    for revision in &revisions {
        let name = revision.key.as_str().trim_start_matches("ns/").to_owned();
        let effects = rig.want(&name, 1);
        assert_eq!(effects.len(), 2);
        rig.serve_all(effects);
    }
    assert_eq!(rig.state.totals().idle, 90_000);
    assert_eq!(rig.state.published().count(), 10_000);
}

#[test]
fn a_reply_that_tells_more_of_an_idle_replica_keeps_it_claimable_once() {
    let mut rig = Rig::simple(&["u1"]);
    let warmth = Arc::new(Warmth { loaded: None, node: "another".into(), runtime: "onnx".into() });
    let told = PodView { warmth, ..idle("u1") };
    rig.on(Event::Got { uid: Uid::from("u1"), outcome: GetOutcome::Found(told) });
    assert_eq!(rig.state.totals().idle, 1);
    assert_eq!(rig.want("a", 1).len(), 2);
    assert_eq!(rig.state.totals().idle, 0);
}
