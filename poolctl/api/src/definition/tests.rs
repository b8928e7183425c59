use std::time::Duration;

use kube::CustomResourceExt;
use serde_json::json;

use super::*;

fn model(spec: &serde_json::Value) -> Model {
    serde_json::from_value(json!({
        "apiVersion": crate::API_VERSION, "kind": "Model", "metadata": {"name": "digits"}, "spec": spec,
    }))
    .expect("the wire type is lenient")
}

fn problems(spec: &serde_json::Value) -> Vec<String> {
    let errors = ModelDefinition::of(&model(spec), "default").expect_err("a rule is broken");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn everything_that_is_written_arrives() {
    let spec = json!({
        "modelFormat": "onnx",
        "storageUri": "digits.onnx",
        "sha256": "AB".repeat(32),
        "cpu": {
            "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"cpu": 2, "memory": "512Mi"}},
            "containerConcurrency": 8, "minReplicas": 1, "maxReplicas": 20,
        },
        "gpu": {"fraction": "0.3", "memory": "2Gi", "maxReplicas": 2, "storageUri": "fp16.onnx"},
        "objective": {"latency": "50ms"},
        "timeout": "1m30s",
        "cost": {"cpu": 2, "gpu": 20.5},
        "batching": {"maxBatchSize": 16, "maxLatency": "5ms"},
        "scaleToZeroAfter": "0s",
        "warmPool": "big",
    });
    let definition = ModelDefinition::of(&model(&spec), "vision").expect("every rule is kept");
    assert_eq!((definition.namespace.as_str(), definition.name.as_str()), ("vision", "digits"));
    assert_eq!(definition.timeout, Duration::from_secs(90));
    assert_eq!(definition.objective, Some(Duration::from_millis(50)));
    assert_eq!(definition.scale_to_zero_after, Duration::ZERO);
    assert_eq!(definition.warm_pool, "big");
    let batching = Batching { max_batch_size: 16, max_latency: Duration::from_millis(5) };
    assert_eq!(definition.batching, Some(batching));

    let cpu = definition.variant(Device::Cpu).expect("written");
    assert_eq!((cpu.concurrency, cpu.min_replicas, cpu.max_replicas, cpu.threads), (8, 1, 20, Some(2)));
    assert_eq!(cpu.requests["cpu"].to_string(), "500m");
    assert_eq!(cpu.sha256.as_deref(), Some("ab".repeat(32).as_str()));
    assert_eq!((cpu.cost, cpu.gpu), (2.0, None));
    let gpu = definition.variant(Device::Gpu).expect("written");
    assert_eq!((gpu.storage_uri.as_str(), gpu.sha256.as_deref()), ("fp16.onnx", None));
    assert_eq!(gpu.gpu.expect("a share").milli, 300);
    assert_eq!(gpu.gpu.and_then(|share| share.memory), Some(Amount::units(1 << 31)));
    assert_eq!((gpu.cost, gpu.concurrency, gpu.max_replicas), (20.5, defaults::CONTAINER_CONCURRENCY, 2));
}

#[test]
fn the_rest_takes_defaults() {
    let definition = ModelDefinition::of(&model(&json!({"storageUri": "digits.onnx", "cpu": {}})), "default");
    let definition = definition.expect("every rule is kept");
    assert_eq!(definition.timeout, defaults::TIMEOUT);
    assert_eq!(definition.objective, None);
    assert_eq!(definition.scale_to_zero_after, defaults::SCALE_TO_ZERO_AFTER);
    assert_eq!(definition.warm_pool, "default");
    let cpu = &definition.variants[0];
    assert_eq!(cpu.format, ModelFormat::Onnx);
    assert_eq!((cpu.min_replicas, cpu.max_replicas, cpu.threads), (0, defaults::MAX_REPLICAS, None));
    assert_eq!(cpu.cost, Device::Cpu.default_cost());
}

#[test]
fn a_limit_is_the_request_where_there_is_none() {
    let spec = json!({"storageUri": "a.onnx", "cpu": {"resources": {"limits": {"cpu": "1500m"}}}});
    let definition = ModelDefinition::of(&model(&spec), "default").expect("every rule is kept");
    assert_eq!(definition.variants[0].requests["cpu"].to_string(), "1500m");
    assert_eq!(definition.variants[0].threads, Some(2));
}

#[test]
fn broken_rules_are_named() {
    for (spec, expected) in [
        (json!({"storageUri": "a.onnx"}), "spec: at least one variant is required: cpu, gpu or both"),
        (json!({"cpu": {}}), "spec: storageUri is required, here or in every variant"),
        (
            json!({"storageUri": "model.bin", "cpu": {}, "gpu": {}}),
            "spec.modelFormat: required, as the ending of storageUri \"model.bin\" does not tell the format: one of \
             onnx, torchscript, python",
        ),
        (
            json!({"storageUri": "a", "modelFormat": "tensorflow", "cpu": {}}),
            "spec.modelFormat: expected one of onnx, torchscript, python, got \"tensorflow\"",
        ),
        (
            json!({"storageUri": "a.onnx", "sha256": "abc", "cpu": {}}),
            "spec.sha256: expected 64 hexadecimal digits, got \"abc\"",
        ),
        (
            json!({"storageUri": "a.onnx", "cpu": {"minReplicas": 3, "maxReplicas": 2}}),
            "spec.cpu: minReplicas must not be above maxReplicas",
        ),
        (
            json!({"storageUri": "a.onnx", "cpu": {"containerConcurrency": 0}}),
            "spec.cpu.containerConcurrency: expected 1 to 1000, got 0",
        ),
        (json!({"storageUri": "a.onnx", "cpu": {}, "timeout": "0s"}), "spec.timeout: expected a duration above zero"),
        (
            json!({"storageUri": "a.onnx", "cpu": {}, "scaleToZeroAfter": "soon"}),
            "spec.scaleToZeroAfter: expected a duration such as 50ms, 30s or 1m30s, got \"soon\"",
        ),
        (
            json!({"storageUri": "a.onnx", "gpu": {"fraction": "1.5"}}),
            "spec.gpu.fraction: expected a part of one GPU above 0 and up to 1, such as \"0.3\", got \"1.5\"",
        ),
        (
            json!({"storageUri": "a.onnx", "gpu": {"fraction": "300m"}}),
            "spec.gpu.fraction: expected a part of one GPU above 0 and up to 1, such as \"0.3\", got \"300m\"",
        ),
        (
            json!({"storageUri": "a.onnx", "cpu": {}, "cost": {"cpu": -1}}),
            "spec.cost.cpu: expected 0 to 1000000, got -1",
        ),
        (
            json!({"storageUri": "a.onnx", "cpu": {"resources": {"requests": {"nvidia.com/gpu": "x"}}}}),
            "spec.cpu.resources.requests[\"nvidia.com/gpu\"]: expected a quantity such as 500m, 2, 512Mi or 1G, got \"x\"",
        ),
        (
            json!({"storageUri": "a.onnx", "cpu": {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}}}),
            "spec.cpu.resources.requests.cpu: expected at most the limit 500m, got 2",
        ),
    ] {
        assert_eq!(problems(&spec), [expected]);
    }
}

