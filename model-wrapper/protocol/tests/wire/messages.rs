//! The words of errors: each names the tensor, what was expected and what came.

use crate::support::response;
use bytes::Bytes;
use model_wrapper_protocol::{
    DataType, InferError, Limits, ModelMetadata, Tensor, TensorMetadata,
    grpc::{self, InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{self, V1Layout},
    v2::{self, OutputForms},
};

fn input(name: &str, datatype: DataType, shape: &[i64]) -> TensorMetadata {
    TensorMetadata { name: name.into(), datatype, shape: shape.to_vec() }
}

fn digits() -> ModelMetadata {
    ModelMetadata {
        name: "digits".into(),
        versions: vec!["1".into()],
        platform: "fake_platform".into(),
        inputs: vec![input("x", DataType::Fp32, &[-1, 2])],
        outputs: vec![input("label", DataType::Int64, &[-1]), input("scores", DataType::Fp32, &[-1, 10])],
        optional_inputs: Vec::new(),
        properties: Vec::new(),
    }
}

fn two_inputs() -> ModelMetadata {
    ModelMetadata { inputs: vec![input("a", DataType::Fp32, &[-1]), input("b", DataType::Bytes, &[-1])], ..digits() }
}

/// The error of a V2 body.
fn v2_error(body: &str) -> String {
    let decoded = v2::decode(&Bytes::copy_from_slice(body.as_bytes()), None, &Limits::default());
    decoded
        .and_then(|decoded| decoded.request.check(&digits()))
        .map_or_else(|error| error.to_string(), |()| "accepted".into())
}

/// The error of a V2 body with this one input.
fn v2_input(input: &str) -> String {
    v2_error(&format!("{{\"inputs\":[{input}]}}"))
}

fn v1_error(body: &str, model: &ModelMetadata) -> String {
    v1::decode(body.as_bytes(), model, &Limits::default()).map_or_else(|error| error.to_string(), |_| "accepted".into())
}

#[track_caller]
fn golden(cases: &[(&str, String)]) {
    let wrong = cases.iter().filter(|(expected, got)| expected != got);
    let wrong: Vec<_> = wrong.map(|(expected, got)| format!("expected: {expected}\n     got: {got}")).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn arrays_are_no_bodies() {
    golden(&[
        (
            "the body is not a V1 prediction request: expected a JSON object, got an array",
            v1_error("[[[1,2]],null]", &digits()),
        ),
        (
            "the body is not a V2 inference request: expected a JSON object, got an array",
            v2_error(" [null,null,[],null]"),
        ),
    ]);
}

#[test]
fn v2_elements() {
    golden(&[
        (
            "input 'x', element 1: expected an integer in the range of UINT8, got 256",
            v2_input(r#"{"name":"x","shape":[1,2],"datatype":"UINT8","data":[[1,256]]}"#),
        ),
        (
            "input 'x', element 0: expected an integer in the range of UINT8, got -1",
            v2_input(r#"{"name":"x","shape":[1,2],"datatype":"UINT8","data":[-1,0]}"#),
        ),
        (
            "input 'x', element 0: expected an integer in the range of INT32, got 1.5",
            v2_input(r#"{"name":"x","shape":[2],"datatype":"INT32","data":[1.5,2]}"#),
        ),
        (
            "input 'x', element 1: expected a number in the range of FP32, got 1e39",
            v2_input(r#"{"name":"x","shape":[2],"datatype":"FP32","data":[1,1e39]}"#),
        ),
        (
            "input 'x', element 0: expected a number in the range of FP16, got 70000",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"FP16","data":[70000]}"#),
        ),
        (
            "input 'x', element 1: expected a number in the range of FP64, got null",
            v2_input(r#"{"name":"x","shape":[2],"datatype":"FP64","data":[1,null]}"#),
        ),
        (
            "input 'x', element 0: expected a number in the range of FP32, got \"1\"",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"FP32","data":["1"]}"#),
        ),
        (
            "input 'x', element 0: expected a BOOL (true or false), got 2",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"BOOL","data":[2]}"#),
        ),
        (
            "input 'x', element 1: expected a string for BYTES, got 7",
            v2_input(r#"{"name":"x","shape":[2],"datatype":"BYTES","data":["a",7]}"#),
        ),
        (
            "input 'x', element 0: expected a string for BYTES, got {\"b64\":\"%%\"}",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"BYTES","data":[{"b64":"%%"}]}"#),
        ),
        (
            "input 'x': expected binary data: BF16 has no JSON form, got JSON data",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"BF16","data":[1]}"#),
        ),
    ]);
}

#[test]
fn v2_shapes() {
    golden(&[
        (
            "input 'x': expected shape [-1, 2] (-1 is any), got [1, 3]",
            v2_input(r#"{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}"#),
        ),
        (
            "input 'x': expected shape [-1, 2] (-1 is any), got [2]",
            v2_input(r#"{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}"#),
        ),
        (
            "input 'x': expected 4 elements for shape [2, 2], got 3",
            v2_input(r#"{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,3]}"#),
        ),
        (
            "input 'x': expected 2 elements, as its shape says, got more",
            v2_input(r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2,3]}"#),
        ),
        (
            "input 'x': expected rows of equal length, got another length before element 3",
            v2_input(r#"{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2],[3],[4]]}"#),
        ),
        (
            "input 'x': expected rows of equal length, got another length before element 1",
            v2_input(r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,[2]]}"#),
        ),
        (
            "input 'x': expected a shape of integers from 0 to 9223372036854775807, got -1 at 0",
            v2_input(r#"{"name":"x","shape":[-1,2],"datatype":"FP32","data":[1,2]}"#),
        ),
        (
            "input 'x': expected a shape of integers from 0 to 9223372036854775807, got 9223372036854775808 at 0",
            v2_input(r#"{"name":"x","shape":[9223372036854775808],"datatype":"FP32","data":[1,2]}"#),
        ),
        (
            "tensor 'x': expected a shape of at most 18446744073709551615 bytes, got [4294967296, 4294967296]",
            v2_input(r#"{"name":"x","shape":[4294967296,4294967296],"datatype":"FP32","data":[1,2]}"#),
        ),
        (
            "input 'x': expected at most 64 dimensions, got more",
            v2_input(&format!(r#"{{"name":"x","shape":[{}1],"datatype":"FP32","data":[1]}}"#, "1,".repeat(1_000_000))),
        ),
        (
            "input 'x': expected at most 64 dimensions, got more",
            v2_input(&format!(
                r#"{{"name":"x","shape":[1],"datatype":"FP32","data":{}1{}}}"#,
                "[".repeat(10_000),
                "]".repeat(10_000)
            )),
        ),
        ("input 'x': expected an array, got 1", v2_input(r#"{"name":"x","shape":[1],"datatype":"FP32","data":1}"#)),
    ]);
}

#[test]
fn v2_requests() {
    let deep = format!(r#"{{"inputs":[],"ignored":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    golden(&[
        ("missing input 'x' (FP32 [-1, 2])", v2_error(r#"{"inputs":[]}"#)),
        (
            "input 'x': expected FP32, got FP64",
            v2_input(r#"{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}"#),
        ),
        (
            "unknown input 'y': model 'digits' takes 'x' (FP32 [-1, 2])",
            v2_input(r#"{"name":"y","shape":[1,2],"datatype":"FP32","data":[1,2]}"#),
        ),
        (
            "input 'x' is given twice",
            v2_error(
                r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#,
            ),
        ),
        (
            "unknown output 'y': model 'digits' gives 'label' (INT64 [-1]), 'scores' (FP32 [-1, 10])",
            v2_error(
                r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}],"outputs":[{"name":"y"}]}"#,
            ),
        ),
        (
            "output 'label': the parameter \"classification\" is not supported by this server",
            v2_error(r#"{"inputs":[],"outputs":[{"name":"label","parameters":{"classification":3}}]}"#),
        ),
        (
            "input 'x': expected \"data\" or \"binary_data_size\", got shared memory, which this server does not offer",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}"#),
        ),
        (
            "input 'x': expected \"data\" or the parameter \"binary_data_size\", got neither",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"FP32"}"#),
        ),
        (
            "input 'x': expected a datatype of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES, got 'float32'",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"float32","data":[1]}"#),
        ),
        (
            "the body is not a V2 inference request: missing field `shape` at line 1 column 52",
            v2_input(r#"{"name":"x","datatype":"FP32","data":[1]}"#),
        ),
        ("the body is not a V2 inference request: EOF while parsing a value at line 1 column 0", v2_error("")),
        (
            "the body is not a V2 inference request: expected value at line 1 column 62 (JSON has no NaN and no infinity: send such a tensor as binary data)",
            v2_input(r#"{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}"#),
        ),
        (
            "the body is not a V2 inference request: invalid number at line 1 column 65 (JSON has no NaN and no infinity: send such a tensor as binary data)",
            v2_input(r#"{"name":"x","shape":[2],"datatype":"FP32","data":[1,-Infinity]}"#),
        ),
        ("the body nests deeper than 100 levels", v2_error(&deep)),
    ]);
}

#[test]
fn members_that_are_null_are_absent() {
    let body = r#"{"id":null,"parameters":null,"outputs":null,"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":null,"data":[1,2]}]}"#;
    assert_eq!(v2_error(body), "accepted");
    let body = body.replace("\"outputs\":null", r#""outputs":[{"name":"label","parameters":null}]"#);
    assert_eq!(v2_error(&body), "accepted");
}

#[test]
fn v2_binary() {
    let binary = |json: &str, length: usize, data: &[u8]| {
        let body = Bytes::from([json.as_bytes(), data].concat());
        v2::decode(&body, Some(length), &Limits::default())
            .map_or_else(|error| error.to_string(), |_| "accepted".into())
    };
    let fp32 = r#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let bytes = r#"{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":8}}]}"#;
    let bool = r#"{"inputs":[{"name":"x","shape":[2],"datatype":"BOOL","parameters":{"binary_data_size":2}}]}"#;
    let huge = r#"{"inputs":[{"name":"x","shape":[1152921504606846976],"datatype":"BYTES","parameters":{"binary_data_size":8}}]}"#;
    golden(&[
        ("input 'x': expected 8 bytes of binary data, got 4 left in the body", binary(fp32, fp32.len(), &[0; 4])),
        (
            "the body has 1 bytes after its last tensor: \"binary_data_size\" and Inference-Header-Content-Length must add up to the body",
            binary(fp32, fp32.len(), &[0; 9]),
        ),
        (
            "tensor 'x': expected 8 bytes for FP32 [2], got 4 bytes",
            binary(&fp32.replace("size\":8", "size\":4"), fp32.len(), &[0; 4]),
        ),
        ("Inference-Header-Content-Length is 1000, but the body has 91 bytes", binary(fp32, 1000, &[])),
        ("tensor 'x', element 1: expected a BOOL of 0 or 1, got 2", binary(bool, bool.len(), &[1, 2])),
        (
            "input 'x', element 0: expected 9 bytes, as its length says, got 4 bytes",
            binary(bytes, bytes.len(), &[9, 0, 0, 0, 1, 2, 3, 4]),
        ),
        (
            "input 'x', element 1: expected a length of 4 bytes, got 3 bytes",
            binary(bytes, bytes.len(), &[1, 0, 0, 0, b'a', 0, 0, 0]),
        ),
        (
            "input 'x': expected 2 BYTES elements, as its shape says, got 1",
            binary(bytes, bytes.len(), &[4, 0, 0, 0, 1, 2, 3, 4]),
        ),
        (
            "input 'x': expected at most 1048576 elements of type BYTES, got 1152921504606846976",
            binary(huge, huge.len(), &[0; 8]),
        ),
    ]);
}

#[test]
fn v1_requests() {
    golden(&[
        (
            "expected \"instances\" or \"inputs\" in the body, got neither",
            v1_error(r#"{"signature_name":"serving_default"}"#, &digits()),
        ),
        (
            "expected \"instances\" or \"inputs\" in the body, got both",
            v1_error(r#"{"instances":[],"inputs":[]}"#, &digits()),
        ),
        (
            "input 'x': expected shape [-1, 2] (-1 is any), got [1, 3]",
            v1_error(r#"{"instances":[[1,2,3]]}"#, &digits()),
        ),
        (
            "input 'x', element 3: expected a number in the range of FP32, got \"a\"",
            v1_error(r#"{"instances":[[1,2],[3,"a"]]}"#, &digits()),
        ),
        ("expected an array of instances in \"instances\"", v1_error(r#"{"instances":{"x":[1,2]}}"#, &digits())),
        (
            "instance 1: expected the inputs 'a', 'b', got 'a'",
            v1_error(r#"{"instances":[{"a":1,"b":"t"},{"a":1}]}"#, &two_inputs()),
        ),
        (
            "instance 0: expected the inputs 'a', 'b', got 'a', 'c'",
            v1_error(r#"{"instances":[{"a":1,"c":"t"}]}"#, &two_inputs()),
        ),
        (
            "\"instances\": expected objects with the inputs 'a', 'b' of model 'digits': invalid type: integer `1`, expected an object at line 1 column 2",
            v1_error(r#"{"instances":[1]}"#, &two_inputs()),
        ),
        (
            "unknown input 'c': model 'digits' takes 'a' (FP32 [-1]), 'b' (BYTES [-1])",
            v1_error(r#"{"inputs":{"a":[1],"c":["t"]}}"#, &two_inputs()),
        ),
        ("missing input 'b' (BYTES [-1])", v1_error(r#"{"inputs":{"a":[1]}}"#, &two_inputs())),
        ("the body is not UTF-8 from byte 1 on", {
            let error = v1::decode(b"{\xff}", &digits(), &Limits::default()).unwrap_err();
            error.to_string()
        }),
    ]);
}

#[test]
fn outputs_that_json_cannot_say() {
    let of = |tensor: Tensor| {
        let v2 = v2::encode(&response(vec![tensor.clone()]), &digits(), None, &OutputForms::default()).unwrap_err();
        let v1 = v1::encode(&response(vec![tensor]), V1Layout::Columns).unwrap_err();
        assert_eq!(v1, v2);
        assert!(matches!(v2, InferError::BadRequest(_)));
        v2.to_string()
    };
    let fixed = |datatype, data: &[u8]| Tensor::fixed("y", datatype, vec![1], Bytes::copy_from_slice(data)).unwrap();
    let advice = "which JSON cannot say: request it with the V2 protocol and \"binary_data\": true";
    for (what, tensor) in [
        ("NaN or infinity", fixed(DataType::Fp32, &f32::NAN.to_le_bytes())),
        ("NaN or infinity", fixed(DataType::Fp64, &f64::NEG_INFINITY.to_le_bytes())),
        ("NaN or infinity", fixed(DataType::Fp16, &half::f16::INFINITY.to_le_bytes())),
        ("BF16", fixed(DataType::Bf16, &[0, 0])),
        ("bytes that are not UTF-8", Tensor::strings("y", vec![1], vec![Bytes::from_static(b"\xff")]).unwrap()),
    ] {
        assert_eq!(of(tensor), format!("output 'y' holds {what}, {advice}"));
    }
}

#[test]
fn grpc_requests() {
    let tensor = |datatype: &str, shape: &[i64], contents: InferTensorContents| InferInputTensor {
        name: "x".into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        parameters: Default::default(),
        contents: Some(contents),
    };
    let error = |inputs: Vec<InferInputTensor>, raw: Vec<Bytes>| {
        let message = ModelInferRequest { inputs, raw_input_contents: raw, ..Default::default() };
        grpc::decode(message, &Limits::default()).map_or_else(|error| error.to_string(), |_| "accepted".into())
    };
    let ints = |values: &[i32]| InferTensorContents { int_contents: values.to_vec(), ..Default::default() };
    let raw = InferInputTensor { contents: None, ..tensor("INT8", &[1], ints(&[])) };
    golden(&[
        (
            "input 'x', element 1: expected an integer in the range of INT8, got 200",
            error(vec![tensor("INT8", &[2], ints(&[1, 200]))], vec![]),
        ),
        (
            "input 'x': expected 2 elements in the contents for INT8, got 1",
            error(vec![tensor("INT8", &[2], ints(&[1]))], vec![]),
        ),
        (
            "input 'x': expected 1 elements in the contents for FP32, got 0",
            error(vec![tensor("FP32", &[1], ints(&[1]))], vec![]),
        ),
        (
            "input 'x': expected raw_input_contents: FP16 has no typed contents, got contents",
            error(vec![tensor("FP16", &[1], ints(&[1]))], vec![]),
        ),
        (
            "input 'x': expected a shape without negative extents, got [-1]",
            error(vec![tensor("INT8", &[-1], ints(&[1]))], vec![]),
        ),
        (
            "raw_input_contents: expected one for each of the 1 inputs, got 2",
            error(vec![raw.clone()], vec![Bytes::from_static(b"a"), Bytes::new()]),
        ),
        (
            "input 'x': expected contents or raw_input_contents, got both",
            error(vec![tensor("INT8", &[1], ints(&[1]))], vec![Bytes::from_static(b"a")]),
        ),
        ("tensor 'x': expected 1 bytes for INT8 [1], got 2 bytes", error(vec![raw], vec![Bytes::from_static(b"ab")])),
    ]);
}
