use model_wrapper_admin::ModelSource;

use super::*;

fn request() -> SpecializeRequest {
    SpecializeRequest {
        claim_id: "c".into(),
        pod_uid: "u".into(),
        revision: "ns/r".into(),
        digest: format!("sha256:{}", "0".repeat(64)),
        model: ModelSource {
            uri: "file:///models/m.onnx".into(),
            format: "onnx".into(),
            name: "m".into(),
            config: BTreeMap::new(),
        },
        container_concurrency: 0,
        timeout_ms: 60_000,
        limits: BTreeMap::new(),
    }
}

fn refusal(change: impl FnOnce(&mut SpecializeRequest)) -> String {
    let mut changed = request();
    change(&mut changed);
    ModelSpec::of_request(&changed).unwrap_err().to_string()
}

fn limit(name: &'static str, value: u64) -> impl FnOnce(&mut SpecializeRequest) {
    move |request| {
        request.limits.insert(name.into(), value);
    }
}

#[test]
fn every_field_is_used() {
    let mut all = request();
    all.container_concurrency = 3;
    all.timeout_ms = 1500;
    all.model.config.insert("graphOptimization".into(), "basic".into());
    for (name, value) in
        [("maxBodyBytes", 10), ("maxBatchSize", 8), ("maxBatchLatencyUs", 500), ("queueLength", 7), ("intraThreads", 2)]
    {
        all.limits.insert(name.into(), value);
    }
    let spec = ModelSpec::of_request(&all).unwrap();
    assert_eq!(spec.path, PathBuf::from("/models/m.onnx"));
    assert_eq!((spec.concurrency, spec.timeout), (Some(3), Duration::from_millis(1500)));
    assert_eq!((spec.max_body, spec.queue_length, spec.intra_threads), (10, 7, 2));
    assert_eq!(spec.batching, Some(Batching { max_rows: 8, window: Duration::from_micros(500) }));
    assert_eq!(spec.optimization, Optimization::Basic);
    assert_eq!(spec.digest, Some(all.digest));
}

#[test]
fn without_limits_there_are_defaults() {
    let spec = ModelSpec::of_request(&request()).unwrap();
    assert_eq!((spec.concurrency, spec.batching), (None, None));
    assert_eq!((spec.max_body, spec.queue_length), (Limits::default().max_body, DEFAULT_QUEUE_LENGTH));
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    assert!(refusal(|r| r.model.uri = "s3://b/m.onnx".into()).contains("supported are file://"));
    assert!(refusal(|r| r.model.format = "torchscript".into()).contains("'torchscript'"));
    assert!(refusal(|r| r.model.name = String::new()).contains("name"));
    assert!(refusal(|r| r.model.name = "a/b".into()).contains("'a/b'"));
    assert!(refusal(|r| r.timeout_ms = 0).contains("timeoutMs"));
    assert!(refusal(|r| r.digest = "sha256:abc".into()).contains("'sha256:abc'"));
    assert!(refusal(|r| r.digest = format!("sha256:{}", "A".repeat(64))).contains("lower-case"));
    assert!(refusal(limit("maxSize", 1)).contains("'maxSize'"));
    assert!(refusal(limit("maxBatchSize", 0)).contains("maxBatchSize must be above 0"));
    assert!(refusal(limit("intraThreads", 10_000)).contains("at most 256"));
    assert!(refusal(limit("maxBatchLatencyUs", u64::MAX)).contains("longer than"));
    assert!(refusal(|r| drop(r.model.config.insert("threads".into(), "1".into()))).contains("'threads'"));
    let wrong = |r: &mut SpecializeRequest| drop(r.model.config.insert("graphOptimization".into(), "max".into()));
    assert!(refusal(wrong).contains("'max'"));
}
