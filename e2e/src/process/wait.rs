//! Waiting for a condition: says for what, shows why it is not met yet, and ends.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Death, Progress};

/// Between two probes: the components become ready within seconds, and a probe costs well below a millisecond.
const BETWEEN_PROBES: Duration = Duration::from_millis(50);

/// What a wait ended with instead of what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It took too long.
    #[error("waited {waited:.1?} for {what}, in vain; last: {last}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// Why the last probe said no.
        last: String,
    },
    /// A process died meanwhile.
    #[error("while waiting for {what}: {death}")]
    Death {
        /// What was waited for.
        what: String,
        /// Which process, how, and what it printed last.
        death: Death,
    },
}

/// Calls `probe` until it gives a value, and tells `progress` why not yet. A probe is given up when the deadline passes.
///
/// # Errors
/// When `deadline` (from now) passes; the message has the reason of the last probe.
pub async fn wait_until<T, E, F>(
    what: &str,
    deadline: Duration,
    progress: &Progress,
    mut probe: impl FnMut() -> F,
) -> Result<T, WaitError>
where
    F: Future<Output = Result<T, E>>,
    E: fmt::Display,
{
    let begin = Instant::now();
    let step = progress.step(what);
    let mut last = "the first probe gave no answer".to_owned();
    loop {
        let left = deadline.saturating_sub(begin.elapsed());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => {
                step.done(&format!("after {:.1?}", begin.elapsed()));
                return Ok(value);
            }
            Ok(Err(reason)) => last = reason.to_string(),
            Err(_) => {}
        }
        // Not the timeout alone: a probe that answers at once is never cut off by one.
        if begin.elapsed() >= deadline {
            return Err(WaitError::Deadline { what: what.to_owned(), waited: begin.elapsed(), last });
        }
        step.note(&last);
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
}
