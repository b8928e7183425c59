//! Whether anybody serves Ingresses of a class, asked before the suite is: each of its waits for an Ingress to become ready lasts ten
//! minutes, and there are dozens.

use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::process::{Progress, WaitError, wait_until};

/// A controller looks at a new object within a second; one that was just started first waits up to 15 s for its predecessor's Lease.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);

const NAME: &str = "conformance-canary";
const NAMESPACE: &str = "serving-tests";

/// What became of it.
#[derive(Debug)]
pub(super) enum Canary {
    /// A controller took the Ingress up.
    Served,
    /// Nobody touched it; why this is taken for granted.
    Ignored(String),
}

/// Creates an Ingress of the class, sees whether a controller writes a status or a finalizer, and removes it.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn ask(client: &Client, class: &str, progress: &Progress) -> Result<Canary, kube::Error> {
    let kind = GroupVersionKind::gvk("networking.internal.knative.dev", "v1alpha1", "Ingress");
    let resource = ApiResource::from_gvk(&kind);
    let ingresses: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
    ingresses.create(&PostParams::default(), &ingress(&resource, class)).await?;
    let what = format!("a controller of the ingress class {class}");
    let served = wait_until(&what, PATIENCE, progress, || async {
        match ingresses.get(NAME).await {
            Ok(object) if is_taken_up(&object) => Ok(()),
            Ok(_) => Err("an Ingress of that class is left alone".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    // One that has a finalizer stays until its controller has seen to it; the namespace goes after the suite in any case.
    ingresses.delete(NAME, &DeleteParams::default()).await?;
    Ok(match served {
        Ok(()) => Canary::Served,
        Err(WaitError::Deadline { .. }) => Canary::Ignored(format!(
            "no controller took up an Ingress of the class {class} within {} s: install one, or give the class of one that is",
            PATIENCE.as_secs()
        )),
        Err(other) => Canary::Ignored(other.to_string()),
    })
}

fn ingress(resource: &ApiResource, class: &str) -> DynamicObject {
    let path = json!({ "splits": [{
        "serviceName": "nowhere", "serviceNamespace": NAMESPACE, "servicePort": 80, "percent": 100,
    }] });
    let rule = json!({
        "hosts": [format!("{NAME}.example.com")],
        "visibility": "ExternalIP",
        "http": { "paths": [path] },
    });
    let mut object = DynamicObject::new(NAME, resource).within(NAMESPACE).data(json!({ "spec": { "rules": [rule] } }));
    object.annotations_mut().insert("networking.knative.dev/ingress.class".to_owned(), class.to_owned());
    object
}

/// Every implementation writes one of the two as the first thing it does; an Ingress of a foreign class has to stay as it is.
fn is_taken_up(object: &DynamicObject) -> bool {
    !object.finalizers().is_empty() || object.data.get("status").is_some_and(|status| !is_empty(status))
}

fn is_empty(status: &serde_json::Value) -> bool {
    status.as_object().is_none_or(serde_json::Map::is_empty)
}
