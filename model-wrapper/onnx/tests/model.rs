//! Loading, running and cancelling real models.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod fixture;

use std::time::{Duration, Instant};

use bytes::Bytes;
use model_wrapper_onnx::{LoadError, external_files};
use model_wrapper_protocol::{Backend as _, DataType, InferError, Tensor, TensorData};

fn floats(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        datatype: DataType::Fp32,
        shape: shape.to_vec(),
        data: TensorData::Fixed(Bytes::copy_from_slice(bytemuck::cast_slice(values))),
    }
}

fn iterations(count: i64) -> Tensor {
    Tensor {
        name: "iterations".to_owned(),
        datatype: DataType::Int64,
        shape: vec![1],
        data: TensorData::Fixed(Bytes::copy_from_slice(&count.to_le_bytes())),
    }
}

fn as_floats(tensor: &Tensor) -> Vec<f32> {
    let TensorData::Fixed(bytes) = &tensor.data else { panic!("no floats: {tensor:?}") };
    bytemuck::pod_collect_to_vec(bytes)
}

#[test]
fn metadata_says_what_the_file_says() {
    let model = fixture::load("sum-and-scale.onnx");
    let metadata = model.metadata();
    assert_eq!(metadata.name, "fixture");
    assert_eq!(metadata.platform, "onnx_onnxv1");
    let names = |tensors: &[model_wrapper_protocol::TensorMetadata]| {
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.datatype, tensor.shape.clone())).collect::<Vec<_>>()
    };
    let both = |one: &str, two: &str| {
        vec![(one.to_owned(), DataType::Fp32, vec![-1, 2]), (two.to_owned(), DataType::Fp32, vec![-1, 2])]
    };
    assert_eq!(names(&metadata.inputs), both("a", "b"));
    assert_eq!(names(&metadata.outputs), both("sum", "scaled"));
    let properties = [("author", "fixtures"), ("labels", "left,right")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(metadata.properties, properties);
}

#[test]
fn outputs_come_as_asked() {
    let mut model = fixture::load("sum-and-scale.onnx");
    let inputs = [floats("b", &[1, 2], &[1.0, 2.0]), floats("a", &[1, 2], &[3.0, 4.0])];
    let all = model.run(&inputs, &[]).unwrap();
    assert_eq!(all.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["sum", "scaled"]);
    assert_eq!(as_floats(&all[0]), [4.0, 6.0]);

    let reversed = model.run(&inputs, &["scaled".to_owned(), "sum".to_owned()]).unwrap();
    assert_eq!(as_floats(&reversed[0]), [30.0, 40.0]);
    assert_eq!(as_floats(&reversed[1]), [4.0, 6.0]);

    let error = model.run(&inputs, &["difference".to_owned()]).unwrap_err();
    assert_eq!(error, InferError::BadRequest("no output 'difference': the model has sum, scaled".to_owned()));
}

#[test]
fn an_initializer_that_is_an_input_too_may_be_given() {
    let mut model = fixture::load("overridable.onnx");
    let names = |tensors: &[model_wrapper_protocol::TensorMetadata]| {
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.datatype, tensor.shape.clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&model.metadata().inputs), [("x".to_owned(), DataType::Fp32, vec![-1, 3])]);
    let optional = [("factor".to_owned(), vec![1]), ("offset".to_owned(), vec![3])];
    assert_eq!(names(&model.metadata().optional_inputs), optional.map(|(name, shape)| (name, DataType::Fp32, shape)),);
    let x = floats("x", &[1, 3], &[1.0, 2.0, 3.0]);
    let (factor, offset) = (floats("factor", &[1], &[10.0]), floats("offset", &[3], &[5.0; 3]));
    for (inputs, expected) in [
        (vec![x.clone()], [2.0, 4.0, 7.0]),
        (vec![factor.clone(), x.clone()], [10.0, 20.0, 31.0]),
        (vec![x.clone(), offset, factor.clone()], [15.0, 25.0, 35.0]),
        (vec![x], [2.0, 4.0, 7.0]),
    ] {
        assert_eq!(as_floats(&model.run(&inputs, &[]).unwrap()[0]), expected);
    }
    assert_eq!(model.run(&[factor], &[]).unwrap_err().reason(), "bad-request");
}

#[test]
fn an_empty_batch_is_answered_empty() {
    let mut model = fixture::load("sum-and-scale.onnx");
    let answered = model.run(&[floats("a", &[0, 2], &[]), floats("b", &[0, 2], &[])], &[]).unwrap();
    assert_eq!(answered[0].shape, [0, 2]);
    assert!(as_floats(&answered[0]).is_empty());
}

