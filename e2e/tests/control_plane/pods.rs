//! Pods of a pool and the claim protocol's writes to them: JSON Patches whose `test` operations are the compare-and-swap.

use anyhow::{Context as _, Result, bail};
use e2e::kwok::RESTLESS;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use poolctl_api::labels;
use serde_json::{Value, json};

use crate::tier::eventually;

/// Whether a pod's status is written all the time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Still,
    Restless,
}

/// What became of a tested write.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It took effect.
    Won(Box<Pod>),
    /// Another writer won, or the pod is gone: the status code (404, 409, 422).
    Lost(u16),
    /// No answer that says which.
    Unknown(String),
}

/// A pod of the pool, as the pool's controller would make it.
pub(crate) async fn create(pods: &Api<Pod>, name: &str, status: Status) -> Result<Pod> {
    let mut labels = json!({
        labels::POOL: "default", labels::STATE: "idle", labels::DEVICE: "cpu", labels::CONTRACT: "v1",
    });
    if status == Status::Restless {
        labels[RESTLESS] = json!("true");
    }
    let object = json!({
        "metadata": {"name": name, "labels": labels, "annotations": {"kubernetes.io/description": "a warm replica"}},
        "spec": {
            "containers": [{
                "name": "model-wrapper",
                "image": "dev.local/model-wrapper:v1",
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
        },
    });
    let object = serde_json::from_value(object)?;
    pods.create(&PostParams::default(), &object).await.with_context(|| format!("creating pod {name}"))
}

/// The pod as it is once kwok has made it Ready.
pub(crate) async fn ready(pods: &Api<Pod>, name: &str) -> Result<Pod> {
    eventually(&format!("pod {name}"), || async {
        let pod = pods.get(name).await.map_err(|error| error.to_string())?;
        if is_ready(&pod) { Ok(pod) } else { Err(format!("{:?}", pod.status)) }
    })
    .await
}

/// Whether its condition Ready is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.0 == "True")
}

/// When kwok last wrote the status of a restless pod.
pub(crate) fn beat(pod: &Pod) -> Option<String> {
    condition(pod, "e2e.kferving.dev/beat")?.1
}

/// Status and message of a condition.
fn condition(pod: &Pod, type_: &str) -> Option<(String, Option<String>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((condition.status.clone(), condition.message.clone()))
}

/// The pod's state label.
pub(crate) fn state(pod: &Pod) -> Option<&str> {
    pod.labels().get(labels::STATE).map(String::as_str)
}

/// The claim that owns the pod.
pub(crate) fn claim_id(pod: &Pod) -> Option<&str> {
    pod.annotations().get(labels::CLAIM_ID).map(String::as_str)
}

/// idle → claimed.
pub(crate) async fn claim(pods: &Api<Pod>, pod: &Pod, id: &str) -> Outcome {
    let operations = json!([
        test_uid(pod),
        test_state("idle"),
        set_state("claimed"),
        {"op": "add", "path": annotation(labels::CLAIM_ID), "value": id},
        {"op": "add", "path": annotation(labels::CLAIM_DEADLINE), "value": "2100-01-01T00:00:00Z"},
    ]);
    patch(pods, pod, operations).await
}

/// claimed → serving, published as a replica of a revision.
pub(crate) async fn publish(pods: &Api<Pod>, pod: &Pod, id: &str, revision: &str) -> Outcome {
    let operations = json!([
        test_uid(pod),
        test_state("claimed"),
        test_claim(id),
        set_state("serving"),
        {"op": "add", "path": label("serving.knative.dev/revision"), "value": revision},
    ]);
    patch(pods, pod, operations).await
}

/// serving → draining: requests are not to find it any more.
pub(crate) async fn drain(pods: &Api<Pod>, pod: &Pod, id: &str) -> Outcome {
    let operations = json!([
        test_uid(pod),
        test_state("serving"),
        test_claim(id),
        set_state("draining"),
        {"op": "remove", "path": label("serving.knative.dev/revision")},
    ]);
    patch(pods, pod, operations).await
}

/// What a claim must not be: the same write without the tests.
pub(crate) async fn claim_untested(pods: &Api<Pod>, pod: &Pod, id: &str) -> Outcome {
    let operations = json!([
        set_state("claimed"),
        {"op": "add", "path": annotation(labels::CLAIM_ID), "value": id},
    ]);
    patch(pods, pod, operations).await
}

/// Back into the pool: no part of the protocol, but a test may race for the same pods again.
pub(crate) async fn reset(pods: &Api<Pod>, pod: &Pod) -> Result<()> {
    let operations = json!([set_state("idle"), {"op": "remove", "path": annotation(labels::CLAIM_ID)}]);
    match patch(pods, pod, operations).await {
        Outcome::Won(_) => Ok(()),
        other => bail!("resetting {}: {other:?}", pod.name_any()),
    }
}

async fn patch(pods: &Api<Pod>, pod: &Pod, operations: Value) -> Outcome {
    let operations = serde_json::from_value(operations).expect("the operations are a JSON Patch");
    match pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Json::<Pod>(operations)).await {
        Ok(pod) => Outcome::Won(Box::new(pod)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Outcome::Lost(status.code),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

fn test_uid(pod: &Pod) -> Value {
    json!({"op": "test", "path": "/metadata/uid", "value": pod.metadata.uid})
}

fn test_state(state: &str) -> Value {
    json!({"op": "test", "path": label(labels::STATE), "value": state})
}

fn test_claim(id: &str) -> Value {
    json!({"op": "test", "path": annotation(labels::CLAIM_ID), "value": id})
}

fn set_state(state: &str) -> Value {
    json!({"op": "replace", "path": label(labels::STATE), "value": state})
}

fn label(key: &str) -> String {
    format!("/metadata/labels/{}", key.replace('/', "~1"))
}

fn annotation(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('/', "~1"))
}
