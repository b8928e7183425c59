use std::path::PathBuf;

use ort::session::Session;
use ort::value::Tensor;

use super::*;
use crate::{LIBRARY_VARIABLE, Runtime};

fn lender() -> Lender {
    let library = std::env::var_os(LIBRARY_VARIABLE).expect("cargo sets it to the library that `make models` fetched");
    let runtime = Runtime::load(Some(&PathBuf::from(library))).unwrap();
    let model = include_bytes!("../warm.onnx");
    let session: Session =
        ort::session::builder::SessionBuilder::new(&runtime.environment).unwrap().commit_from_memory(model).unwrap();
    Lender::new(session.inner())
}

/// A value of so many bytes, and where they are.
fn value(bytes: usize) -> (DynTensor, usize) {
    let value = Tensor::from_array(([bytes / 4], vec![1.5f32; bytes / 4])).unwrap().upcast();
    let address = value.data_ptr() as usize;
    (value, address)
}

#[test]
fn large_values_are_lent_up_to_the_bound_and_again_once_given_back() {
    let lender = lender();
    let lend = |bytes: usize| {
        let (value, address) = value(bytes);
        let answered = lender.bytes::<f32>(value).unwrap();
        assert_eq!(answered.len(), bytes);
        assert!(answered.chunks(4).all(|element| element == 1.5f32.to_le_bytes()));
        let lent = answered.as_ptr() as usize == address;
        (answered, lent)
    };
    assert!(!lend(WORTH_LENDING - 4).1, "not worth while");
    let (most, lent) = lend(MAX_LENT - WORTH_LENDING);
    assert!(lent);
    let (rest, lent) = lend(WORTH_LENDING);
    assert!(lent);
    assert!(!lend(WORTH_LENDING).1, "above the bound");
    let part = rest.slice(8..16);
    drop(rest);
    assert!(!lend(WORTH_LENDING).1, "a part of it is still read");
    drop(part);
    assert!(lend(WORTH_LENDING).1);
    drop(most);
    assert_eq!(lender.lent.load(Ordering::Relaxed), 0);
}
