mod any_order;

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;

const PACING: Pacing = Pacing {
    starting: 1,
    after_claim: Duration::from_millis(50),
    at_most: Duration::from_millis(500),
    backoff: Duration::from_millis(250),
    max_backoff: Duration::from_secs(2),
    stable: Duration::from_secs(5),
};

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn replica(uid: &str, state: ReplicaState, lifecycle: Lifecycle) -> Replica {
    Replica {
        uid: ReplicaUid(uid.to_owned()),
        name: format!("wrapper-{uid}"),
        namespace: "default".to_owned(),
        pool: "default".to_owned(),
        device: "cpu".to_owned(),
        contract: "1".to_owned(),
        service_account: "default".to_owned(),
        resources: BTreeMap::new(),
        state,
        claim: None,
        serving: None,
        lifecycle,
        created: SystemTime::UNIX_EPOCH,
        startup: None,
        pid: None,
    }
}

fn ready() -> Lifecycle {
    let address = ([127, 0, 0, 1], 1).into();
    Lifecycle::Ready { traffic: address, admin: address, metrics: address }
}

fn exited() -> Lifecycle {
    Lifecycle::Exited { reason: "signal 9".to_owned() }
}

fn pool(size: u32) -> PoolState {
    let mut pool = PoolState::new(Sizing::exactly(size), PACING);
    pool.synced();
    pool
}

/// Answers a creation and makes the replica ready.
fn start(pool: &mut PoolState, uid: &str, now: Moment) {
    pool.created(Ok(ReplicaUid(uid.to_owned())), now);
    pool.applied(&replica(uid, ReplicaState::Idle, ready()), now);
}

fn full(size: u32) -> PoolState {
    let mut pool = pool(size);
    for index in 0..size {
        assert_eq!(pool.plan(at(0)), [Action::Create]);
        start(&mut pool, &format!("{index}"), at(0));
    }
    assert_eq!(pool.plan(at(0)), []);
    pool
}

#[test]
fn it_fills_one_by_one_and_then_rests() {
    let mut pool = pool(2);
    assert_eq!(pool.plan(at(0)), [Action::Create]);
    assert_eq!(pool.plan(at(1)), [], "the one being created counts");
    pool.created(Ok(ReplicaUid("a".to_owned())), at(2));
    assert_eq!(pool.plan(at(2)), [], "the one that does not show yet counts");
    pool.applied(&replica("a", ReplicaState::Idle, Lifecycle::Starting), at(2));
    assert_eq!(pool.plan(at(2)), [], "the one starting counts");
    pool.applied(&replica("a", ReplicaState::Idle, ready()), at(100));
    assert_eq!(pool.plan(at(100)), [Action::Create]);
    start(&mut pool, "b", at(200));
    assert_eq!(pool.plan(at(200)), []);
    assert_eq!(pool.next_wake(at(200)), None);
    assert_eq!(pool.counts(), Counts { idle: 2, ..Counts::default() });
}

#[test]
fn nothing_is_created_before_all_that_exists_is_known() {
    let mut pool = PoolState::new(Sizing::exactly(1), PACING);
    assert_eq!(pool.plan(at(0)), []);
    pool.applied(&replica("a", ReplicaState::Idle, ready()), at(0));
    pool.synced();
    assert_eq!(pool.plan(at(0)), []);
}

#[test]
fn the_refill_begins_after_the_answer() {
    let mut pool = full(1);
    pool.applied(&replica("0", ReplicaState::Claimed, ready()), at(1000));
    assert_eq!(pool.plan(at(1060)), [], "it is still loading its model");
    pool.applied(&replica("0", ReplicaState::Serving, ready()), at(1070));
    assert_eq!(pool.plan(at(1070)), []);
    assert_eq!(pool.next_wake(at(1070)), Some(at(1120)));
    assert_eq!(pool.plan(at(1120)), [Action::Create]);
    assert_eq!(pool.counts().claimed, 1);
}

#[test]
fn claims_do_not_put_the_refill_off_for_ever() {
    let mut pool = full(20);
    for index in 0..20 {
        let now = at(1000 + index * 40);
        pool.applied(&replica(&index.to_string(), ReplicaState::Serving, ready()), now);
        let expected = if now < at(1500) { vec![] } else { vec![Action::Create] };
        let actions = pool.plan(now);
        assert_eq!(actions, expected, "{now}");
        if !actions.is_empty() {
            return;
        }
    }
    panic!("no refill");
}

#[test]
fn the_refill_waits_for_cold_starts_beside_it() {
    let mut pool = full(1);
    let cold = |state| Replica { pool: String::new(), ..replica("cold", state, ready()) };
    pool.applied(&replica("0", ReplicaState::Claimed, ready()), at(1000));
    pool.cold_start(&cold(ReplicaState::Claimed), at(1005));
    pool.applied(&replica("0", ReplicaState::Serving, ready()), at(1010));
    assert_eq!(pool.plan(at(1100)), [], "a cold start answers somebody who waits");
    pool.cold_start(&cold(ReplicaState::Serving), at(1200));
    assert_eq!(pool.plan(at(1249)), []);
    assert_eq!(pool.plan(at(1250)), [Action::Create]);
}

