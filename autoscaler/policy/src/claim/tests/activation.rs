use super::*;

#[test]
fn claim_and_specialize_are_sent_together() {
    let mut rig = Rig::simple(&["u1", "u2"]);
    let effects = rig.want("a", 1);
    assert_eq!(summary(&effects), ["Claim u1", "specialize u1"]);
    let p1 = ticket(&effects);
    assert_eq!(p1.claim, claim_of("u1"));

    rig.now = rig.now + Duration::from_millis(3);
    let load = Duration::from_millis(2);
    let effects = rig.specialized("u1", &p1.claim, LoadOutcome::Loaded { load });
    let timings = Timings {
        backoff: Duration::ZERO,
        claim: Duration::ZERO,
        specialize: Duration::from_millis(1),
        load,
        origin: Origin::Pool,
    };
    let publish =
        Effect::Publish { uid: Uid::from("u1"), claim: p1.claim.clone(), revision: key("a"), timings: Some(timings) };
    assert_eq!(effects, [publish], "at once: the claim is still being written");

    let effects = rig.on(won(&p1, Label::Claimed, "a"));
    assert_eq!(summary(&effects), ["Serve u1"]);
    assert_eq!(rig.on(won(&ticket(&effects), Label::Serving, "a")), []);
    assert_eq!(rig.state.counts(&key("a")), Counts { ready: 1, ..Counts::default() });
    assert_eq!(rig.state.totals().idle, 1);
}

