use super::*;

fn serving(count: usize) -> Rig {
    let pods: Vec<_> = (1..=count).map(|n| format!("u{n}")).collect();
    let mut rig = Rig::simple(&pods.iter().map(String::as_str).collect::<Vec<_>>());
    let effects = rig.want("a", u32::try_from(count).unwrap());
    rig.serve_all(effects);
    assert_eq!(rig.state.counts(&key("a")).ready as usize, count);
    rig
}

#[test]
fn out_of_the_gateways_then_draining_then_gone() {
    let mut rig = serving(1);
    let uid = Uid::from("u1");
    let claim = claim_of("u1");
    assert_eq!(summary(&rig.want("a", 0)), ["remove u1"]);
    assert_eq!(rig.state.published().count(), 0);
    assert_eq!(rig.state.counts(&key("a")), Counts { stopping: 1, ..Counts::default() });
    let effects = rig.on(Event::RemovalAcked { uid: uid.clone(), claim: claim.clone() });
    assert_eq!(summary(&effects), ["Drain u1"]);
    let [Effect::Write { from: Label::Serving, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let effects = rig.on(won(&ticket(&effects), Label::Draining, "a"));
    assert_eq!(summary(&effects), ["drain u1"]);
    assert_eq!(rig.on(Event::RemovalAcked { uid: uid.clone(), claim: claim.clone() }), [], "a repeated one");
    let effects = rig.on(Event::Drained { uid: uid.clone(), claim: claim.clone() });
    assert_eq!(effects, [Effect::Delete { uid: uid.clone(), claim, label: Label::Draining }]);
    rig.on(Event::Deleted(uid));
    assert_eq!(rig.state.counts(&key("a")), Counts::default());
}

#[test]
fn a_gateway_that_does_not_acknowledge_is_not_waited_for_for_ever() {
    let mut rig = serving(1);
    rig.want("a", 0);
    assert_eq!(rig.wait(Duration::from_millis(4_999)), []);
    assert_eq!(summary(&rig.wait(Duration::from_millis(1))), ["Drain u1"]);
}

#[test]
fn demand_that_comes_back_is_served_by_another() {
    let mut rig = serving(2);
    rig.want("a", 1);
    rig.on(Event::Applied(idle("u3")));
    assert_eq!(summary(&rig.want("a", 2)), ["Claim u3", "specialize u3"]);
}

#[test]
fn unfinished_ones_go_first_then_the_newest_and_the_lowest_uid_stays() {
    let mut rig = serving(2);
    rig.on(Event::Applied(idle("u0")));
    let p1 = ticket(&rig.want("a", 3));
    rig.on(won(&p1, Label::Claimed, "a"));
    assert_eq!(summary(&rig.want("a", 2)), ["delete u0"]);
    assert_eq!(summary(&rig.want("a", 1)), ["remove u2"]);
}

#[test]
fn the_newest_goes_before_the_oldest() {
    let mut rig = Rig::simple(&[]);
    for (uid, created) in [("u1", 30), ("u2", 10), ("u3", 20)] {
        let serving = owned(uid, Label::Serving, &ClaimId::from(uid), "a");
        rig.on(Event::Applied(PodView { created: Moment::from_micros(created), ..serving }));
    }
    assert_eq!(summary(&rig.want("a", 2)), ["remove u1"]);
    assert_eq!(summary(&rig.want("a", 1)), ["remove u3"]);
}

#[test]
fn a_claim_that_is_not_wanted_any_more_ends_once_it_is_decided() {
    let mut rig = Rig::simple(&["u1"]);
    let p1 = ticket(&rig.want("a", 1));
    assert_eq!(rig.want("a", 0), [], "whose it is is not known yet");
    assert_eq!(summary(&rig.on(won(&p1, Label::Claimed, "a"))), ["delete u1"]);
}

#[test]
fn the_replicas_of_a_revision_that_is_gone_are_taken_out() {
    let mut rig = serving(1);
    let only_b = vec![Arc::new(revision("b"))];
    assert_eq!(summary(&rig.on(Event::Revisions(only_b))), ["remove u1"]);
    rig.on(Event::Deleted(Uid::from("u1")));
    assert_eq!(rig.state.revisions.len(), 1, "and then it is forgotten");
}

#[test]
fn what_another_leader_drains_is_dropped_at_once() {
    let mut rig = serving(1);
    let effects = rig.on(Event::Applied(owned("u1", Label::Draining, &claim_of("u1"), "a")));
    assert_eq!(summary(&effects), ["gone u1", "drain u1", "create ns/a"]);
}

#[test]
fn a_replica_on_its_way_out_is_not_taken_up_again_by_a_gateway_that_returns() {
    let mut rig = serving(1);
    rig.want("a", 0);
    let report = Event::Reported { revision: key("a"), uid: Uid::from("u1"), claim: claim_of("u1") };
    assert_eq!(summary(&rig.on(report)), ["gone u1"]);
}

#[test]
fn a_lost_drain_is_resolved_by_reading() {
    let mut rig = serving(1);
    rig.want("a", 0);
    let effects = rig.on(Event::RemovalAcked { uid: Uid::from("u1"), claim: claim_of("u1") });
    let effects = rig.on(Event::Written { ticket: ticket(&effects), outcome: WriteOutcome::Lost });
    assert_eq!(summary(&effects), ["get u1"]);
    let found = GetOutcome::Found(owned("u1", Label::Draining, &claim_of("u1"), "a"));
    assert_eq!(summary(&rig.on(Event::Got { uid: Uid::from("u1"), outcome: found })), ["drain u1"]);
}
