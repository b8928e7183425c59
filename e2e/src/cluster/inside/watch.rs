//! Names components that end after the start, in the cluster's own log.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use crate::process::{Processes, Progress};

/// How often it is looked. A dead component is also named by `status` and the next `up`, which look themselves.
const EVERY: Duration = Duration::from_secs(1);

/// Tells each death once.
pub(super) async fn deaths(processes: &Processes, progress: &Progress) -> Infallible {
    let mut told = BTreeSet::new();
    loop {
        for process in processes.all() {
            // By number too: a component that was started again may die again.
            if let Some(death) = process.death()
                && told.insert((process.name().to_owned(), process.pid()))
            {
                progress.say(&death.to_string());
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
