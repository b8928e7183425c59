//! The ONNX Runtime library of a unit test process, which can be loaded only once.

use std::path::Path;
use std::sync::OnceLock;

use model_wrapper_onnx::{LIBRARY_VARIABLE, Runtime};

/// The library that cargo's configuration names.
pub(crate) fn runtime() -> Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let load = || {
        let library =
            std::env::var_os(LIBRARY_VARIABLE).expect("cargo sets it to the library that `make test` fetches");
        Runtime::load(Some(Path::new(&library))).expect("the library loads")
    };
    RUNTIME.get_or_init(load).clone()
}
