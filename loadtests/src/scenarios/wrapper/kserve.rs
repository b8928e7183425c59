//! KServe's Python model server around an onnxruntime session.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::affinity::Core;
use crate::process::Process;

const SERVER: &str = include_str!("kserve.py");

/// Starts it on a free port, on one core.
///
/// # Errors
/// It is not installed, or did not come up; the message has the end of its log.
pub(super) async fn start(
    python: &Path,
    model: &str,
    file: &Path,
    core: Core,
    patience: Duration,
) -> anyhow::Result<(Process, SocketAddr)> {
    // It cannot tell which port it was given: one that was free a moment ago.
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(python);
    command.arg("-c").arg(SERVER).arg(model).arg(file).arg(addr.port().to_string());
    let mut process = Process::start("KServe's model server", command, Some(core))?;
    process
        .accepting(addr, patience)
        .await
        .with_context(|| format!("KServe as peer needs `{} -m pip install kserve onnxruntime`", python.display()))?;
    Ok((process, addr))
}
