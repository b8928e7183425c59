use poolctl_api::{Model, ModelDefinition};
use serde_json::json;

use super::*;
use crate::pool::placement::place;

const GPU_MISSING: &str = "replicas of this machine run on: cpu; nothing runs for the gpu variant";

fn loadable(path: &str) -> Resolved {
    let metadata = json!({"name": "file-stem", "inputs": []});
    let inspection = Inspection { digest: "sha256:ab".to_owned(), external: Vec::new(), metadata };
    Resolved::Loadable { path: PathBuf::from(path), inspection }
}

/// A model with a variant for each device that is resolved.
fn entry(cpu: Option<Resolved>, gpu: Option<Resolved>) -> Entry {
    let cpu_spec = json!({
        "containerConcurrency": 8, "maxReplicas": 3,
        "resources": {"requests": {"memory": "1Gi"}, "limits": {"cpu": "2500m"}},
    });
    let mut spec = json!({
        "storageUri": "digits.onnx", "objective": {"latency": "50ms"}, "timeout": "9s", "scaleToZeroAfter": "5s",
        "cost": {"cpu": 2}, "batching": {},
    });
    if cpu.is_some() {
        spec["cpu"] = cpu_spec;
    }
    if gpu.is_some() {
        spec["gpu"] = json!({});
    }
    let model: Model = serde_json::from_value(json!({
        "apiVersion": poolctl_api::API_VERSION, "kind": "Model", "spec": spec,
        "metadata": {
            "name": "digits", "namespace": "vision",
            "annotations": {"autoscaling.knative.dev/window": "30s"},
        },
    }))
    .unwrap();
    let definition = ModelDefinition::of(&model, "default").unwrap();
    let variants = definition.variants.iter().cloned().zip([cpu, gpu].into_iter().flatten());
    let variants = variants.map(|(definition, resolved)| Variant { definition, resolved }).collect();
    Entry { variants, definition }
}

fn pools(entry: &Entry) -> Vec<PoolSpec> {
    place(&[&entry.definition], &[], "default", None)
}

#[test]
fn a_model_becomes_a_route_and_a_revision() {
    let entry = entry(Some(loadable("/models/digits.onnx")), None);
    let route = entry.route(1);
    assert_eq!((route.namespace.as_str(), route.name.as_str(), route.generation), ("vision", "digits", 1));
    assert_eq!(route.timeout.as_secs(), 9);
    assert_eq!(route.metadata.as_ref().unwrap()["name"], "digits", "the model's name, not the file's");
    assert_eq!(route.unavailable, None);
    let [variant] = route.variants.as_slice() else { panic!("one variant") };
    assert_eq!(variant.revision, "vision/digits-cpu-00001");
    assert_eq!((variant.digest.as_str(), variant.cost, variant.concurrency), ("sha256:ab", 2.0, 8));

    let revisions = entry.revisions(1, &pools(&entry));
    let [revision] = revisions.as_slice() else { panic!("one revision") };
    assert_eq!(revision.key, RevisionKey::from("vision/digits-cpu-00001"));
    assert_eq!(&*revision.service, "digits-cpu");
    assert_eq!(&*revision.source.uri, "file:///models/digits.onnx");
    assert_eq!(revision.source.config, BTreeMap::from([("intraThreads".to_owned(), "3".to_owned())]));
    assert_eq!(revision.placement.pool.as_deref(), Some("default"));
    let needs = [("cpu", "2500m"), ("memory", "1Gi")];
    assert_eq!(revision.placement.resources, Resources::parse(needs).unwrap());
    assert_eq!((revision.container_concurrency, revision.max_replicas), (8, 3));
    assert_eq!(revision.scale_to_zero_after.as_secs(), 5);
    assert_eq!(revision.scaling.stable_window.as_secs(), 30);
    assert_eq!(revision.batching.map(|batching| batching.max_batch_size), Some(32));
}

#[test]
fn a_model_that_cannot_load_is_routed_to_an_answer_that_says_so() {
    let entry = entry(Some(Resolved::LoadFailed("no such operator".to_owned())), None);
    let unavailable = Unavailable { reason: "load-failed".to_owned(), message: "no such operator".to_owned() };
    assert_eq!(entry.route(1).unavailable, Some(unavailable));
    assert_eq!(entry.route(1).variants, []);
    assert_eq!(entry.revisions(1, &pools(&entry)), []);
    let conditions = entry.conditions(SystemTime::UNIX_EPOCH);
    let said: Vec<_> = conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect();
    assert_eq!(said, [("Ready", "False", "LoadFailed"), ("CpuReady", "False", "LoadFailed")]);
    assert_eq!(conditions[0].message, "no such operator");
}

#[test]
fn the_cpu_variant_serves_where_the_gpu_is_missing() {
    let missing = Resolved::DeviceUnavailable(GPU_MISSING.to_owned());
    let entry = entry(Some(loadable("/m.onnx")), Some(missing));
    assert_eq!(entry.route(1).unavailable, None);
    assert_eq!(entry.route(1).variants.len(), 1, "nothing is routed under the gpu's name");
    let revisions = entry.revisions(1, &pools(&entry));
    assert_eq!(revisions.len(), 2);
    assert_eq!(revisions[1].unavailable.as_deref(), Some(GPU_MISSING));
    assert_eq!(revisions[1].placement.pool, None, "the pool's replicas are cpu");
    let conditions = entry.conditions(SystemTime::UNIX_EPOCH);
    let said: Vec<_> = conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect();
    assert_eq!(
        said,
        [("Ready", "True", "Loadable"), ("CpuReady", "True", "Loadable"), ("GpuReady", "False", "DeviceUnavailable")]
    );
}

#[test]
fn a_source_that_cannot_be_loaded_says_more_than_a_missing_device() {
    let missing = || Resolved::DeviceUnavailable(GPU_MISSING.to_owned());
    let reason = |entry: Entry| entry.route(1).unavailable.map(|unavailable| unavailable.reason);
    assert_eq!(reason(entry(None, Some(missing()))).as_deref(), Some("device-unavailable"));
    let failed = Resolved::LoadFailed("broken".to_owned());
    assert_eq!(reason(entry(Some(failed), Some(missing()))).as_deref(), Some("load-failed"));
}

#[test]
fn devices_say_what_they_lack() {
    let devices = Devices(BTreeSet::from([Device::Cpu]));
    assert_eq!(devices.lacks(Device::Cpu), None);
    assert_eq!(devices.lacks(Device::Gpu).as_deref(), Some(GPU_MISSING));
}
