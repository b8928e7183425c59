//! The CRDs of `manifests/crds`, as the apiserver sees them.

use std::fs;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use poolctl_api::{API_VERSION, GROUP, Model, VERSION, WarmPool};
use serde_json::{Value, json};

use crate::tier::{Place, eventually, repository};

const NAMES: [&str; 2] = ["models.kferving.dev", "warmpools.kferving.dev"];

/// Writes the CRDs as a person would (`kubectl apply --server-side -f manifests/crds`) and waits until they can be used.
pub(crate) async fn install(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in manifests()? {
        let name = crd.metadata.name.clone().context("a CRD without name")?;
        let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("e2e") };
        crds.patch(&name, &params, &Patch::Apply(&crd)).await.with_context(|| name.clone())?;
        eventually(&format!("{name} to be established"), || async {
            let crd = crds.get(&name).await.map_err(|error| error.to_string())?;
            if is_true(&crd, "Established") { Ok(()) } else { Err(format!("{:?}", crd.status)) }
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn crds_are_established_as_written(place: Arc<Place>) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(place.client());
    let written = manifests()?;
    ensure!(written.iter().map(kube::ResourceExt::name_any).eq(NAMES), "{written:?}");
    for manifest in written {
        let crd = crds.get(&manifest.name_any()).await?;
        ensure!(is_true(&crd, "NamesAccepted") && is_true(&crd, "Established"), "{:?}", crd.status);
        ensure!(!is_true(&crd, "NonStructuralSchema"), "{:?}", crd.status);
        // Fields that the apiserver does not know would be missing; those that it defaults are more.
        let [written, stored] = [serde_json::to_value(&manifest.spec)?, serde_json::to_value(&crd.spec)?];
        if let Some(difference) = missing("spec", &written, &stored) {
            bail!("{}: {difference}", manifest.name_any());
        }
    }
    Ok(())
}

pub(crate) async fn the_examples_are_taken_whole(place: Arc<Place>) -> Result<()> {
    let mut documents = Vec::new();
    for entry in fs::read_dir(repository().join("examples/models"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            documents.push((path.display().to_string(), fs::read_to_string(path)?));
        }
    }
    ensure!(documents.len() >= 3, "the examples have moved: {documents:?}");
    documents.push(("a model with every field".to_owned(), EVERY_FIELD.to_owned()));
    documents.push(("a pool with every field".to_owned(), POOL.to_owned()));
    for (name, text) in documents {
        let written: Value = serde_saphyr::from_str(&text).with_context(|| name.clone())?;
        let stored = create(&place, &written, ValidationDirective::Strict).await.with_context(|| name.clone())?;
        if let Some(difference) = missing("spec", &written["spec"], &stored.data["spec"]) {
            bail!("{name}: {difference}");
        }
    }
    // What a watch decodes: the typed form.
    let models = place.api::<Model>().list(&Default::default()).await?;
    ensure!(models.items.len() == 4, "{models:?}");
    let full = models.items.iter().find(|model| model.name_any() == "every-field").context("not listed")?;
    ensure!(full.spec.gpu.as_ref().and_then(|gpu| gpu.fraction.as_deref()) == Some("0.3"), "{full:?}");
    let pools = place.api::<WarmPool>().list(&Default::default()).await?;
    ensure!(pools.items.first().and_then(|pool| pool.spec.max_size) == Some(10), "{pools:?}");
    Ok(())
}

pub(crate) async fn unknown_fields_are_refused_when_strict(place: Arc<Place>) -> Result<()> {
    for (field, document) in [
        ("spec.cpu.maxReplica", model("typo", json!({"storageUri": "a.onnx", "cpu": {"maxReplica": 2}}))),
        ("spec.objectiv", model("typo", json!({"storageUri": "a.onnx", "cpu": {}, "objectiv": {"latency": "1ms"}}))),
        ("spec.size", pool("typo", json!({"device": "cpu", "size": 3}))),
    ] {
        let error =
            create(&place, &document, ValidationDirective::Strict).await.err().map(|error| format!("{error:#}"));
        let named = format!("unknown field \"{field}\"");
        ensure!(error.as_ref().is_some_and(|error| error.contains(&named)), "expected {named}, got {error:?}");
    }
    // Without strictness the field is dropped, which is why it is worth asking for.
    let typo = model("lenient", json!({"storageUri": "a.onnx", "cpu": {"maxReplica": 2}}));
    let stored = create(&place, &typo, ValidationDirective::Warn).await?;
    ensure!(stored.data["spec"]["cpu"] == json!({}), "{stored:?}");
    Ok(())
}

pub(crate) async fn what_is_wrong_is_named(place: Arc<Place>) -> Result<()> {
    let source = |rest: Value| {
        let mut spec = json!({"storageUri": "s3://models/digits.onnx"});
        if let (Some(spec), Value::Object(rest)) = (spec.as_object_mut(), rest) {
            spec.extend(rest);
        }
        model("wrong", spec)
    };
    let long = "m".repeat(54);
    let cases = [
        (source(json!({})), "spec: Invalid value", "at least one variant is required"),
        (model("wrong", json!({"cpu": {}})), "spec: Invalid value", "storageUri is required, here or in every variant"),
        (
            source(json!({"cpu": {"containerConcurrency": 0}})),
            "spec.cpu.containerConcurrency",
            "greater than or equal to 1",
        ),
        (source(json!({"cpu": {"maxReplicas": 20_000}})), "spec.cpu.maxReplicas", "less than or equal to 10000"),
        (source(json!({"cpu": {"maxReplicas": "2"}})), "spec.cpu.maxReplicas", "must be of type integer"),
        (
            source(json!({"cpu": {"minReplicas": 3, "maxReplicas": 2}})),
            "spec.cpu",
            "minReplicas must not be above maxReplicas",
        ),
        (
            source(json!({"gpu": {"minReplicas": 3, "maxReplicas": 2}})),
            "spec.gpu",
            "minReplicas must not be above maxReplicas",
        ),
        (source(json!({"gpu": {"fraction": "1.5"}})), "spec.gpu.fraction", "should match"),
        (source(json!({"gpu": {"memory": "2 GB"}})), "spec.gpu.memory", "should match"),
        (
            source(json!({"cpu": {"resources": {"requests": {"cpu": "lots"}}}})),
            "spec.cpu.resources.requests.cpu",
            "should match",
        ),
        (source(json!({"cpu": {}, "modelFormat": "tensorflow"})), "spec.modelFormat", "supported values"),
        (source(json!({"cpu": {}, "sha256": "abc"})), "spec.sha256", "should match"),
        (source(json!({"cpu": {}, "timeout": "soon"})), "spec.timeout", "must be of type duration"),
        (source(json!({"cpu": {}, "timeout": "0s"})), "spec.timeout", "expected a duration above zero"),
        (
            source(json!({"cpu": {}, "objective": {"latency": "-5ms"}})),
            "spec.objective.latency",
            "expected a duration above zero",
        ),
        (
            source(json!({"cpu": {}, "batching": {"maxBatchSize": 0}})),
            "spec.batching.maxBatchSize",
            "greater than or equal to 1",
        ),
        (source(json!({"cpu": {}, "cost": {"cpu": -1}})), "spec.cost.cpu", "greater than or equal to 0"),
        (source(json!({"cpu": {}, "warmPool": ""})), "spec.warmPool", "at least 1 chars long"),
        (model(&long, json!({"storageUri": "a.onnx", "cpu": {}})), "Invalid value", "at most 53 characters"),
        (pool("wrong", json!({"device": "tpu"})), "spec.device", "supported values"),
        (pool("wrong", json!({"minSize": 5, "maxSize": 2})), "spec", "minSize must not be above maxSize"),
        (pool("wrong", json!({"minSize": -1})), "spec.minSize", "greater than or equal to 0"),
        (pool("wrong", json!({"serviceAccountName": ""})), "spec.serviceAccountName", "at least 1 chars long"),
    ];
    let mut failures = Vec::new();
    for (document, field, reason) in cases {
        match create(&place, &document, ValidationDirective::Strict).await {
            Ok(stored) => failures.push(format!("taken, although {field} ({reason}): {stored:?}")),
            Err(error) => {
                let said = format!("{error:#}").to_lowercase();
                if !(said.contains(&field.to_lowercase()) && said.contains(&reason.to_lowercase())) {
                    failures.push(format!("expected {field} and '{reason}', got: {said}"));
                }
            }
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// A controller that writes status and a person who writes spec do not overwrite each other.
pub(crate) async fn status_is_written_apart(place: Arc<Place>) -> Result<()> {
    let models = place.api::<Model>();
    let mut document = model("digits", json!({"storageUri": "digits.onnx", "cpu": {}}));
    document["status"] = json!({"url": "http://forged.example"});
    let stored = create(&place, &document, ValidationDirective::Strict).await?;
    ensure!(stored.data.get("status").is_none(), "{stored:?}");
    let status = json!({"status": {"url": "http://digits.example"}, "spec": {"storageUri": "forged.onnx"}});
    let written = models.patch_status("digits", &PatchParams::default(), &Patch::Merge(&status)).await?;
    ensure!(written.spec.storage_uri.as_deref() == Some("digits.onnx"), "{written:?}");
    ensure!(serde_json::to_value(&written.status)?["url"] == "http://digits.example", "{written:?}");
    Ok(())
}

/// A model with everything that a user can say.
const EVERY_FIELD: &str = r#"
apiVersion: kferving.dev/v1alpha1
kind: Model
metadata: {name: every-field}
spec:
  modelFormat: onnx
  storageUri: s3://models/digits.onnx
  sha256: d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9
  cpu:
    resources: {requests: {cpu: 500m, memory: 256Mi}, limits: {cpu: 1, memory: 512Mi}}
    containerConcurrency: 4
    minReplicas: 0
    maxReplicas: 20
  gpu:
    fraction: "0.3"
    memory: 2Gi
    containerConcurrency: 8
    minReplicas: 1
    maxReplicas: 2
    storageUri: s3://models/digits-fp16.onnx
    sha256: 48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b
  objective: {latency: 50ms}
  timeout: 60s
  cost: {cpu: 1, gpu: 12.5}
  batching: {maxBatchSize: 32, maxLatency: 2ms}
  scaleToZeroAfter: 30s
  warmPool: default
"#;

/// A pool with everything that a user can say.
const POOL: &str = r#"
apiVersion: kferving.dev/v1alpha1
kind: WarmPool
metadata: {name: default}
spec:
  device: cpu
  resources: {requests: {cpu: 500m, memory: 256Mi}}
  minSize: 1
  maxSize: 10
  serviceAccountName: default
"#;

fn model(name: &str, spec: Value) -> Value {
    object("Model", name, spec)
}

fn pool(name: &str, spec: Value) -> Value {
    object("WarmPool", name, spec)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}});
    object["spec"] = spec;
    object
}

/// Creates an object as it was written, through no type of ours that could lose a field on the way.
async fn create(place: &Place, document: &Value, validation: ValidationDirective) -> Result<DynamicObject> {
    let kind = document["kind"].as_str().context("a document without kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind));
    let path = DynamicObject::url_path(&resource, Some(&place.namespace));
    let validation = match validation {
        ValidationDirective::Strict => "Strict",
        ValidationDirective::Warn => "Warn",
        ValidationDirective::Ignore => "Ignore",
    };
    let request = http::Request::post(format!("{path}?fieldValidation={validation}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(document)?)?;
    Ok(place.client().request(request).await?)
}

fn manifests() -> Result<Vec<CustomResourceDefinition>> {
    ["models.yaml", "warmpools.yaml"]
        .iter()
        .map(|name| {
            let path = repository().join("manifests/crds").join(name);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
        })
        .collect()
}

fn is_true(crd: &CustomResourceDefinition, type_: &str) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Where `stored` lacks something of `written`, or says something else.
fn missing(path: &str, written: &Value, stored: &Value) -> Option<String> {
    match (written, stored) {
        (Value::Object(written), Value::Object(stored)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match stored.get(key) {
                Some(stored) => missing(&path, value, stored),
                None => Some(format!("{path} is not stored")),
            }
        }),
        (Value::Array(written), Value::Array(stored)) if written.len() == stored.len() => (written.iter().zip(stored))
            .enumerate()
            .find_map(|(index, (written, stored))| missing(&format!("{path}[{index}]"), written, stored)),
        (Value::Number(written), Value::Number(stored)) if written.as_f64() == stored.as_f64() => None,
        (written, stored) if written == stored => None,
        (written, stored) => Some(format!("{path} was {written} and is stored as {stored}")),
    }
}
