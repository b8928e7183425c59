//! Every element type gives what Python's onnxruntime gives, bit for bit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod fixture;

use bytes::Bytes;
use model_wrapper_protocol::{Backend as _, DataType, Tensor, TensorData};
use serde_json::Value;

#[test]
fn every_type_gives_what_python_gives() {
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(fixture::path("golden.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 14, "one case for each type of the protocol");
    for case in cases {
        let name = case["model"].as_str().unwrap();
        let mut model = fixture::load(name);
        let declared = &model.metadata().inputs[0];
        assert_eq!(declared.datatype, datatype(&case["datatype"]), "{name}");
        assert_eq!(declared.shape, [-1, 3], "{name}");
        let expected: Vec<Tensor> =
            case["outputs"].as_array().unwrap().iter().map(|output| tensor(output, "data", 0)).collect();
        for misalignment in [0, 1] {
            let mut input = tensor(&case, "input", misalignment);
            input.name = "x".to_owned();
            let answered = model.run(&[input], &[]).unwrap();
            assert_eq!(answered, expected, "{name}, {misalignment} bytes off alignment");
        }
    }
}

/// The tensor in a golden case, its bytes `misalignment` bytes behind an aligned address.
fn tensor(case: &Value, key: &str, misalignment: usize) -> Tensor {
    let data = match case.get("strings") {
        Some(strings) => {
            TensorData::Strings(strings.as_array().unwrap().iter().map(|string| unhex(string).into()).collect())
        }
        None => TensorData::Fixed(placed(&unhex(&case[key]), misalignment)),
    };
    Tensor {
        name: case["name"].as_str().unwrap_or_default().to_owned(),
        datatype: datatype(&case["datatype"]),
        shape: case["shape"].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap() as usize).collect(),
        data,
    }
}

fn placed(content: &[u8], misalignment: usize) -> Bytes {
    let room = vec![0u8; content.len() + 16];
    let start = room.as_ptr().align_offset(16) + misalignment;
    let mut room = room;
    room[start..start + content.len()].copy_from_slice(content);
    Bytes::from(room).slice(start..start + content.len())
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn datatype(value: &Value) -> DataType {
    match value.as_str().unwrap() {
        "BOOL" => DataType::Bool,
        "UINT8" => DataType::Uint8,
        "UINT16" => DataType::Uint16,
        "UINT32" => DataType::Uint32,
        "UINT64" => DataType::Uint64,
        "INT8" => DataType::Int8,
        "INT16" => DataType::Int16,
        "INT32" => DataType::Int32,
        "INT64" => DataType::Int64,
        "FP16" => DataType::Fp16,
        "BF16" => DataType::Bf16,
        "FP32" => DataType::Fp32,
        "FP64" => DataType::Fp64,
        "BYTES" => DataType::Bytes,
        other => panic!("golden.json names the type {other}"),
    }
}
