use std::time::{Duration, SystemTime};

use autoscaler_policy::Verdict;
use autoscaler_policy::service::Evidence;
use poolctl_api::{ColdStart, Condition, ConditionStatus};

use super::*;
use crate::admin::messages::{
    Alternative, ColdPath, DeviceCost, Explanation, LatencyBucket, LatencyHistogram, NextRequest, Outcome,
    PlanExplanation, PoolStatus, ReplicaPhase, ReplicaStatus, VariantPlan, VariantStatus,
};

fn model(name: &str, namespace: &str) -> ModelStatus {
    let ready = Condition::new("Ready", ConditionStatus::True, "Loadable", SystemTime::UNIX_EPOCH);
    ModelStatus {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        url: format!("http://127.0.0.1:8080/v2/models/{name}"),
        conditions: vec![ready],
        variants: vec![VariantStatus {
            device: "cpu".to_owned(),
            revision: format!("{name}-cpu-00001"),
            digest: Some("sha256:0123456789abcdef".to_owned()),
            desired: 1,
            why: Some("recent-request".to_owned()),
            problem: None,
            replicas: vec![replica("wrapper-1", ReplicaPhase::Serving, 2)],
        }],
        held: 0,
        in_flight: 2,
        latency: histogram(100),
        last_cold_start: Some(ColdStart { backoff_ms: 0.0, claim_ms: 0.2, specialize_ms: 0.8, load_ms: 4.1 }),
    }
}

fn replica(id: &str, state: ReplicaPhase, in_flight: u32) -> ReplicaStatus {
    ReplicaStatus {
        id: id.to_owned(),
        uid: "u".to_owned(),
        pid: Some(4711),
        state,
        address: Some("127.0.0.1:40001".to_owned()),
        in_flight,
        startup_ms: Some(81.5),
        age_seconds: 12.4,
    }
}

fn histogram(count: u64) -> LatencyHistogram {
    let bucket = |le_ms, count| LatencyBucket { le_ms, count };
    LatencyHistogram { count, buckets: vec![bucket(1.0, count / 2), bucket(2.0, count)] }
}

fn broken() -> ModelStatus {
    let failed = |type_: &str| {
        Condition::new(type_, ConditionStatus::False, "LoadFailed", SystemTime::UNIX_EPOCH).with_message("no such file")
    };
    ModelStatus {
        conditions: vec![failed("Ready"), failed("CpuReady")],
        variants: vec![VariantStatus {
            device: "cpu".to_owned(),
            problem: Some("load-failed: no such file".to_owned()),
            ..VariantStatus::default()
        }],
        last_cold_start: None,
        ..model("broken", "text")
    }
}

fn stack() -> Status {
    let pool = PoolStatus {
        name: "default".to_owned(),
        namespace: "vision".to_owned(),
        device: "cpu".to_owned(),
        idle: 1,
        claimed: 1,
        size: 2,
        hits: 12,
        misses: 3,
        problem: None,
        replicas: vec![replica("wrapper-2", ReplicaPhase::Idle, 0)],
    };
    Status { models: vec![model("digits", "vision"), broken()], pools: vec![pool] }
}

#[test]
fn status_is_two_tables_and_the_problems() {
    assert_eq!(
        status::render(&stack(), status::Width::Narrow),
        "\
NAMESPACE  MODEL   READY       DEVICE  REPLICAS  IN FLIGHT  HELD  LAST COLD START                               URL
vision     digits  yes         cpu          1/1          2     0  5.1 ms (claim 0.2, specialize 0.8, load 4.1)  http://127.0.0.1:8080/v2/models/digits
text       broken  LoadFailed  cpu          0/0          0     0  -                                             http://127.0.0.1:8080/v2/models/broken

NAMESPACE  POOL     DEVICE  IDLE  SIZE  CLAIMED  HITS  MISSES
vision     default  cpu        1     2        1    12       3

text/broken on cpu: LoadFailed: no such file
"
    );
    assert_eq!(status::render(&Status::default(), status::Width::Narrow), "There are no models.\n");
}

#[test]
fn a_back_off_is_told_apart_from_the_claim_it_came_before() {
    let phases = ColdStart { backoff_ms: 1000.0, claim_ms: 0.2, specialize_ms: 0.8, load_ms: 4.1 };
    assert_eq!(status::cold_start(&phases), "1005.1 ms (backoff 1000.0, claim 0.2, specialize 0.8, load 4.1)");
}