#[test]
fn names_fit_into_labels() {
    for (name, expected) in [
        (
            "Digits",
            "metadata.name: expected lower-case letters, digits and '-', beginning and ending with a letter or digit, got \"Digits\"",
        ),
        (
            "-a",
            "metadata.name: expected lower-case letters, digits and '-', beginning and ending with a letter or digit, got \"-a\"",
        ),
        (&"a".repeat(54), "metadata.name: expected at most 53 characters, got 54"),
    ] {
        let mut model = model(&json!({"storageUri": "a.onnx", "cpu": {}}));
        model.metadata.name = Some(name.to_owned());
        let errors = ModelDefinition::of(&model, "default").expect_err("not a label");
        assert_eq!(errors[0].to_string(), expected);
    }
}

#[test]
fn pools_have_bounds() {
    let pool = |spec| {
        let pool: WarmPool = serde_json::from_value(json!({
            "apiVersion": crate::API_VERSION, "kind": "WarmPool", "metadata": {"name": "big"}, "spec": spec,
        }))
        .expect("the wire type is lenient");
        PoolDefinition::of(&pool)
    };
    let defaults = pool(json!({})).expect("every rule is kept");
    assert_eq!((defaults.min_size, defaults.max_size, defaults.device), (1, defaults::MAX_POOL_SIZE, Device::Cpu));
    assert_eq!(pool(json!({"minSize": 20})).expect("every rule is kept").max_size, 20);
    let errors = pool(json!({"minSize": 3, "maxSize": 2})).expect_err("bounds");
    assert_eq!(errors[0].to_string(), "spec: minSize must not be above maxSize");
    let errors = pool(json!({"device": "tpu"})).expect_err("no such device");
    assert_eq!(errors[0].to_string(), "spec.device: unknown device \"tpu\": expected cpu or gpu");
}

#[test]
fn the_crds_state_the_same_rules_in_the_same_words() {
    let models = serde_json::to_string(&Model::crd()).expect("JSON");
    for message in [checks::NO_VARIANT, checks::NO_STORAGE_URI, checks::REPLICA_BOUNDS, checks::ABOVE_ZERO] {
        assert!(models.contains(&format!("\"message\":\"{message}\"")), "{message}");
    }
    assert!(models.contains(&format!("size(self.metadata.name) <= {}", checks::MAX_MODEL_NAME)));
    let pools = serde_json::to_string(&WarmPool::crd()).expect("JSON");
    assert!(pools.contains(&format!("\"message\":\"{}\"", checks::POOL_BOUNDS)));
}

#[test]
fn a_watch_survives_what_a_file_may_not_say() {
    let odd = model(&json!({
        "storageUri": "a.onnx", "modelFormat": "of-next-year", "cpu": {"newField": 1}, "timeout": "soon", "future": [1],
    }));
    assert!(ModelDefinition::of(&odd, "default").is_err());
}
