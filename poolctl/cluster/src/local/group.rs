//! A model server's process and those that it starts: it may be a script around the real one.

use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// A process that leads a group of its own. As in a container, its end is the end of all that it started: what is left of the
/// group is killed, by [`ProcessGroup::ended`] or when this is dropped.
pub struct ProcessGroup {
    leader: Child,
    pid: Pid,
}

impl ProcessGroup {
    /// Starts the leader.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let leader = command.process_group(0).spawn()?;
        let pid = leader.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.expect("a process that nobody has waited for has a number");
        Ok(Self { leader, pid })
    }

    /// The leader, for its number and its pipes.
    pub fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Waits for the leader's end, kills what is left of its group, and reaps it. May be dropped and called again.
    ///
    /// # Errors
    /// The system does not tell of its end.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        // Before the first look, so that no end is missed. It tells of every child: at most as many looks as there are replicas.
        let mut children = signal(SignalKind::child())?;
        // The child's own future would reap it, and its group would be out of reach.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while self.leader.id().is_some() && waitid(WaitId::Pid(self.pid), look)?.is_none() {
            children.recv().await;
        }
        self.signal(Signal::KILL);
        self.leader.wait().await
    }

    /// Kills the whole group, and reaps the leader.
    ///
    /// # Errors
    /// The system does not tell of its end.
    pub async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.ended().await
    }

    /// Signals every process of the group. Nothing happens once the leader is reaped: only until then is the group's number
    /// certainly its own.
    pub(super) fn signal(&self, signal: Signal) {
        if self.leader.id().is_none() {
            return;
        }
        if let Err(error) = kill_process_group(self.pid, signal) {
            tracing::error!(pid = %self.pid, ?signal, %error, "cannot signal a model server's processes");
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