#[test]
fn outputs_outlive_later_runs_their_inputs_and_the_model() {
    let mut model = fixture::load("shared.onnx");
    let mut kept = Vec::new();
    // More than a model lends at a time, and inputs that must be copied because of their alignment beside some that need not.
    for run in 0..250u16 {
        let values = vec![f32::from(run); 20_000];
        let mut bytes = vec![0; usize::from(run % 2)];
        bytes.extend_from_slice(bytemuck::cast_slice(&values));
        let data = Bytes::from(bytes).slice(usize::from(run % 2)..);
        let input = Tensor { data: TensorData::Fixed(data), ..floats("x", &[20_000], &values) };
        kept.push(model.run(&[input], &[]).unwrap());
    }
    drop(model);
    for (run, outputs) in kept.iter().enumerate() {
        let expected = [("x", run as f32), ("doubled", 2.0 * run as f32), ("constant", 0.5)];
        for (output, (name, value)) in outputs.iter().zip(expected) {
            assert_eq!(output.name, name);
            assert!(as_floats(output) == vec![value; 20_000], "run {run}: {name}");
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_the_callers_fault() {
    let mut model = fixture::load("sum-and-scale.onnx");
    for inputs in [
        vec![floats("a", &[1, 2], &[1.0, 2.0])],
        vec![floats("a", &[1, 3], &[1.0, 2.0, 3.0]), floats("b", &[1, 2], &[1.0, 2.0])],
        vec![floats("a", &[2], &[1.0, 2.0]), floats("b", &[1, 2], &[1.0, 2.0])],
        vec![floats("a", &[1, 2], &[1.0, 2.0]), iterations(1)],
    ] {
        let error = model.run(&inputs, &[]).unwrap_err();
        assert_eq!(error.reason(), "bad-request", "{error}");
    }
    for shape in [vec![usize::MAX, 2], vec![1 << 63, 2], vec![1, 3], vec![]] {
        let lying = Tensor { shape, ..floats("a", &[1, 2], &[1.0, 2.0]) };
        let error = model.run(&[lying, floats("b", &[1, 2], &[1.0, 2.0])], &[]).unwrap_err();
        assert!(error.to_string().starts_with("input 'a': expected data for the shape"), "{error}");
    }
}

#[test]
fn strings_may_hold_any_bytes() {
    let mut model = fixture::load("bytes.onnx");
    let given = vec![Bytes::from_static(b"\xff\xd8\0\x01"), Bytes::new(), Bytes::from_static(b"x\0")];
    let input = Tensor {
        name: "x".to_owned(),
        datatype: DataType::Bytes,
        shape: vec![1, 3],
        data: TensorData::Strings(given.clone()),
    };
    let answered = model.run(&[input], &["same".to_owned()]).unwrap();
    assert_eq!(answered[0].data, TensorData::Strings(given));
}

#[test]
fn a_cancelled_run_ends_and_the_next_one_works() {
    let mut model = fixture::load("loop.onnx");
    let canceller = model.canceller();
    model.arm();
    let started = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| model.run(&[iterations(i64::MAX)], &[]));
        std::thread::sleep(Duration::from_millis(50));
        canceller.cancel();
        run.join().unwrap()
    });
    assert_eq!(outcome, Err(InferError::Cancelled));
    assert!(started.elapsed() < Duration::from_secs(30));
    model.arm();
    assert_eq!(as_floats(&model.run(&[iterations(2)], &[]).unwrap()[0])[0], 1.0);
}

#[test]
fn a_cancel_before_the_run_ends_it_and_one_before_arming_does_not() {
    let mut model = fixture::load("loop.onnx");
    let canceller = model.canceller();
    model.arm();
    canceller.cancel();
    assert_eq!(model.run(&[iterations(i64::MAX)], &[]), Err(InferError::Cancelled));
    canceller.cancel();
    model.arm();
    assert!(model.run(&[iterations(1)], &[]).is_ok());
}

#[test]
fn models_that_cannot_be_served_say_why() {
    for (file, words) in [
        ("sequence-output.onnx", ["output 'parts'", "Sequence"]),
        ("float8-input.onnx", ["input 'x'", "f8_e4m3fn"]),
        ("make.py", ["not an ONNX model", "protobuf"]),
    ] {
        let error = fixture::load_with(file, &[]).err().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{file}: {error}");
    }
}

#[test]
fn external_data_comes_from_what_was_given() {
    let model = std::fs::read(fixture::path("external/model.onnx")).unwrap();
    assert_eq!(external_files(&model).unwrap().into_iter().collect::<Vec<_>>(), ["data/weight.bin"]);
    let mut model =
        fixture::load_with("external/model.onnx", &[("data/weight.bin", "external/data/weight.bin")]).unwrap();
    let answered = model.run(&[floats("x", &[1, 3], &[1.0, 1.0, 1.0])], &[]).unwrap();
    assert_eq!(as_floats(&answered[0]), [6.0, 9.0]);

    let missing = fixture::load_with("external/model.onnx", &[]).err().unwrap();
    assert_eq!(missing, LoadError::MissingExternalData("data/weight.bin".to_owned()));
    let escape = fixture::load_with("external/escape.onnx", &[]).err().unwrap();
    assert!(matches!(escape, LoadError::ExternalData { .. }), "{escape}");
}

#[test]
fn the_runtime_can_be_warmed() {
    fixture::runtime().warm().unwrap();
}
