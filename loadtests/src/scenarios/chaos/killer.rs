//! Who is killed when.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use crate::proc_stats;
use crate::status::Status;

/// How long before a kill its victim is chosen: asking takes a few milliseconds.
const AHEAD: Duration = Duration::from_millis(25);

/// How long a killed process may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// One killed process. Times count from the start of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    /// The replica, as `kferving-replica` names it.
    pub(crate) replica: String,
    /// Just before the signal.
    pub(crate) at: Duration,
    /// When all its threads had ended: from then on its sockets are closed.
    pub(crate) ended: Duration,
}

/// Kills one replica of the stack `parent` at each of `times`.
///
/// # Errors
/// The stack does not answer, or a process does not end.
pub(super) async fn run(
    admin: SocketAddr,
    parent: u32,
    times: Vec<Duration>,
    start: Instant,
    seed: u64,
) -> anyhow::Result<Vec<Kill>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut kills = Vec::new();
    for time in times {
        tokio::time::sleep_until((start + time.saturating_sub(AHEAD)).into()).await;
        let status = Status::ask(admin).await?;
        // A number from the status may have been given to a stranger since: only the stack's own children are killed.
        let children = proc_stats::descendants(parent);
        let victims: Vec<(String, u32)> = status
            .replicas()
            .into_iter()
            .filter_map(|replica| Some((replica.id.clone(), replica.pid?)))
            .filter(|(_, pid)| children.contains(pid) && !proc_stats::has_ended(*pid))
            .collect();
        if victims.is_empty() {
            continue;
        }
        let (replica, number) = victims[random.random_range(0..victims.len())].clone();
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw).context("a process id is a positive number")?;
        tokio::time::sleep_until((start + time).into()).await;
        let at = start.elapsed();
        kill_process(pid, Signal::KILL).with_context(|| format!("killing process {number}"))?;
        while !proc_stats::has_ended(number) {
            if start.elapsed() > at + END_PATIENCE {
                bail!("process {number} did not end within {END_PATIENCE:?} of its SIGKILL");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kills.push(Kill { replica, at, ended: start.elapsed() });
    }
    Ok(kills)
}
