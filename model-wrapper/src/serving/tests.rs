//! On real models and the real runtime.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model_wrapper_admin::{ModelSource, SpecializeRequest};
use prometheus::Registry;

use super::*;
use crate::test_runtime::runtime;

fn idle() -> Serving {
    Serving::idle(runtime(), Some("uid-1".into()), WrapperMetrics::register(&Registry::new()).unwrap())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/tests/fixtures").join(name)
}

fn request(claim: &str, file: &str) -> SpecializeRequest {
    SpecializeRequest {
        claim_id: claim.into(),
        pod_uid: "uid-1".into(),
        revision: "ns/sum-cpu-00001".into(),
        digest: fetch(&fixture(file)).unwrap().digest,
        model: ModelSource {
            uri: format!("file://{}", fixture(file).display()),
            format: "onnx".into(),
            name: "sum".into(),
            config: Default::default(),
        },
        container_concurrency: 2,
        timeout_ms: 10_000,
        limits: Default::default(),
    }
}

fn reason(outcome: Result<Arc<ServedModel>, InferError>) -> &'static str {
    outcome.map_or_else(|error| error.reason(), |_| "admitted")
}

#[tokio::test]
async fn a_claim_specializes_once_and_is_answered_the_same_again() {
    let serving = idle();
    assert_eq!(serving.readiness(), Readiness::Ready);
    assert_eq!(reason(serving.admit(None)), "model-not-found");
    assert_eq!(reason(serving.admit(Some("ns/r@sha256:0"))), "misdirected");

    let request = request("a", "sum-and-scale.onnx");
    let first = serving.specialize(&request).await.unwrap();
    assert_eq!(first.metadata["name"], "sum");
    assert!(first.phases.total_us >= first.phases.fetch_us);
    assert_eq!(serving.specialize(&request).await.unwrap(), first);

    let identity = format!("ns/sum-cpu-00001@{}", request.digest);
    let model = serving.admit(Some(&identity)).unwrap();
    assert_eq!(model.timeout(), Duration::from_secs(10));
    assert_eq!(reason(serving.admit(None)), "misdirected");
    assert_eq!(reason(serving.admit(Some("ns/sum-cpu-00002@sha256:0"))), "misdirected");
    let places = [model.acquire().unwrap(), model.acquire().unwrap()];
    assert_eq!(model.acquire().unwrap_err().reason(), "replica-busy");
    assert_eq!(serving.state().in_flight, 2);
    drop(places);
    let state = serving.state();
    assert_eq!((state.state, state.claim_id.as_deref()), (WrapperState::Serving, Some("a")));
}

#[tokio::test]
async fn of_many_claims_one_wins() {
    let serving = idle();
    let calls: Vec<_> = (0..64)
        .map(|index| {
            let serving = serving.clone();
            tokio::spawn(async move { serving.specialize(&request(&format!("claim-{index}"), "fp32.onnx")).await })
        })
        .collect();
    let mut winners = Vec::new();
    let mut holders = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            Ok(response) => winners.push(response.claim_id),
            Err(Refusal::Conflict(conflict)) => holders.push(conflict.claim_id),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((winners.len(), holders.len()), (1, 63));
    assert!(holders.iter().all(|holder| *holder == winners[0]));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_spends_the_wrapper() {
    let serving = idle();
    let mut wrong = request("a", "fp32.onnx");
    wrong.digest = format!("sha256:{}", "0".repeat(64));
    for _ in 0..2 {
        let Err(Refusal::Rejected(message)) = serving.specialize(&wrong).await else { panic!("it was loaded") };
        assert!(message.contains("has the digest sha256:"), "{message}");
    }
    assert_eq!(serving.readiness(), Readiness::NotReady);
    assert_eq!(serving.state().state, WrapperState::Failed);
    assert_eq!(reason(serving.admit(None)), "load-failed");
    let other = serving.specialize(&request("b", "fp32.onnx")).await;
    assert!(matches!(other, Err(Refusal::Conflict(_))));
}

#[tokio::test]
async fn what_can_never_work_does_not_spend_it() {
    let serving = idle();
    let mut elsewhere = request("a", "fp32.onnx");
    elsewhere.pod_uid = "uid-2".into();
    assert!(matches!(serving.specialize(&elsewhere).await, Err(Refusal::WrongReplica(_))));
    let mut remote = request("a", "fp32.onnx");
    remote.model.uri = "s3://bucket/m.onnx".into();
    assert!(matches!(serving.specialize(&remote).await, Err(Refusal::Rejected(_))));
    assert_eq!(serving.state().state, WrapperState::Idle);
    assert!(serving.specialize(&request("b", "fp32.onnx")).await.is_ok());
}

#[tokio::test]
async fn batching_is_refused_where_the_first_dimension_is_fixed() {
    let mut batched = request("a", "loop.onnx");
    batched.limits.insert("maxBatchSize".into(), 8);
    let Err(Refusal::Rejected(message)) = idle().specialize(&batched).await else { panic!("it was loaded") };
    assert!(message.contains("input 'iterations' has the shape [1]"), "{message}");
}

#[tokio::test]
async fn drained_it_takes_neither_requests_nor_claims() {
    let serving = idle();
    let spec = ModelSpec { concurrency: Some(4), ..ModelSpec::new("m".into(), fixture("fp32.onnx")) };
    serving.serve_model(&spec, None).unwrap();
    let model = serving.admit(None).unwrap();
    assert_eq!(reason(serving.admit(Some("ns/r@sha256:0"))), "misdirected");
    let slot = model.acquire().unwrap();
    let draining = tokio::spawn({
        let serving = serving.clone();
        async move { serving.drain().await }
    });
    while serving.readiness() != Readiness::Draining {
        tokio::task::yield_now().await;
    }
    assert_eq!(reason(serving.admit(None)), "draining");
    assert_eq!(model.acquire().unwrap_err().reason(), "draining");
    assert!(!draining.is_finished());
    drop(slot);
    draining.await.unwrap();

    let pooled = idle();
    pooled.shut_down().await;
    assert!(matches!(pooled.specialize(&request("a", "fp32.onnx")).await, Err(Refusal::Stopping)));
}

#[tokio::test]
async fn a_wrapper_with_a_model_takes_no_claim_and_only_its_revision() {
    let serving = idle();
    let spec = ModelSpec::new("m".into(), fixture("fp32.onnx"));
    serving.serve_model(&spec, Some("ns/m-cpu-00001")).unwrap();
    let Err(Refusal::Conflict(conflict)) = serving.specialize(&request("a", "fp32.onnx")).await else {
        panic!("it was claimed")
    };
    assert_eq!(conflict.claim_id, STARTED_WITH_MODEL);
    let digest = serving.state().digest.unwrap();
    assert_eq!(reason(serving.admit(None)), "admitted");
    assert_eq!(reason(serving.admit(Some(&format!("ns/m-cpu-00001@{digest}")))), "admitted");
    assert_eq!(reason(serving.admit(Some("ns/m-cpu-00001@sha256:0"))), "misdirected");
}