#[test]
fn wide_status_shows_revisions_latency_and_every_replica() {
    let text = status::render(&stack(), status::Width::Wide);
    for expected in [
        "vision     digits  yes         cpu     digits-cpu-00001  0123456789ab       1/1  recent-request          2     0       100     ≤ 1     ≤ 2  5.1 ms",
        "wrapper-1  model vision/digits  serving  4711  127.0.0.1:40001          2        81.5     12\n",
        "wrapper-2  pool vision/default  idle     4711  127.0.0.1:40001          0        81.5     12\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn top_shows_the_interval_the_busiest_first() {
    let before = stack();
    let mut now = stack();
    now.models[1].latency = histogram(300);
    let rates = top::rates(&before, &now, Duration::from_secs(2));
    assert_eq!(
        top::render(&rates, &now),
        "\
NAMESPACE  MODEL   REQ/S  IN FLIGHT  HELD  P50 MS  P99 MS  REPLICAS
text       broken  100.0          2     0     ≤ 1     ≤ 2  cpu 0/0
vision     digits    0.0          2     0       -       -  cpu 1/1

NAMESPACE  POOL     DEVICE  IDLE  SIZE  CLAIMED  HITS  MISSES
vision     default  cpu        1     2        1    12       3
"
    );
}

#[test]
fn models_are_found_by_name_and_by_namespace() {
    let status = Status { models: vec![model("a", "x"), model("a", "y"), model("b", "x")], pools: vec![] };
    let found = |wanted: &str| find(&status, wanted).map(|model| format!("{}/{}", model.namespace, model.name));
    assert_eq!(found("b").as_deref(), Ok("x/b"));
    assert_eq!(found("y/a").as_deref(), Ok("y/a"));
    assert_eq!(found("a"), Err("several models are called a: name one of x/a, y/a".to_owned()));
    assert_eq!(found("c"), Err("there is no model c: there are x/a, y/a, x/b".to_owned()));
    assert_eq!(find(&Status::default(), "c"), Err("there is no model c: there are no models".to_owned()));
}

#[test]
fn explanations_are_for_people() {
    let explanation = Explanation {
        model: model("digits", "vision"),
        plan: Some(PlanExplanation {
            report_age_seconds: Some(0.84),
            held: 0,
            in_flight: 2,
            idle_seconds: Some(0.25),
            silent_gateways: 0,
            objective_ms: Some(50.0),
            stable_concurrency: 1.5,
            panic_concurrency: 2.0,
            panicking: true,
            fit: Verdict::WithinObjective,
            alternatives: vec![
                Alternative { cpu: 1, gpu: 0, cost: 1.0, carries: true, chosen: true },
                Alternative { cpu: 0, gpu: 1, cost: 12.0, carries: true, chosen: false },
            ],
            variants: vec![VariantPlan {
                device: "cpu".to_owned(),
                revision: "vision/digits-cpu-00001".to_owned(),
                ready: 1,
                desired: 1,
                min: 0,
                max: 4,
                why: "stable-window".to_owned(),
                service_ms: 1.25,
                evidence: Evidence::Measured,
                target_concurrency: 2.8,
                cost: 1.0,
                obstacle: None,
            }],
        }),
        next_request: NextRequest {
            request_bytes: 1024,
            target_ms: 50.0,
            outcome: Outcome::Sent,
            chosen: Some("cpu".to_owned()),
            reason: "cheapest-within-target".to_owned(),
            refusal: None,
            cold_start: None,
            devices: vec![
                DeviceCost {
                    device: "cpu".to_owned(),
                    active: true,
                    predicted_ms: 3.75,
                    measured: true,
                    activation_ms: None,
                    cost: 1.0,
                    in_flight: 2,
                    concurrency: 4,
                },
                DeviceCost {
                    device: "gpu".to_owned(),
                    active: false,
                    predicted_ms: 5.0,
                    measured: false,
                    activation_ms: Some(8.0),
                    cost: 12.0,
                    in_flight: 0,
                    concurrency: 0,
                },
            ],
        },
    };
    let mut cold = explanation.clone();
    cold.next_request.chosen = None;
    cold.next_request.outcome = Outcome::ColdStart;
    for (idle, last_ms, said) in [
        (
            2,
            Some(5.14),
            "would be held while it claims one of the 2 idle replicas of pool default: 5.1 ms the last time",
        ),
        (0, None, "would be held while a replica is started, as pool default has none that is idle: never done before"),
    ] {
        cold.next_request.cold_start = Some(ColdPath { pool: "default".to_owned(), idle, last_ms });
        assert!(explain::render(&cold).contains(said), "{said}");
    }
    cold.next_request.cold_start = None;
    cold.next_request.outcome = Outcome::Held;
    assert!(explain::render(&cold).contains("would be held until a replica has room"));
    cold.next_request.outcome = Outcome::Refused;
    "load-failed".clone_into(&mut cold.next_request.reason);
    cold.next_request.refusal = Some("no such file".to_owned());
    assert!(explain::render(&cold).contains("would be refused: load-failed: no such file"));

    let mut unmeasured = explanation.clone();
    let plan = unmeasured.plan.as_mut().expect("a plan");
    (plan.fit, plan.variants[0].evidence, plan.report_age_seconds) = (Verdict::Unmeasured, Evidence::Prior, None);
    let text = explain::render(&unmeasured);
    for expected in [
        "  Demand: no gateway has reported yet\n",
        "  Objective: 50 ms per request; nothing was measured yet that would tell whether the plan keeps it\n",
        "        1.25  a guess    2.80",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }

    let text = explain::render(&explanation);
    let (_, why) = text.split_once("\n\n").expect("the model's table comes first");
    assert_eq!(
        why,
        "\
Why these replicas
  Demand as reported 0.8 s ago: 0 held, 2 in flight; the last request 0.2 s ago
  Concurrency: 1.50 over the stable window, 2.00 over the panic window; in panic: nothing is scaled down
  Objective: 50 ms per request; the plan keeps it
  DEVICE  READY  DESIRED  MIN  MAX  SERVICE MS            TARGET  COST/S  WHY
  cpu         1        1    0    4        1.25  measured    2.80       1  stable-window

Mixes that were weighed
  CPU  GPU  COST/S  CARRIES THE LOAD
    1    0       1  yes               <- chosen
    0    1      12  yes

The next request (1024 bytes, aim 50 ms)
  would go to cpu: cheapest-within-target
  DEVICE  UP   START MS  PREDICTED MS            COST/S  IN FLIGHT  ROOM FOR
  cpu     yes         0          3.75  measured       1          2         2
  gpu     no        8.0          5.00  a guess       12          0         0
"
    );
}
