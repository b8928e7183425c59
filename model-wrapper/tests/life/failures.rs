//! Runs that fail inside the model, on inputs that fit its metadata.

use model_wrapper_protocol::grpc::{
    ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
};
use serde_json::{Value, json};

use crate::wrapper::Wrapper;

/// A request to `demanding.onnx` for the product of matrices, some rows of the first and the first in another shape.
fn request(second: [i64; 2], row: i64, shape: [i64; 2]) -> Value {
    json!({"inputs": [
        {"name": "a", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]},
        {"name": "b", "datatype": "FP32", "shape": second, "data": vec![1; (second[0] * second[1]) as usize]},
        {"name": "rows", "datatype": "INT64", "shape": [1], "data": [row]},
        {"name": "shape", "datatype": "INT64", "shape": [2], "data": shape},
    ]})
}

#[tokio::test]
async fn a_run_that_fails_names_the_operator_and_is_no_defect_of_the_server() {
    let wrapper = Wrapper::serving("demanding.onnx", &[]);
    for (case, status, reason, words) in [
        (request([3, 1], 1, [3, 2]), 200, "", ""),
        (request([4, 1], 1, [3, 2]), 500, "run-failed", "MatMul 'multiply': "),
        (request([3, 1], 1, [4, 2]), 500, "run-failed", "Reshape 'fold': "),
        (request([3, 1], 7, [3, 2]), 400, "bad-request", "Gather 'pick': "),
        (request([3, 1], 0, [6, 1]), 200, "", ""),
    ] {
        let answer = wrapper.infer("demanding", &case, &[]).await;
        assert_eq!(answer.status, status, "{case}: {:?}", answer.body);
        assert_eq!(answer.headers.get("kferving-reason").map_or("", |reason| reason.to_str().unwrap()), reason);
        let error = answer.body["error"].as_str().unwrap_or_default();
        assert!(error.contains(words) && !error.contains("onnxruntime_src"), "{error}");
    }
    assert_eq!(wrapper.metric(r#"kferving_wrapper_requests_total{outcome="run-failed",protocol="v2"}"#).await, 2.0);
    assert_eq!(wrapper.metric(r#"kferving_wrapper_requests_total{outcome="bad-request",protocol="v2"}"#).await, 1.0);
}

#[tokio::test]
async fn over_grpc_it_has_the_same_reason() {
    let wrapper = Wrapper::serving("demanding.onnx", &[]);
    let mut client = GrpcInferenceServiceClient::connect(format!("http://{}", wrapper.traffic)).await.unwrap();
    let input = |name: &str, datatype: &str, shape: &[i64], bytes: &[u8]| {
        let (name, datatype, shape) = (name.to_owned(), datatype.to_owned(), shape.to_vec());
        (InferInputTensor { name, datatype, shape, ..Default::default() }, bytes.to_vec().into())
    };
    let (inputs, raw_input_contents) = [
        input("a", "FP32", &[2, 3], &[0; 24]),
        input("b", "FP32", &[4, 1], &[0; 16]),
        input("rows", "INT64", &[0], &[]),
        input("shape", "INT64", &[2], &[3u64.to_le_bytes(), 2u64.to_le_bytes()].concat()),
    ]
    .into_iter()
    .unzip();
    let message =
        ModelInferRequest { model_name: "demanding".into(), inputs, raw_input_contents, ..Default::default() };
    let status = client.model_infer(message).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal, "{status:?}");
    assert_eq!(status.metadata().get("kferving-reason").unwrap(), "run-failed");
    assert!(status.message().contains("MatMul 'multiply'"), "{status:?}");
}
