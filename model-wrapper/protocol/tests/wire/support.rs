//! Arbitrary tensors, and a model that takes and gives them.

use bytes::Bytes;
use half::f16;
use model_wrapper_protocol::{
    DataType, InferRequest, InferResponse, ModelMetadata, Tensor, TensorData, TensorMetadata,
};
use proptest::{collection::vec, prelude::*};

/// A model of that name and those inputs and outputs, of any extent.
pub(crate) fn model(inputs: &[Tensor], outputs: &[Tensor]) -> ModelMetadata {
    let metadata = |tensors: &[Tensor]| {
        let of = |tensor: &Tensor| TensorMetadata {
            name: tensor.name.clone(),
            datatype: tensor.datatype,
            shape: vec![-1; tensor.shape.len()],
        };
        tensors.iter().map(of).collect()
    };
    ModelMetadata {
        name: "m".into(),
        versions: vec!["1".into()],
        platform: "fake_platform".into(),
        inputs: metadata(inputs),
        outputs: metadata(outputs),
        optional_inputs: Vec::new(),
        properties: Vec::new(),
    }
}

pub(crate) fn request(inputs: Vec<Tensor>) -> InferRequest {
    InferRequest { id: None, inputs, outputs: Vec::new() }
}

pub(crate) fn response(outputs: Vec<Tensor>) -> InferResponse {
    InferResponse { outputs }
}

/// Up to three tensors of different names. `text` leaves out what JSON cannot say; `extents` bounds each dimension.
pub(crate) fn tensors(
    text: bool,
    rank: std::ops::Range<usize>,
    extents: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<Tensor>> {
    vec(tensor(text, rank, extents), 1..4).prop_map(|mut tensors| {
        for (index, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = format!("{}{index}", tensor.name);
        }
        tensors
    })
}

fn tensor(text: bool, rank: std::ops::Range<usize>, extents: std::ops::Range<usize>) -> impl Strategy<Value = Tensor> {
    let types: Vec<_> = DataType::ALL.into_iter().filter(|datatype| !text || *datatype != DataType::Bf16).collect();
    (any::<String>(), proptest::sample::select(types), vec(extents, rank)).prop_flat_map(
        move |(name, datatype, shape)| {
            let elements = shape.iter().product::<usize>();
            data(text, datatype, elements).prop_map(move |data| Tensor {
                name: name.clone(),
                datatype,
                shape: shape.clone(),
                data,
            })
        },
    )
}

fn data(text: bool, datatype: DataType, elements: usize) -> BoxedStrategy<TensorData> {
    let Some(width) = datatype.width() else {
        let element = if text {
            any::<String>().prop_map(Bytes::from).boxed()
        } else {
            vec(any::<u8>(), 0..20).prop_map(Bytes::from).boxed()
        };
        return vec(element, elements).prop_map(TensorData::Strings).boxed();
    };
    vec(any::<u8>(), elements * width)
        .prop_map(move |bytes| TensorData::Fixed(presentable(text, datatype, bytes).into()))
        .boxed()
}

/// Random bytes made valid for their type and, for JSON, finite.
fn presentable(text: bool, datatype: DataType, mut bytes: Vec<u8>) -> Vec<u8> {
    let finite = |element: &[u8]| match *element {
        [a, b] => f16::from_le_bytes([a, b]).is_finite(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).is_finite(),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]).is_finite(),
        _ => true,
    };
    match datatype {
        DataType::Bool => bytes.iter_mut().for_each(|byte| *byte %= 2),
        DataType::Fp16 | DataType::Fp32 | DataType::Fp64 if text => {
            for element in bytes.chunks_exact_mut(datatype.width().unwrap_or(1)) {
                if !finite(element) {
                    element.fill(0);
                }
            }
        }
        _ => {}
    }
    bytes
}
