//! Pinning to processor cores, so that what is measured and what measures do not compete.

use std::fs;

use anyhow::{Context, bail};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Number of a processor core, as Linux counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core(pub usize);

/// Where the two sides of a measurement run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// What is measured.
    pub subject: Core,
    /// The load and whatever else is needed.
    pub load: Core,
}

/// Two of the cores that this process may use.
///
/// # Errors
/// It may use fewer than two: both sides on one core would measure the scheduler.
pub fn split() -> anyhow::Result<Split> {
    let allowed = sched_getaffinity(None).context("asking for the allowed cores")?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).map(Core);
    match (cores.next(), cores.next()) {
        (Some(subject), Some(load)) => Ok(Split { subject, load }),
        _ => bail!(
            "this scenario pins the server to one core and the load to another, and only one core is allowed here"
        ),
    }
}

/// Pins the calling thread. Threads and processes that it starts inherit it.
///
/// # Errors
/// The core does not exist or is not allowed.
pub fn pin_this_thread(core: Core) -> anyhow::Result<()> {
    pin(None, core)
}

/// Pins all threads that a process has now but those of this name.
///
/// # Errors
/// It has no thread of that name, it ended, or the core is not allowed.
pub fn pin_threads_but(name: &str, pid: u32, core: Core) -> anyhow::Result<()> {
    let mut named = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("listing the threads of {pid}"))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim_end() == name {
            named += 1;
        } else {
            let thread = task.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
            pin(Some(thread.context("a thread's id is a number")?), core)?;
        }
    }
    if named == 0 {
        bail!("process {pid} has no thread '{name}'");
    }
    Ok(())
}

fn pin(thread: Option<Pid>, core: Core) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core.0);
    sched_setaffinity(thread, &set).with_context(|| format!("pinning to core {}", core.0))
}
