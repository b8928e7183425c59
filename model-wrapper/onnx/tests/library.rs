//! A process loads the library once, so what happens without one has a process of its own.

use model_wrapper_onnx::{Runtime, RuntimeError};

#[test]
fn a_library_that_is_not_there_is_named() {
    let error = Runtime::load(Some("/nowhere/libonnxruntime.so".as_ref())).unwrap_err();
    assert!(matches!(error, RuntimeError::Library { .. }));
    let text = error.to_string();
    assert!(text.contains("/nowhere/libonnxruntime.so") && text.contains("ORT_DYLIB_PATH"), "{text}");
}
