//! Process 1 of the namespaces: prepares them, starts the supervisor and reaps what others leave behind.
//!
//! It is a process apart from the supervisor because process 1 inherits every orphan (the shims of containers among them) and
//! must wait for all of them, which would take the supervisor's own children's ends away from it.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use rustix::process::{Pid, WaitOptions};

use super::super::namespaces::{knative_arguments, place_arguments};
use super::super::settings::Place;
use super::super::{cgroups, prerequisites};
use super::{mounts, network};

/// The hidden subcommand that runs as the supervisor.
pub const SUPERVISE: &str = "supervise";

/// The whole life of process 1. When it returns, the kernel kills every other process of the namespaces.
///
/// # Errors
/// When the namespaces cannot be prepared or the supervisor not be started.
pub fn run(place: &Place, knative_dir: Option<&Path>) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        rustix::process::getpid() == Pid::INIT,
        "this subcommand is for process 1 of a cluster's namespaces"
    );
    let system = prerequisites::check()?;
    rustix::system::sethostname(place.node_name().as_bytes()).context("cannot set the host name")?;
    cgroups::enter(&cgroups::hierarchies()?, &place.cgroup_root())?;
    mounts::prepare(place)?;
    network::prepare(&system)?;

    let executable = std::env::current_exe().context("cannot find this program")?;
    let supervisor = Command::new(executable)
        .args(place_arguments(place))
        .arg(SUPERVISE)
        .args(knative_arguments(knative_dir))
        .env("PATH", &system.path)
        .spawn()
        .context("cannot start the supervisor")?;
    reap_until(Pid::from_child(&supervisor))
}

/// Reaps every process that ends, until it is `supervisor`.
fn reap_until(supervisor: Pid) -> anyhow::Result<ExitCode> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == supervisor => {
                let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
                if code.is_none() {
                    eprintln!(
                        "the supervisor was killed by signal {}",
                        status.terminating_signal().unwrap_or_default()
                    );
                }
                return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for children"),
        }
    }
}
