use autoscaler_policy::{Batching, example};
use model_wrapper_admin::{ConflictResponse, Phases};

use super::*;

fn revision() -> Revision {
    let mut revision = example::revision("digits", Device::Cpu);
    revision.source.config = BTreeMap::from([
        ("intraThreads".to_owned(), "2".to_owned()),
        ("queueLength".to_owned(), "many".to_owned()),
        ("graphOptimization".to_owned(), "basic".to_owned()),
    ]);
    revision.container_concurrency = 4;
    revision.placement.resources = Resources::parse([("cpu", "500m")]).unwrap();
    revision.batching = Some(Batching { max_batch_size: 32, max_latency: Duration::from_millis(2) });
    revision
}

fn ticket(write: Write) -> Ticket {
    Ticket { uid: "pod".into(), claim: "claim".into(), write, attempt: 1 }
}

#[test]
fn a_replica_is_told_all_that_it_needs() {
    let request = specialize_request(&revision(), &"pod".into(), "claim");
    assert_eq!((request.pod_uid.as_str(), request.claim_id.as_str()), ("pod", "claim"));
    assert_eq!((request.container_concurrency, request.timeout_ms), (4, 60_000));
    let limits = [("intraThreads", 2), ("maxBatchLatencyUs", 2000), ("maxBatchSize", 32)];
    assert_eq!(request.limits, BTreeMap::from(limits.map(|(name, limit)| (name.to_owned(), limit))));
    let rest: Vec<_> = request.model.config.keys().map(String::as_str).collect();
    assert_eq!(
        rest,
        ["graphOptimization", "queueLength"],
        "a limit that is no number is left for the wrapper to refuse"
    );
}

#[test]
fn each_write_is_conditional_on_what_it_follows() {
    let clock = Clock::start();
    let write = |kind, from| write(&ticket(kind), from, &revision(), clock.now() + Duration::from_secs(60), clock);

    let (expected, patch) = write(Write::Claim, Label::Idle);
    assert_eq!(expected, Expected { state: Some(ReplicaState::Idle), claim_id: None });
    assert_eq!((patch.state, patch.serving), (Some(ReplicaState::Claimed), None));
    assert_eq!(patch.claim.unwrap().revision, "ns/digits-cpu-00001");

    let ours = |state| Expected { state: Some(state), claim_id: Some("claim".to_owned()) };
    let (expected, patch) = write(Write::Serve, Label::Claimed);
    assert_eq!(expected, ours(ReplicaState::Claimed));
    let identity = patch.serving.unwrap().unwrap();
    assert_eq!((identity.revision.as_str(), identity.service.as_str()), ("digits-cpu-00001", "digits-cpu"));
    assert_eq!(patch.claim, None, "the claim that is there stays");

    let (expected, patch) = write(Write::Drain, Label::Serving);
    assert_eq!(expected, ours(ReplicaState::Serving));
    assert_eq!((patch.state, patch.serving), (Some(ReplicaState::Draining), Some(None)));

    let (_, patch) = write(Write::ClaimServing, Label::Idle);
    assert!(patch.state == Some(ReplicaState::Serving) && patch.claim.is_some() && patch.serving.is_some());
}

#[test]
fn a_cold_start_is_owned_and_has_its_resources() {
    let clock = Clock::start();
    let new = cold_start(&revision(), "claim", clock.now(), clock);
    assert_eq!((new.namespace.as_str(), new.pool.as_str(), new.device.as_str()), ("ns", "", "cpu"));
    assert_eq!(new.resources["cpu"], "500m");
    assert!(new.claim.unwrap().is_in_namespace("ns"));
}

#[test]
fn each_answer_of_an_admin_port_has_its_outcome() {
    let phases = Phases { fetch_us: 100, load_us: 900, total_us: 2000 };
    let answer = SpecializeResponse { claim_id: "claim".to_owned(), phases, metadata: serde_json::Value::Null };
    assert_eq!(loaded(Ok(answer)), LoadOutcome::Loaded { load: Duration::from_millis(1) });

    let conflict =
        ConflictResponse { error: "held".to_owned(), claim_id: "other".to_owned(), revision: "ns/r".to_owned() };
    let rejected = |message: &str| LoadOutcome::Rejected { message: message.into() };
    for (error, outcome) in [
        (AdminError::Conflict(conflict), LoadOutcome::Conflict),
        (AdminError::WrongReplica("uid".to_owned()), LoadOutcome::Conflict),
        (AdminError::Rejected("no such digest".to_owned()), rejected("no such digest")),
        (AdminError::Unexpected { status: 500, message: "boom".to_owned() }, rejected("unexpected answer 500: boom")),
        (AdminError::Timeout(Duration::from_secs(1)), LoadOutcome::TimedOut),
        (AdminError::Unauthorized("expired".to_owned()), LoadOutcome::Unreachable),
        (AdminError::Interrupted("reset".to_owned()), LoadOutcome::Unreachable),
    ] {
        assert_eq!(loaded(Err(error)), outcome);
    }
}

#[test]
fn a_refused_start_is_told_from_an_unanswered_one() {
    assert_eq!(created(Err(ClusterError::NoCapacity("full".to_owned()))), CreateOutcome::NoCapacity("full".into()));
    assert_eq!(created(Err(ClusterError::Unavailable("timeout".to_owned()))), CreateOutcome::Unknown);
    assert!(matches!(created(Err(ClusterError::Rejected("namespace".to_owned()))), CreateOutcome::Failed(_)));
}
