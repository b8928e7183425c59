//! Pinning to processor cores, so that what is measured and what measures do not compete.

use anyhow::{Context, bail};
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
    let mut set = CpuSet::new();
    set.set(core.0);
    sched_setaffinity(None, &set).with_context(|| format!("pinning to core {}", core.0))
}
