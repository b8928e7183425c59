//! Outputs that are answered from the runtime's own memory.
//!
//! Copying a large output costs the model's thread about what the system takes to send it. So the answer views the runtime's
//! memory, which goes back when the last byte is sent. The runtime's arena grows by what it lends and does not shrink, and a slow
//! reader keeps its answer for long: beyond a bound outputs are copied, onto a heap that gives memory back.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::NoUninit;
use bytes::Bytes;
use ort::session::SharedSessionInner;
use ort::value::{DynTensor, PrimitiveTensorElementType};

/// Below it an output is copied: that costs less than what lending it does.
const WORTH_LENDING: usize = 32 << 10;

/// Bytes that a model lends at most: some large outputs on their way while the next one is made.
const MAX_LENT: usize = 32 << 20;

/// Lends the outputs of one session.
pub(crate) struct Lender {
    session: Arc<SharedSessionInner>,
    lent: Arc<AtomicUsize>,
}

/// An output's memory, until it is dropped.
struct Loan<T> {
    value: DynTensor,
    bytes: usize,
    lent: Arc<AtomicUsize>,
    /// An output may be a constant of the model, whose memory is the session's.
    _session: Arc<SharedSessionInner>,
    element: PhantomData<fn() -> T>,
}

// === impl Lender ===

impl Lender {
    pub(crate) fn new(session: Arc<SharedSessionInner>) -> Self {
        Self { session, lent: Arc::default() }
    }

    /// The elements of `value`, which are of type `T`: lent where that is worth while and within the bound, else copied.
    pub(crate) fn bytes<T>(&self, value: DynTensor) -> ort::Result<Bytes>
    where
        T: PrimitiveTensorElementType + NoUninit,
    {
        let bytes = view::<T>(&value)?.len();
        let within = |lent: usize| lent.checked_add(bytes).filter(|&lent| lent <= MAX_LENT);
        if bytes < WORTH_LENDING || self.lent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            return copy::<T>(&value);
        }
        let (lent, session) = (self.lent.clone(), self.session.clone());
        Ok(Bytes::from_owner(Loan::<T> { value, bytes, lent, _session: session, element: PhantomData }))
    }
}

/// A copy of the elements of `value`, which are of type `T`.
pub(crate) fn copy<T: PrimitiveTensorElementType + NoUninit>(value: &DynTensor) -> ort::Result<Bytes> {
    view::<T>(value).map(Bytes::copy_from_slice)
}

fn view<T: PrimitiveTensorElementType + NoUninit>(value: &DynTensor) -> ort::Result<&[u8]> {
    value.try_extract_tensor::<T>().map(|(_, elements)| bytemuck::cast_slice(elements))
}

// === impl Loan ===

impl<T: PrimitiveTensorElementType + NoUninit> AsRef<[u8]> for Loan<T> {
    fn as_ref(&self) -> &[u8] {
        view::<T>(&self.value).expect("the value was viewed as the same type before")
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        self.lent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