#[test]
fn in_sequential_order_the_model_is_sent_once_the_claim_is_written() {
    let settings = Settings { order: Order::Sequential, ..Settings::default() };
    let mut rig = Rig::new(settings, &[idle("u1")], &[revision("a")]);
    let effects = rig.want("a", 1);
    assert_eq!(summary(&effects), ["Claim u1"]);
    rig.now = rig.now + Duration::from_millis(9);
    assert_eq!(summary(&rig.on(won(&ticket(&effects), Label::Claimed, "a"))), ["specialize u1"]);
    let effects = rig.specialized("u1", &claim_of("u1"), LoadOutcome::Loaded { load: Duration::ZERO });
    assert_eq!(summary(&effects), ["publish u1", "Serve u1"]);
    let Effect::Publish { timings: Some(timings), .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(timings.claim, Duration::from_millis(9));
}

#[test]
fn a_replica_that_has_the_model_is_claimed_and_published_in_one_patch() {
    let warmth = Arc::new(Warmth { loaded: Some(Digest::from("sha256:a")), ..(*idle("u2").warmth).clone() });
    let mut rig = Rig::new(Settings::default(), &[idle("u1"), PodView { warmth, ..idle("u2") }], &[revision("a")]);
    let effects = rig.want("a", 1);
    assert_eq!(summary(&effects), ["ClaimServing u2", "specialize u2"]);
    assert_eq!(rig.on(won(&ticket(&effects), Label::Serving, "a")), []);
    let effects = rig.specialized("u2", &claim_of("u2"), LoadOutcome::Loaded { load: Duration::ZERO });
    assert_eq!(summary(&effects), ["publish u2"]);
}

#[test]
fn a_lost_claim_is_dropped_and_the_next_candidate_taken() {
    let mut rig = Rig::simple(&["u1", "u2"]);
    let p1 = ticket(&rig.want("a", 1));
    rig.specialized("u1", &p1.claim, LoadOutcome::Loaded { load: Duration::ZERO });
    let effects = rig.on(Event::Written { ticket: p1, outcome: WriteOutcome::Lost });
    assert_eq!(summary(&effects), ["gone u1", "Claim u2", "specialize u2"], "never deleted: its label is another's");
    assert_eq!(rig.on(Event::Applied(idle("u1"))), [], "an old view does not bring it back");
    assert_eq!(rig.state.totals().idle, 0);
}

#[test]
fn a_claim_without_a_reply_is_ours_only_if_the_claim_id_is() {
    for (found, expected) in [
        (owned("u1", Label::Claimed, &claim_of("u1"), "a"), vec!["specialize u1"]),
        (owned("u1", Label::Claimed, &ClaimId::from("other"), "b"), vec!["Claim u2", "ask u1"]),
        (PodView { label: Label::Retired, ..idle("u1") }, vec!["Claim u2"]),
        (idle("u1"), vec!["Claim u1"]),
    ] {
        let settings = Settings { order: Order::Sequential, ..Settings::default() };
        let mut rig = Rig::new(settings, &[idle("u1"), idle("u2")], &[revision("a"), revision("b")]);
        let p1 = ticket(&rig.want("a", 1));
        let effects = rig.on(Event::Written { ticket: p1, outcome: WriteOutcome::Unknown });
        assert_eq!(summary(&effects), ["get u1"]);
        let effects = rig.on(Event::Got { uid: Uid::from("u1"), outcome: GetOutcome::Found(found.clone()) });
        let mut summary = summary(&effects);
        summary.sort();
        let mut expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(summary, expected, "{found:?}");
    }
}

#[test]
fn a_second_attempt_that_lost_to_the_first_is_not_lost() {
    let mut rig = Rig::simple(&["u1"]);
    let first = ticket(&rig.want("a", 1));
    rig.on(Event::Written { ticket: first.clone(), outcome: WriteOutcome::Unknown });
    let effects = rig.on(Event::Got { uid: Uid::from("u1"), outcome: GetOutcome::Found(idle("u1")) });
    let second = ticket(&effects);
    assert_eq!((second.attempt, &second.claim), (2, &first.claim));
    let effects = rig.on(Event::Written { ticket: second, outcome: WriteOutcome::Lost });
    assert_eq!(summary(&effects), ["get u1"]);
    let ours = owned("u1", Label::Claimed, &first.claim, "a");
    rig.on(Event::Got { uid: Uid::from("u1"), outcome: GetOutcome::Found(ours) });
    let effects = rig.specialized("u1", &first.claim, LoadOutcome::Loaded { load: Duration::ZERO });
    assert_eq!(summary(&effects), ["publish u1", "Serve u1"]);
}

#[test]
fn a_new_leader_finishes_with_the_claim_id_it_finds() {
    for (answer, expected) in [
        (StateOutcome::Serving(ClaimId::from("old")), vec!["publish u1", "Serve u1"]),
        (StateOutcome::Empty, vec!["specialize u1"]),
        (StateOutcome::Loading(ClaimId::from("old")), vec!["specialize u1"]),
        (StateOutcome::Serving(ClaimId::from("other")), vec!["delete u1", "Claim u2", "specialize u2"]),
        (StateOutcome::Useless { message: "no".into() }, vec!["delete u1", "condition load-failed"]),
    ] {
        let mut rig = Rig::simple(&[]);
        let claimed = owned("u1", Label::Claimed, &ClaimId::from("old"), "a");
        assert_eq!(summary(&rig.on(Event::Applied(claimed))), ["ask u1"]);
        rig.on(Event::Applied(idle("u2")));
        assert_eq!(rig.want("a", 1), [], "the claimed one is the one it wants");
        let effects = rig.on(Event::State { uid: Uid::from("u1"), outcome: answer.clone() });
        assert_eq!(summary(&effects), expected, "{answer:?}");
        if let Some(Effect::Specialize { claim, .. }) = effects.first() {
            assert_eq!(claim, &ClaimId::from("old"));
        }
    }
}

#[test]
fn what_a_gateway_uses_is_adopted_before_anything_is_claimed() {
    let mut state = State::new("leader", Settings::default());
    let mut effects = Vec::new();
    let now = Moment::from_micros(5);
    let reported = |uid: &str| Event::Reported { revision: key("a"), uid: Uid::from(uid), claim: ClaimId::from("old") };
    for event in [
        Event::Revisions(vec![Arc::new(revision("a"))]),
        Event::Desired { revision: key("a"), replicas: 1 },
        reported("u2"),
        reported("u9"),
        Event::Applied(idle("u1")),
        Event::Applied(idle("u2")),
        Event::Synced,
    ] {
        state.apply(event, now, &mut effects);
    }
    assert_eq!(summary(&effects), ["Claim u2", "gone u9"], "u9 does not exist any more");
    assert_eq!(ticket(&effects).claim, ClaimId::from("old"));
    assert_eq!(state.counts(&key("a")).ready, 1, "it goes on serving meanwhile");
    assert_eq!(state.published().count(), 1);
}

#[test]
fn a_serving_replica_is_published_as_it_is_seen() {
    let mut rig = Rig::simple(&[]);
    let effects = rig.on(Event::Applied(owned("u1", Label::Serving, &ClaimId::from("old"), "a")));
    assert_eq!(summary(&effects), ["publish u1"]);
    assert_eq!(rig.on(Event::Applied(idle("u2"))), [], "nothing is wanted before somebody says how many");
    assert_eq!(rig.want("a", 1), []);
}
