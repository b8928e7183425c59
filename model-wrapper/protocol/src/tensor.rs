//! Tensors and inference requests, whatever wire format they came in.

use bytes::Bytes;

/// An element type of the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754 binary16.
    Fp16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
    /// A byte string.
    Bytes,
}

/// A tensor's elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Elements of fixed width, little-endian, without padding: `elements × width` bytes. It may be a view of the request's
    /// body, so nothing is promised about its alignment.
    Fixed(Bytes),
    /// Elements of type [`DataType::Bytes`].
    Strings(Vec<Bytes>),
}

/// One named tensor. Its constructor has checked that shape, type and data agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Extent of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: TensorData,
}

/// The only extent in the shape of an input or output whose number of dimensions varies too.
pub const ANY_RANK: i64 = -2;

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Extent of each dimension, -1 where it varies; [`ANY_RANK`] alone where their number does.
    pub shape: Vec<i64>,
}

/// What a model takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelMetadata {
    /// The name it is served under.
    pub name: String,
    /// Served versions; a wrapper serves one.
    pub versions: Vec<String>,
    /// Runtime, as KServe and Triton name it: `onnx_onnxv1`.
    pub platform: String,
    /// Inputs that a request must have, in the model's order.
    pub inputs: Vec<TensorMetadata>,
    /// Inputs that a request may have: without one the model's own value counts (for ONNX an initializer that is a graph input
    /// too).
    pub optional_inputs: Vec<TensorMetadata>,
    /// Outputs in the model's order.
    pub outputs: Vec<TensorMetadata>,
    /// The model file's own metadata (for ONNX `metadata_props`), sorted by key.
    pub properties: Vec<(String, String)>,
}

impl ModelMetadata {
    /// The input of that name, whether a request must have it or may.
    pub fn input(&self, name: &str) -> Option<&TensorMetadata> {
        self.inputs.iter().chain(&self.optional_inputs).find(|input| input.name == name)
    }
}

/// An inference request with decoded tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// The caller's id, given back with the response.
    pub id: Option<String>,
    /// Input tensors.
    pub inputs: Vec<Tensor>,
    /// Names of wanted outputs in the order wanted; empty for all.
    pub outputs: Vec<String>,
}

/// Output tensors of a run, in the order wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    /// Output tensors.
    pub outputs: Vec<Tensor>,
}
