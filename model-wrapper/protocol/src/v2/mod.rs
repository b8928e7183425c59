//! V2 REST bodies: JSON, and JSON followed by binary tensors.

mod decode;
mod encode;
mod metadata;

pub(crate) use decode::binary_tensor;
pub use decode::{V2Request, decode};
pub(crate) use encode::binary_form;
pub use encode::{V2Body, encode};
pub use metadata::metadata_json;

use crate::Tensor;

/// The header that says how many bytes of a body are JSON; the binary tensors follow them.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// In which form each output goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputForms {
    /// Of the outputs requested by name, in their order: whether in binary.
    named: Vec<bool>,
    /// Of the others.
    rest: bool,
}

impl OutputForms {
    /// Bytes of those elements of `outputs` that go back as text.
    pub fn text_bytes(&self, outputs: &[Tensor]) -> usize {
        let text = outputs.iter().enumerate().filter(|(index, _)| !self.is_binary(*index));
        text.map(|(_, tensor)| tensor.data.bytes()).sum()
    }

    fn is_binary(&self, output: usize) -> bool {
        self.named.get(output).copied().unwrap_or(self.rest)
    }
}
