//! The model server's binary.

use std::process::ExitCode;

use clap::Parser as _;
use model_wrapper::cli::Cli;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keeps ONNX Runtime from collecting telemetry. Builds of it that have any open a database below the user's home and a
/// thread that uploads, before a program can ask them not to; this variable is what they look at first.
#[allow(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "the library takes it from the environment, and no thread runs yet"
)]
fn disable_telemetry() {
    // SAFETY: the process has no other thread yet that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

fn main() -> ExitCode {
    disable_telemetry();
    match Cli::parse().run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("model-wrapper: {error:#}");
            ExitCode::FAILURE
        }
    }
}