#[test]
fn a_claim_that_never_serves_does_not_stop_the_refill() {
    let mut pool = full(1);
    pool.applied(&replica("0", ReplicaState::Claimed, ready()), at(1000));
    assert_eq!(pool.next_wake(at(1000)), Some(at(1500)));
    assert_eq!(pool.plan(at(1500)), [Action::Create]);
}

#[test]
fn one_crash_is_made_good_at_once_and_more_are_not() {
    let mut pool = full(1);
    let mut now = at(1000);
    let mut waits = Vec::new();
    for crash in 0..7 {
        let uid = if crash == 0 { "0".to_owned() } else { format!("crash-{crash}") };
        pool.applied(&replica(&uid, ReplicaState::Idle, exited()), now);
        let actions = pool.plan(now);
        assert_eq!(actions[0], Action::Sweep(ReplicaUid(uid.clone())));
        pool.deleted(&ReplicaUid(uid));
        let began = now;
        if actions.len() == 1 {
            now = pool.next_wake(now).expect("it tries again");
            assert_eq!(pool.plan(now), [Action::Create]);
        }
        waits.push(now.saturating_since(began).as_millis());
        pool.created(Ok(ReplicaUid(format!("crash-{}", crash + 1))), now);
    }
    assert_eq!(waits, [0, 250, 500, 1000, 2000, 2000, 2000]);
    assert_eq!(pool.failure(), Some("signal 9"));

    // it works again: after a while the past is forgotten
    pool.applied(&replica("crash-7", ReplicaState::Idle, ready()), now);
    assert_eq!(pool.plan(now), []);
    let proved = pool.next_wake(now).expect("it looks again");
    assert_eq!(proved, now + PACING.stable);
    pool.plan(proved);
    assert_eq!(pool.failure(), None);
    pool.applied(&replica("crash-7", ReplicaState::Idle, exited()), proved);
    assert_eq!(pool.plan(proved), [Action::Sweep(ReplicaUid("crash-7".to_owned())), Action::Create]);
}

#[test]
fn a_cluster_that_refuses_is_asked_again_later() {
    let mut pool = pool(1);
    for expected in [None, Some(at(250)), Some(at(500))] {
        if let Some(wake) = expected {
            assert_eq!(pool.next_wake(at(0)), None);
            assert_eq!(pool.created(Err("no capacity".to_owned()), at(0)), ());
            assert_eq!(pool.next_wake(at(0)), Some(wake));
            assert_eq!(pool.plan(wake), [Action::Create]);
        } else {
            assert_eq!(pool.plan(at(0)), [Action::Create]);
            pool.created(Err("no capacity".to_owned()), at(0));
            assert_eq!(pool.plan(at(0)), [Action::Create]);
        }
    }
}

#[test]
fn shrinking_retires_what_cannot_be_claimed_yet_then_the_youngest() {
    let mut pool = full(0);
    pool.resize(Sizing { min: 3, max: 10 });
    for (uid, millis) in [("old", 0), ("young", 10)] {
        assert_eq!(pool.plan(at(millis)), [Action::Create]);
        start(&mut pool, uid, at(millis));
    }
    assert_eq!(pool.plan(at(20)), [Action::Create]);
    pool.created(Ok(ReplicaUid("starting".to_owned())), at(20));
    pool.applied(&replica("starting", ReplicaState::Idle, Lifecycle::Starting), at(20));
    pool.resize(Sizing::exactly(1));
    let retire = |uid: &str| Action::Retire(ReplicaUid(uid.to_owned()));
    assert_eq!(pool.plan(at(30)), [retire("starting"), retire("young")]);
    assert_eq!(pool.plan(at(30)), [], "each action is given once");
    // a claim won against the retirement of the young one
    pool.applied(&replica("young", ReplicaState::Claimed, ready()), at(40));
    pool.settled(&ReplicaUid("young".to_owned()));
    pool.deleted(&ReplicaUid("starting".to_owned()));
    assert_eq!(pool.plan(at(40)), []);
    assert_eq!(pool.counts(), Counts { idle: 1, claimed: 1, ..Counts::default() });
}

#[test]
fn a_replica_that_shows_before_its_creation_is_answered_is_one_replica() {
    let mut pool = full(1);
    pool.applied(&replica("0", ReplicaState::Serving, ready()), at(0));
    assert_eq!(pool.plan(at(50)), [Action::Create]);
    let new = replica("new", ReplicaState::Idle, Lifecycle::Starting);
    pool.applied(&new, at(51));
    assert_eq!(pool.plan(at(51)), []);
    pool.created(Ok(new.uid), at(52));
    assert_eq!(pool.plan(at(52)), []);
    assert_eq!(pool.counts(), Counts { starting: 1, claimed: 1, ..Counts::default() });
}

#[test]
fn what_another_controller_retired_is_swept() {
    let mut pool = full(1);
    pool.applied(&replica("left", ReplicaState::Retired, ready()), at(0));
    assert_eq!(pool.plan(at(0)), [Action::Sweep(ReplicaUid("left".to_owned()))]);
}

#[test]
fn a_dead_replica_of_a_model_is_left_to_its_owner() {
    let mut pool = full(1);
    pool.applied(&replica("0", ReplicaState::Serving, ready()), at(0));
    pool.applied(&replica("0", ReplicaState::Serving, exited()), at(0));
    assert_eq!(pool.plan(at(100)), [Action::Create]);
    assert_eq!(pool.failure(), None);
}
