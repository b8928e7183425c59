//! Applying objects, phase after phase, by server-side apply.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, TypeMeta};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::objects::{Object, Phase};
use super::{Error, NAMESPACE, said};
use crate::dynamic;
use crate::process::{Progress, wait_until};

/// Who the fields that we apply belong to.
const MANAGER: &str = "kferving-cluster";

/// Says on the namespace which objects were applied.
const MARK: &str = "kferving.dev/applied";

/// Objects of a phase that are applied at the same time: the API server takes each in some milliseconds.
const AT_ONCE: usize = 16;

/// Until an object that may be accepted later is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Applies `objects`, unless these very objects were applied before.
pub(super) async fn all(
    client: &Client,
    objects: &[Object],
    deadline: Duration,
    progress: &Progress,
) -> Result<(), Error> {
    let digest = digest(objects);
    if mark(client).await?.as_deref() == Some(&digest) {
        progress.say("Knative Serving is applied already");
        return Ok(());
    }
    let step = progress.step("applying Knative Serving");
    for phase in Phase::ALL {
        let of_phase: Vec<&Object> = objects.iter().filter(|object| object.phase == phase).collect();
        step.note(&format!("{phase:?}"));
        let applied = futures::stream::iter(of_phase.iter().map(|object| apply(client, object, deadline)));
        applied.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        if phase == Phase::Definitions {
            established(client, &of_phase, deadline, progress).await?;
        }
    }
    set_mark(client, &digest).await?;
    step.done(&format!("{} objects", objects.len()));
    Ok(())
}

/// Applies one object. A refusal that may pass is tried again until the deadline: the namespace's or the type's arrival takes a
/// moment, and a webhook that is being replaced does not answer.
async fn apply(client: &Client, object: &Object, deadline: Duration) -> Result<(), Error> {
    let types = TypeMeta { api_version: object.api_version.clone(), kind: object.kind.clone() };
    let api = dynamic::api(client, &types, object.namespace.as_deref());
    let begin = Instant::now();
    loop {
        match apply_once(&api, object).await {
            Ok(()) => return Ok(()),
            Err(error) if may_pass(&error) && begin.elapsed() < deadline => tokio::time::sleep(RETRY).await,
            Err(source) => return Err(Error::Refused { object: object.to_string(), source: Box::new(source) }),
        }
    }
}

async fn apply_once(api: &Api<DynamicObject>, object: &Object) -> Result<(), kube::Error> {
    // Its rules belong to the webhook's process from the moment that it runs.
    if object.phase == Phase::Webhooks && api.get_opt(&object.name).await?.is_some() {
        return Ok(());
    }
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&object.name, &parameters, &Patch::Apply(&object.value)).await?;
    Ok(())
}

/// Whether the same request may succeed later.
pub(super) fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 404 | 409 | 429 | 500..),
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

/// Waits until the API server serves the types.
async fn established(
    client: &Client,
    definitions: &[&Object],
    deadline: Duration,
    progress: &Progress,
) -> Result<(), Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    wait_until("Knative's types are served", deadline, progress, || async {
        let listed = api.list(&ListParams::default()).await.map_err(|error| said(&error))?;
        let served = |name: &str| {
            listed.items.iter().any(|crd| crd.metadata.name.as_deref() == Some(name) && is_established(crd))
        };
        let lacking: Vec<&str> =
            definitions.iter().map(|object| object.name.as_str()).filter(|name| !served(name)).collect();
        if lacking.is_empty() { Ok(()) } else { Err(format!("not yet: {}", lacking.join(", "))) }
    })
    .await?;
    Ok(())
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

async fn mark(client: &Client) -> Result<Option<String>, Error> {
    let namespace = Api::<Namespace>::all(client.clone()).get_opt(NAMESPACE).await.map_err(refused("get"))?;
    Ok(namespace.and_then(|namespace| namespace.metadata.annotations?.remove(MARK)))
}

async fn set_mark(client: &Client, digest: &str) -> Result<(), Error> {
    let patch = json!({"metadata": {"annotations": {MARK: digest}}});
    let api: Api<Namespace> = Api::all(client.clone());
    api.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(refused("mark"))?;
    Ok(())
}

fn refused(what: &str) -> impl FnOnce(kube::Error) -> Error + use<'_> {
    move |source| Error::Refused { object: format!("{what} Namespace {NAMESPACE}"), source: Box::new(source) }
}

/// SHA-256 of the objects, in hexadecimal.
pub(super) fn digest(objects: &[Object]) -> String {
    let mut hash = Sha256::new();
    for object in objects {
        hash.update(object.value.to_string());
        hash.update("\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
