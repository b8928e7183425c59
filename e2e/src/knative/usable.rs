//! When Knative Serving can be used: its Deployments are available and its webhook answers.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::json;

use super::{Error, NAMESPACE, said};
use crate::process::{Progress, wait_until};

/// What serves; the queue proxy is in the pods of its users.
const DEPLOYMENTS: [&str; 4] = ["activator", "autoscaler", "controller", "webhook"];

/// Waits until all of [`DEPLOYMENTS`] are available.
pub(super) async fn deployments(client: &Client, deadline: Duration, progress: &Progress) -> Result<(), Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    wait_until("Knative's Deployments are available", deadline, progress, || async {
        let all = ListParams::default();
        let (deployments, pods) =
            tokio::try_join!(deployments.list(&all), pods.list(&all)).map_err(|error| said(&error))?;
        match unavailable(&deployments.items, &pods.items) {
            None => Ok(()),
            Some(reason) => Err(reason),
        }
    })
    .await?;
    Ok(())
}

/// Waits until the webhook judges Services and `ConfigMap`s: requests that are only tried (dry run) pass it.
pub(super) async fn webhook(client: &Client, deadline: Duration, progress: &Progress) -> Result<(), Error> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("serving.knative.dev", "v1", "Service"));
    let services: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let service = DynamicObject::new("webhook-probe", &resource)
        .data(json!({"spec": {"template": {"spec": {"containers": [{"image": "dev.local/webhook-probe:v1"}]}}}}));
    let (service, maps, services) = (&service, &maps, &services);
    wait_until("Knative's webhook answers", deadline, progress, || async move {
        let create = PostParams { dry_run: true, ..PostParams::default() };
        let created = services.create(&create, service).await.map_err(|error| said(&error))?;
        // Values that the webhook sets: without them nobody asked it.
        if created.data.pointer("/spec/template/spec/containerConcurrency").is_none() {
            return Err("a Service was accepted without defaults".to_owned());
        }
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"kferving.dev/probe": "webhook"}}}));
        maps.patch("config-autoscaler", &PatchParams::default().dry_run(), &patch)
            .await
            .map_err(|error| said(&error))?;
        Ok(())
    })
    .await?;
    Ok(())
}

/// Which Deployments are not available, and what their pods say about it; `None` when all are.
pub(super) fn unavailable(deployments: &[Deployment], pods: &[Pod]) -> Option<String> {
    let lacking = DEPLOYMENTS.iter().filter(|name| !is_available(deployments, name));
    let reasons: Vec<String> = lacking.map(|name| format!("{name}: {}", state_of(name, pods))).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn is_available(deployments: &[Deployment], name: &str) -> bool {
    let Some(deployment) = deployments.iter().find(|found| found.metadata.name.as_deref() == Some(name)) else {
        return false;
    };
    let Some(status) = &deployment.status else { return false };
    let conditions = status.conditions.iter().flatten();
    let available =
        conditions.into_iter().any(|condition| condition.type_ == "Available" && condition.status == "True");
    available && status.observed_generation >= deployment.metadata.generation
}

/// What the first pod of the Deployment that is not ready says.
fn state_of(name: &str, pods: &[Pod]) -> String {
    let is_of =
        |pod: &&Pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).is_some_and(|app| app == name);
    let mut of = pods.iter().filter(is_of).peekable();
    if of.peek().is_none() {
        return "no pod yet".to_owned();
    }
    of.find_map(trouble).unwrap_or_else(|| "pods are ready, the Deployment does not say so yet".to_owned())
}

/// Why a pod is not ready; `None` when it is.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    if conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        return None;
    }
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some([waiting.reason.as_deref(), waiting.message.as_deref()])
    });
    if let Some(said) = waiting {
        return Some(said.into_iter().flatten().collect::<Vec<_>>().join(": "));
    }
    let unscheduled = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .find_map(|condition| condition.message.clone());
    Some(
        unscheduled
            .unwrap_or_else(|| format!("pod {}, not ready", status.phase.as_deref().unwrap_or("without a phase"))),
    )
}
