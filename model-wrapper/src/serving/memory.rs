//! The memory that requests take.
//!
//! Each place may hold a body as large as a body may be, and a stream of gRPC messages reads the next one without a place: their
//! number bounds nothing. So what they bring is counted as it comes, until the model has it run, and one byte too many is
//! refused, not waited for: nobody can keep others out by not going on. (The gateway counts only what it is reading so: what
//! waits there is bounded by its queues.)

use std::sync::Arc;

use model_wrapper_protocol::{InferError, InferRequest, TensorData};
use parking_lot::Mutex;
use prometheus::IntGauge;

/// Bytes that a string takes beside its own.
const STRING: usize = size_of::<bytes::Bytes>();

/// What all requests have in memory.
#[derive(Debug)]
pub(super) struct Memory {
    used: IntGauge,
    limit: usize,
}

/// What one request, or one stream of them, has in memory. Clones share it; the last one dropped gives it back.
#[derive(Clone, Debug)]
pub struct Held(Arc<Share>);

#[derive(Debug)]
struct Share {
    memory: Arc<Memory>,
    bytes: Mutex<usize>,
}

impl Memory {
    /// At most `limit` bytes at a time. `used` tells how many there are.
    pub(super) fn new(limit: usize, used: IntGauge) -> Self {
        Self { used, limit }
    }

    /// Of a request of which nothing has come.
    pub(super) fn nothing(self: &Arc<Self>) -> Held {
        Held(Arc::new(Share { memory: self.clone(), bytes: Mutex::new(0) }))
    }
}

impl Held {
    /// So many bytes more have come.
    ///
    /// # Errors
    /// All requests together are too large.
    pub fn grow(&self, by: usize) -> Result<(), InferError> {
        self.change(|bytes| bytes.saturating_add(by))
    }

    /// Only the inputs of the request are left of what has come.
    ///
    /// # Errors
    /// All requests together are too large: text is shorter than what it says may be.
    pub fn settle(&self, request: &InferRequest) -> Result<(), InferError> {
        let inputs = request.inputs.iter().map(|input| match &input.data {
            TensorData::Fixed(data) => data.len(),
            TensorData::Strings(data) => data.iter().map(|element| STRING + element.len()).sum(),
        });
        let sum = inputs.sum();
        self.change(|_| sum)
    }

    /// Nothing is left.
    pub fn release(&self) {
        // Less is never too much.
        let _ = self.change(|_| 0);
    }

    fn change(&self, to: impl FnOnce(usize) -> usize) -> Result<(), InferError> {
        let Share { memory, bytes } = &*self.0;
        let mut bytes = bytes.lock();
        let before = *bytes;
        *bytes = to(before);
        memory.used.add(signed(*bytes) - signed(before));
        if *bytes > before && memory.used.get() > signed(memory.limit) {
            return Err(InferError::Full { limit: memory.limit });
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.used.sub(signed(*self.bytes.get_mut()));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use model_wrapper_protocol::{DataType, Tensor};

    use super::*;

    const LIMIT: usize = 1000;

    fn memory() -> Arc<Memory> {
        Arc::new(Memory::new(LIMIT, IntGauge::new("used", "test").unwrap()))
    }

    #[test]
    fn one_byte_too_many_is_refused_and_all_is_given_back() {
        let memory = memory();
        let (one, other) = (memory.nothing(), memory.nothing());
        one.grow(LIMIT - 1).unwrap();
        other.grow(1).unwrap();
        assert_eq!(other.grow(1), Err(InferError::Full { limit: LIMIT }));
        drop(other);
        let shared = one.clone();
        drop(one);
        assert_eq!(memory.used.get(), signed(LIMIT - 1));
        shared.release();
        assert_eq!(memory.used.get(), 0);
        drop(shared);
        assert_eq!(memory.used.get(), 0);
    }

    #[test]
    fn decoded_inputs_count_instead_of_the_body() {
        let memory = memory();
        let held = memory.nothing();
        held.grow(1000).unwrap();
        let x = Tensor::fixed("x", DataType::Fp32, vec![2], bytes::Bytes::from_static(&[0; 8])).unwrap();
        let y = Tensor::strings("y", vec![1], vec![bytes::Bytes::from_static(b"abc")]).unwrap();
        held.settle(&InferRequest { inputs: vec![x, y], ..InferRequest::default() }).unwrap();
        assert_eq!(memory.used.get(), signed(8 + STRING + 3));
    }
}
