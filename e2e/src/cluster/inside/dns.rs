//! The cluster's DNS: created, and waited for.

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;

use super::super::node::{DNS_NAME, DNS_NAMESPACE, dns_objects};

/// Creates CoreDNS from `image`, or brings it to what it should be.
pub(super) async fn create(client: &kube::Client, image: &str) -> anyhow::Result<()> {
    for value in dns_objects(image) {
        let object: DynamicObject = serde_json::from_value(value).expect("the objects are Kubernetes objects");
        let types = object.types.clone().expect("they have a kind");
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, &types.kind));
        let name = object.metadata.name.clone().expect("they have a name");
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let apply = PatchParams::apply("cluster").force();
        api.patch(&name, &apply, &Patch::Apply(&object)).await.with_context(|| format!("{} {name}", types.kind))?;
    }
    Ok(())
}

/// Whether names are resolved; else why not.
pub(super) async fn ready(client: &kube::Client) -> Result<(), String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), DNS_NAMESPACE);
    let status = deployments.get_status(DNS_NAME).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
    match status.available_replicas {
        Some(available) if available > 0 => Ok(()),
        _ => Err("no replica of CoreDNS is available yet".to_owned()),
    }
}
