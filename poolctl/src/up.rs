//! `poolctl up`: the whole stack on this machine.
//!
//! One process holds gateway, autoscaler and pools; replicas are its children. Gateway and autoscaler talk over the same
//! gRPC stream as on a cluster, here through a Unix socket in a private folder.

mod console;
mod preflight;
mod stack;

use std::io::{self, IsTerminal};

use poolctl_image::Scratch;
use poolctl_runtime::{Shutdown, descriptors, telemetry};

use crate::cli::UpArgs;
use console::Console;
use stack::Stack;

/// Runs the stack until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, with what to do about it.
pub fn run(arguments: UpArgs) -> anyhow::Result<()> {
    let console = io::stderr().is_terminal().then(Console::default);
    match &console {
        Some(console) => telemetry::init_with_writer(console.clone()),
        None => telemetry::init(),
    }
    let plan = preflight::check(arguments)?;
    descriptors::raise_limit();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let scratch = Scratch::new();
        let shutdown = {
            let scratch = scratch.clone();
            Shutdown::on_signals_or(move || {
                scratch.give_up();
                std::process::exit(Shutdown::INSISTED_EXIT_CODE);
            })?
        };
        Stack::start(plan, &scratch, &shutdown).await?.run(console, &shutdown).await
    })
}
