//! Bodies that nobody would send in good faith: no panic, whatever they are.

use bytes::Bytes;
use model_wrapper_protocol::{
    DataType, InferError, Limits, ModelMetadata, Tensor, TensorMetadata,
    grpc::{self, InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{self, V1Layout},
    v2,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use prost::Message as _;

use crate::support::response;

const V2: &str = r#"{"id":"i","parameters":{"binary_data_output":true},"inputs":[{"name":"a","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[-3e1,4]]},{"name":"b","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}}],"outputs":[{"name":"o","parameters":{"binary_data":false}}]}"#;
const V1: &str =
    r#"{"signature_name":"s","instances":[{"a":[1,2.5],"b":"t\"\u00e9"},{"a":[-3e1,4],"b":{"b64":"AAE="}}]}"#;
const STRINGS: &[u8] = &[1, 0, 0, 0, b'a', 1, 0, 0, 0, b'b'];

/// One change of a body: where, what, how.
fn mutated(body: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    const TOKENS: [&[u8]; 16] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b"\\",
        b",",
        b":",
        b"-",
        b"1e999",
        b"99999999999999999999",
        b"null",
        b"\xff",
        b"{\"b64\":\"",
        b"[[",
        b"0",
    ];
    let token = proptest::sample::select(&TOKENS[..]);
    vec((any::<Index>(), token, 0..3_u8), 1..6).prop_map(move |changes| {
        let mut body = body.clone();
        for (at, token, how) in changes {
            let at = at.index(body.len() + 1).min(body.len());
            match how {
                0 => drop(body.splice(at..at, token.iter().copied())),
                1 => drop(body.splice(at..(at + token.len()).min(body.len()), token.iter().copied())),
                _ => body.truncate(at),
            }
            if body.is_empty() {
                body.push(b'{');
            }
        }
        body
    })
}

fn model() -> ModelMetadata {
    let tensor = |name: &str, datatype, rank| TensorMetadata { name: name.into(), datatype, shape: vec![-1; rank] };
    ModelMetadata {
        name: "m".into(),
        versions: vec!["1".into()],
        platform: "fake_platform".into(),
        inputs: vec![tensor("a", DataType::Fp32, 2), tensor("b", DataType::Bytes, 1)],
        outputs: vec![tensor("o", DataType::Fp32, 2)],
        optional_inputs: Vec::new(),
        properties: Vec::new(),
    }
}

fn message() -> ModelInferRequest {
    let tensor = |name: &str, datatype: DataType, shape: &[i64], contents| InferInputTensor {
        name: name.into(),
        datatype: datatype.name().into(),
        shape: shape.to_vec(),
        parameters: Default::default(),
        contents: Some(contents),
    };
    let a = InferTensorContents { fp32_contents: vec![1.0, 2.0, 3.0, 4.0], ..Default::default() };
    let b = InferTensorContents { bytes_contents: vec![Bytes::from_static(b"a"), Bytes::new()], ..Default::default() };
    ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![tensor("a", DataType::Fp32, &[2, 2], a), tensor("b", DataType::Bytes, &[2], b)],
        ..Default::default()
    }
}

#[test]
fn the_bodies_are_good_before_they_are_changed() {
    let body = Bytes::from([V2.as_bytes(), STRINGS].concat());
    let decoded = v2::decode(&body, Some(V2.len()), &Limits::default()).unwrap();
    assert_eq!(decoded.request.check(&model()), Ok(()));
    assert!(v1::decode(V1.as_bytes(), &model(), &Limits::default()).is_ok());
    assert!(grpc::decode(message(), &Limits::default()).unwrap().request.check(&model()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn v2_never_panics(body in mutated([V2.as_bytes(), STRINGS].concat()), length in 0..400_usize) {
        let body = Bytes::from(body);
        for length in [None, Some(length), Some(V2.len())] {
            if let Ok(decoded) = v2::decode(&body, length, &Limits::default()) {
                let _ = decoded.request.check(&model());
            }
        }
    }

    #[test]
    fn v1_never_panics(body in mutated(V1.into())) {
        if let Ok(decoded) = v1::decode(&body, &model(), &Limits::default()) {
            prop_assert!(decoded.layout == v1::V1Layout::Rows(0) || decoded.request.check(&model()).is_ok());
        }
    }

    #[test]
    fn grpc_never_panics(body in mutated(message().encode_to_vec())) {
        if let Ok(message) = grpc::read::<ModelInferRequest>(Bytes::from(body))
            && let Ok(decoded) = grpc::decode(message, &Limits::default())
        {
            let _ = decoded.request.check(&model());
        }
    }
}

#[test]
fn the_shape_of_an_output_without_elements_does_not_make_text() {
    let encoded = |shape: &[usize], layout| {
        let empty = |name: &str| Tensor::fixed(name, DataType::Fp32, shape.to_vec(), Bytes::new()).unwrap();
        let outputs = vec![empty("y"), empty("z")];
        v1::encode(&response(outputs[..1].to_vec()), layout).and_then(|_| v1::encode(&response(outputs), layout))
    };
    for shape in
        [[usize::MAX >> 1, 0, 1].as_slice(), &[1 << 11, 1 << 11, 0], &[3, usize::MAX >> 4, 0], &[1 << 19, 1, 1, 1, 0]]
    {
        for layout in [V1Layout::Columns, V1Layout::Rows(3)] {
            let error = encoded(shape, layout).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, InferError::BadRequest(_)) && text.contains("lists of nothing"), "{text}");
        }
    }
    assert_eq!(encoded(&[2, 0, 7], V1Layout::Columns).unwrap(), r#"{"predictions":{"y":[[],[]],"z":[[],[]]}}"#);
    assert_eq!(encoded(&[0, usize::MAX], V1Layout::Columns).unwrap(), r#"{"predictions":{"y":[],"z":[]}}"#);
}
