//! String tensors whose elements are any bytes.
//!
//! `ort` makes and reads them as UTF-8 without zero bytes only, but ONNX Runtime stores `std::string`, and clients send encoded
//! images and the like as BYTES. So these two functions call the C API.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::ptr;

use bytes::Bytes;
use ort::memory::Allocator;
use ort::value::{DynTensor, Shape, TensorElementType};
use ort::{AsPointer, ortsys};

/// A string tensor that holds copies of `elements`; their number must be the product of `shape`.
pub(crate) fn make(shape: &[usize], elements: &[Bytes]) -> ort::Result<DynTensor> {
    let shape = Shape::from(shape);
    if shape.num_elements() != elements.len() {
        return Err(ort::Error::new("number of strings differs from the shape's product"));
    }
    let mut tensor = DynTensor::new(&Allocator::default(), TensorElementType::String, shape)?;
    for (index, element) in elements.iter().enumerate() {
        let mut buffer: *mut c_char = ptr::null_mut();
        ortsys![unsafe GetResizedStringTensorElementBuffer(tensor.ptr_mut(), index, element.len(), &mut buffer)?];
        if !element.is_empty() {
            // SAFETY: the call above succeeded, so `buffer` points to the element's own storage of `element.len()` bytes, which
            // nothing else refers to while `tensor` is borrowed mutably.
            unsafe { ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast::<u8>(), element.len()) };
        }
    }
    Ok(tensor)
}

/// The `count` elements of a string tensor, as views of one buffer.
pub(crate) fn read(tensor: &DynTensor, count: usize) -> ort::Result<Vec<Bytes>> {
    let value = tensor.ptr();
    let mut total = 0;
    ortsys![unsafe GetStringTensorDataLength(value, &mut total)?];
    let mut content = vec![0u8; total];
    let mut offsets = vec![0usize; count];
    // SAFETY (the macro's `unsafe`): `content` has the length that the library asked for and `offsets` one place an element.
    ortsys![
        unsafe GetStringTensorContent(value, content.as_mut_ptr().cast(), total, offsets.as_mut_ptr(), count)?
    ];
    let content = Bytes::from(content);
    let ends = offsets.iter().copied().skip(1).chain([total]);
    Ok(offsets.iter().zip(ends).map(|(&start, end)| content.slice(start..end)).collect())
}
