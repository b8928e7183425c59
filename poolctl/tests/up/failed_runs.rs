//! A model whose runs fail on some inputs that fit its metadata.

use std::fs;

use serde_json::{Value, json};

use crate::stack::{Models, Stack, request};
use crate::tree::repository;

/// A request for the product of two matrices, the second of so many rows; it needs three.
fn product(rows: usize) -> Value {
    json!({"inputs": [
        {"name": "a", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]},
        {"name": "b", "datatype": "FP32", "shape": [rows, 1], "data": vec![1; rows]},
        {"name": "rows", "datatype": "INT64", "shape": [1], "data": [0]},
        {"name": "shape", "datatype": "INT64", "shape": [2], "data": [3, 1]},
    ]})
}

#[test]
fn one_callers_bad_inputs_take_no_replica_from_the_others() {
    let models = Models::new();
    let file = repository().join("model-wrapper/onnx/tests/fixtures/demanding.onnx");
    fs::copy(file, models.path().join("demanding.onnx")).unwrap();
    models.write(
        "demanding.yaml",
        "apiVersion: kferving.dev/v1alpha1\nkind: Model\nmetadata: {name: demanding}\nspec:\n  \
         storageUri: demanding.onnx\n  cpu: {minReplicas: 2, maxReplicas: 2}\n",
    );
    let stack = Stack::start(&models, &["--pool", "2"]);
    let infer = |rows| stack.post("/v2/models/demanding/infer", &[], &product(rows));
    for _ in 0..2 {
        for _ in 0..20 {
            let bad = infer(4);
            assert_eq!((bad.status, bad.header("kferving-reason")), (500, Some("run-failed")), "{}", bad.body);
            assert!(bad.body["error"].as_str().unwrap().contains("MatMul 'multiply'"), "{}", bad.body);
        }
        assert_eq!(infer(3).body["outputs"][0]["data"], json!([6.0]));
    }
    let metrics = request(stack.admin, "GET", "/metrics", &[], "").body;
    let ejected = |line: &&str| line.starts_with("kferving_gateway_ejections_total{") && !line.ends_with(" 0");
    assert_eq!(metrics.as_str().unwrap().lines().find(ejected), None);
}
