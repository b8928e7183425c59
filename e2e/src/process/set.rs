//! The processes of one system, in the order in which they were started.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures::future::select_all;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::wait::{WaitError, wait_until};
use super::{Death, Process, Progress, SpawnError};

/// Processes that live and end together. All are killed when it is dropped; [`Self::stop`] is the gentle way.
#[derive(Debug, Default)]
pub struct Processes {
    list: Mutex<Vec<Process>>,
    grown: Notify,
}

impl Processes {
    /// Starts a process and watches it from now on. A name of a process that has ended may be used again; the new one takes
    /// its place in the order.
    ///
    /// # Errors
    /// When it cannot be started, or one of that name still runs.
    pub fn spawn(&self, name: &str, command: Command, log: &Path) -> Result<Process, SpawnError> {
        let mut list = self.list.lock();
        let place = list.iter().position(|process| process.name() == name);
        if place.is_some_and(|place| list[place].is_running()) {
            return Err(SpawnError::Running(name.to_owned()));
        }
        let process = Process::spawn(name, command, log)?;
        match place {
            Some(place) => list[place] = process.clone(),
            None => list.push(process.clone()),
        }
        drop(list);
        self.grown.notify_waiters();
        Ok(process)
    }

    /// The process of a name, running or not.
    pub fn get(&self, name: &str) -> Option<Process> {
        self.list.lock().iter().find(|process| process.name() == name).cloned()
    }

    /// All, in the order in which they were started.
    pub fn all(&self) -> Vec<Process> {
        self.list.lock().clone()
    }

    /// The first process that ended without being asked to.
    pub fn dead(&self) -> Option<Death> {
        self.list.lock().iter().find_map(Process::death)
    }

    /// Waits until a process ends without being asked to.
    pub async fn death(&self) -> Death {
        loop {
            // Registered before the list is read, so that no process started in between goes unwatched.
            let grown = self.grown.notified();
            if let Some(death) = self.dead() {
                return death;
            }
            let running: Vec<_> = self.all().into_iter().filter(Process::is_running).collect();
            if running.is_empty() {
                grown.await;
                continue;
            }
            let ends = running.iter().map(|process| Box::pin(process.ended()));
            tokio::select! {
                _ = select_all(ends) => {}
                () = grown => {}
            }
        }
    }

    /// Like the function [`wait_until`], and fails at once when a process dies meanwhile.
    ///
    /// # Errors
    /// When a process died or the deadline passed; the message says what was waited for.
    pub async fn wait_until<T, E, F>(
        &self,
        what: &str,
        deadline: Duration,
        progress: &Progress,
        probe: impl FnMut() -> F,
    ) -> Result<T, WaitError>
    where
        F: Future<Output = Result<T, E>>,
        E: std::fmt::Display,
    {
        tokio::select! {
            // A process that died explains why the probe fails, so it is looked at first.
            biased;
            death = self.death() => Err(WaitError::Death { what: what.to_owned(), death }),
            ready = wait_until(what, deadline, progress, probe) => ready,
        }
    }

    /// Stops all, the last started first, each with its own `grace` between SIGTERM and SIGKILL. Returns when all are dead.
    pub async fn stop(&self, grace: Duration) {
        for process in self.all().iter().rev() {
            process.stop(grace).await;
        }
        self.list.lock().clear();
    }
}
