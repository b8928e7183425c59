//! The model server's binary.

use std::process::ExitCode;

use clap::Parser as _;
use model_wrapper::cli::Cli;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("model-wrapper: {error:#}");
            ExitCode::FAILURE
        }
    }
}
