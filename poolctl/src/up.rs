//! `poolctl up`: the whole stack on this machine.
//!
//! One process holds gateway, autoscaler and pools; replicas are its children. Gateway and autoscaler talk over the same
//! gRPC stream as on a cluster, here through a Unix socket in a private folder.

mod console;
mod preflight;
mod stack;

use std::io::{self, IsTerminal};

use poolctl_runtime::{Shutdown, telemetry};

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
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        Stack::start(plan, &shutdown).await?.run(console, &shutdown).await
    })
}
