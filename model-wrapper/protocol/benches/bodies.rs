//! Decoding and encoding of bodies: `cargo bench -p model-wrapper-protocol`.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use model_wrapper_protocol::{
    DataType, InferResponse, Limits, ModelMetadata, Tensor, TensorMetadata, v1,
    v2::{self, OutputForms},
};

/// A digits classifier's input, and an image of 224 × 224 in three colours.
const SIZES: [usize; 2] = [64, 150_528];

fn model() -> ModelMetadata {
    let x = TensorMetadata { name: "x".into(), datatype: DataType::Fp32, shape: vec![-1, -1] };
    ModelMetadata {
        name: "m".into(),
        versions: vec!["1".into()],
        platform: "fake_platform".into(),
        inputs: vec![x.clone()],
        outputs: vec![x],
        optional_inputs: Vec::new(),
        properties: Vec::new(),
    }
}

fn tensor(elements: usize) -> Tensor {
    let data: Vec<u8> = (0..elements).flat_map(|index| (index as f32 * 0.731).sin().to_le_bytes()).collect();
    Tensor::fixed("x", DataType::Fp32, vec![1, elements], data.into()).expect("shape and data agree")
}

fn bodies(criterion: &mut Criterion) {
    let limits = Limits::default();
    let model = model();
    for elements in SIZES {
        let response = InferResponse { outputs: vec![tensor(elements)] };
        let answer = v2::encode(&response, &model, None, &OutputForms::default()).expect("finite numbers");
        let json = std::str::from_utf8(&answer.json).expect("JSON is UTF-8").replacen("\"outputs\"", "\"inputs\"", 1);
        let json = Bytes::from(json);
        let header = format!(
            r#"{{"inputs":[{{"name":"x","shape":[1,{elements}],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}]}}"#,
            elements * 4
        );
        let length = header.len();
        let mut binary = header.into_bytes();
        binary.extend((0..elements * 4).map(|_| 0));
        let binary = Bytes::from(binary);
        let rows = v1::encode(&response, v1::V1Layout::Columns).expect("finite numbers");
        let rows = std::str::from_utf8(&rows).expect("JSON is UTF-8").replacen("predictions", "instances", 1);

        let mut group = criterion.benchmark_group("bodies");
        group.throughput(Throughput::Elements(elements as u64));
        group.bench_function(BenchmarkId::new("v2_json_decode", elements), |bencher| {
            bencher.iter(|| v2::decode(&json, None, &limits).and_then(|decoded| decoded.request.check(&model)));
        });
        group.bench_function(BenchmarkId::new("v2_binary_decode", elements), |bencher| {
            bencher
                .iter(|| v2::decode(&binary, Some(length), &limits).and_then(|decoded| decoded.request.check(&model)));
        });
        group.bench_function(BenchmarkId::new("v2_json_encode", elements), |bencher| {
            bencher.iter(|| v2::encode(&response, &model, None, &OutputForms::default()));
        });
        group.bench_function(BenchmarkId::new("v1_decode", elements), |bencher| {
            bencher.iter(|| v1::decode(rows.as_bytes(), &model, &limits));
        });
        group.finish();
    }
}

criterion_group!(benches, bodies);
criterion_main!(benches);
