//! What is encoded is decoded as it was, in every wire format.

use crate::support::{model, request, response, tensors};
use bytes::Bytes;
use model_wrapper_protocol::{
    Limits,
    grpc::{self, ContentsForm, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{self, V1Layout},
    v2::{self, OutputForms},
};
use proptest::prelude::*;
use prost::Message as _;

/// A response's body made a request's body.
fn as_request(body: &v2::V2Body) -> (Bytes, usize) {
    let text = std::str::from_utf8(&body.json).expect("JSON is UTF-8").replacen(",\"outputs\":[", ",\"inputs\":[", 1);
    let length = text.len();
    let mut bytes = text.into_bytes();
    body.binary.iter().for_each(|part| bytes.extend_from_slice(part));
    (bytes.into(), length)
}

/// The forms that a request with these wishes gets; there is no other way to make them.
fn forms(all_binary: bool, json: &[String]) -> OutputForms {
    let outputs: Vec<_> =
        json.iter().map(|name| serde_json::json!({"name": name, "parameters": {"binary_data": false}})).collect();
    let body = serde_json::json!({"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": all_binary}});
    v2::decode(&Bytes::from(body.to_string()), None, &Limits::default()).expect("a good request").forms
}

proptest! {
    #[test]
    fn v2_json(tensors in tensors(true, 0..4, 0..4)) {
        let model = model(&tensors, &tensors);
        let body = v2::encode(&response(tensors.clone()), &model, Some("i"), &forms(false, &[])).unwrap();
        prop_assert!(body.binary.is_empty());
        let (body, _) = as_request(&body);
        let decoded = v2::decode(&body, None, &Limits::default()).unwrap();
        prop_assert_eq!(&decoded.request.inputs, &tensors);
        prop_assert_eq!(decoded.request.id.as_deref(), Some("i"));
        prop_assert_eq!(decoded.request.check(&model), Ok(()));
    }

    #[test]
    fn v2_binary(tensors in tensors(false, 0..4, 0..4)) {
        let model = model(&tensors, &tensors);
        let body = v2::encode(&response(tensors.clone()), &model, None, &forms(true, &[])).unwrap();
        prop_assert_eq!(body.binary.len(), tensors.len());
        let (body, length) = as_request(&body);
        prop_assert_eq!(v2::decode(&body, Some(length), &Limits::default()).unwrap().request.inputs, tensors);
    }

    #[test]
    fn v2_json_and_binary_in_one_body(tensors in tensors(true, 0..4, 0..4)) {
        let model = model(&tensors, &tensors);
        let first = [tensors[0].name.clone()];
        let body = v2::encode(&response(tensors.clone()), &model, None, &forms(true, &first)).unwrap();
        prop_assert_eq!(body.binary.len(), tensors.len() - 1);
        let (body, length) = as_request(&body);
        prop_assert_eq!(v2::decode(&body, Some(length), &Limits::default()).unwrap().request.inputs, tensors);
    }

    #[test]
    fn v1_by_column(tensors in tensors(true, 1..4, 1..4)) {
        let model = model(&tensors, &tensors);
        let body = v1::encode(&response(tensors.clone()), V1Layout::Columns).unwrap();
        let body = std::str::from_utf8(&body).unwrap().replacen("predictions", "inputs", 1);
        let decoded = v1::decode(body.as_bytes(), &model, &Limits::default()).unwrap();
        prop_assert_eq!(decoded.layout, V1Layout::Columns);
        prop_assert_eq!(decoded.request.inputs, tensors);
    }

    #[test]
    fn v1_by_row(mut tensors in tensors(true, 1..4, 2..3)) {
        for (index, tensor) in tensors.iter_mut().enumerate() {
            // Different ranks, one number of rows.
            if index > 0 && tensor.shape.len() == 1 {
                tensor.shape.push(1);
            }
        }
        let model = model(&tensors, &tensors);
        let body = v1::encode(&response(tensors.clone()), V1Layout::Rows(2)).unwrap();
        let body = std::str::from_utf8(&body).unwrap().replacen("predictions", "instances", 1);
        let decoded = v1::decode(body.as_bytes(), &model, &Limits::default()).unwrap();
        prop_assert_eq!(decoded.layout, V1Layout::Rows(2));
        prop_assert_eq!(decoded.request.inputs, tensors);
    }

    #[test]
    fn grpc_raw_and_typed(tensors in tensors(false, 0..4, 0..4), typed in any::<bool>()) {
        let model = model(&tensors, &tensors);
        let form = if typed { ContentsForm::Typed } else { ContentsForm::Raw };
        let answer = grpc::encode(&response(tensors.clone()), &model, Some("i".into()), form).unwrap();
        let inputs = answer.outputs.into_iter().map(|output| InferInputTensor {
            name: output.name,
            datatype: output.datatype,
            shape: output.shape,
            parameters: Default::default(),
            contents: output.contents,
        });
        let message = ModelInferRequest {
            model_name: "m".into(),
            id: answer.id,
            inputs: inputs.collect(),
            raw_input_contents: answer.raw_output_contents,
            ..Default::default()
        };
        let message = ModelInferRequest::decode(Bytes::from(message.encode_to_vec())).unwrap();
        let decoded = grpc::decode(message, &Limits::default()).unwrap();
        let typeless = |tensor: &model_wrapper_protocol::Tensor| ["FP16", "BF16"].contains(&tensor.datatype.name());
        prop_assert_eq!(decoded.form, if tensors.iter().any(typeless) { ContentsForm::Raw } else { form });
        prop_assert_eq!(decoded.request.inputs, tensors);
    }
}

