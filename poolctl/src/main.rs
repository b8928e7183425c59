//! The `poolctl` program.

use std::process::ExitCode;

use clap::Parser;
use poolctl::cli::{Cli, Command};
use poolctl::{crds, package, show, up};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Up(arguments) => up::run(arguments),
        Command::Status(arguments) => show::status(&arguments),
        Command::Top(arguments) => show::top(&arguments),
        Command::Explain(arguments) => show::explain(&arguments),
        Command::Package(arguments) => package::run(&arguments),
        Command::Crds(arguments) => crds::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("poolctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