#[test]
fn binary_tensors_are_views_of_the_body() {
    let json = r#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let body = Bytes::from([json.as_bytes(), &1_f32.to_le_bytes(), &2_f32.to_le_bytes()].concat());
    let decoded = v2::decode(&body, Some(json.len()), &Limits::default()).unwrap();
    let model_wrapper_protocol::TensorData::Fixed(data) = &decoded.request.inputs[0].data else { panic!("not fixed") };
    assert_eq!(data.as_ptr(), body[json.len()..].as_ptr());
}

#[test]
fn doubles_keep_their_last_bit() {
    let exact = [f64::MIN_POSITIVE, f64::MAX, 0.1 + 0.2, 5e-324, 123_456_789.123_456_79, -0.0];
    let body =
        serde_json::json!({"inputs": [{"name": "x", "shape": [6], "datatype": "FP64", "data": exact}]}).to_string();
    let decoded = v2::decode(&Bytes::from(body), None, &Limits::default()).unwrap();
    let expected: Vec<u8> = exact.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(
        decoded.request,
        request(vec![
            model_wrapper_protocol::Tensor::fixed(
                "x",
                model_wrapper_protocol::DataType::Fp64,
                vec![6],
                expected.into()
            )
            .unwrap()
        ])
    );
}

/// Halfway between two neighbours of FP16, and a little to either side of it.
#[test]
fn halves_are_rounded_once() {
    let tie = 1.0 + 2_f64.powi(-11);
    let little = 2_f64.powi(-40);
    for (number, expected) in [
        (tie - little, 1.0),
        (tie, 1.0),
        (tie + little, 1.0 + 2_f32.powi(-10)),
        (-tie - little, -1.0 - 2_f32.powi(-10)),
        (65520.0 - 2_f64.powi(-30), 65504.0),
        (2_f64.powi(-25) + little, 2_f32.powi(-24)),
        (2_f64.powi(-1000), 0.0),
    ] {
        let body = serde_json::json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP16", "data": [number]}]});
        let decoded = v2::decode(&Bytes::from(body.to_string()), None, &Limits::default()).unwrap();
        let model_wrapper_protocol::TensorData::Fixed(data) = &decoded.request.inputs[0].data else {
            panic!("not fixed")
        };
        assert_eq!(half::f16::from_le_bytes([data[0], data[1]]).to_f32(), expected, "{number:e}");
    }
}
