//! Child processes with a log each, whose end is noticed and named.
//!
//! None outlives the program that started it, however that one ends: the kernel kills a child when its parent dies
//! (`PR_SET_PDEATHSIG`). That signal belongs to the *thread* that forked, so every child is forked by a thread of its own, which
//! lives until the child is dead; a runtime that shuts its worker threads down takes no process with it.

mod death;
mod interrupt;
mod progress;
mod set;
mod wait;

#[cfg(test)]
mod tests;

pub use death::Death;
pub use interrupt::unless_interrupted;
pub use progress::{Progress, Step};
pub use set::Processes;
pub use wait::{WaitError, wait_until};

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::watch;

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its log cannot be written.
    #[error("the log {} of {name} cannot be opened: {source}", path.display())]
    Log {
        /// Name of the process.
        name: String,
        /// The log file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program cannot be run.
    #[error("{name} ({}) cannot be started: {source}", program.display())]
    Start {
        /// Name of the process.
        name: String,
        /// The program that was to run.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A process of this name still runs.
    #[error("{0} runs already: stop it before it is started again")]
    Running(String),
}

/// A child process. Clones are handles of the same one; it is killed when the last is dropped.
#[derive(Clone, Debug)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    log: PathBuf,
    pid: Pid,
    life: Arc<Mutex<Life>>,
    status: watch::Receiver<Option<ExitStatus>>,
}

/// What may still be done to a child.
#[derive(Debug, Default)]
struct Life {
    /// We asked it to end: its end is no death.
    asked: bool,
    /// Its number may belong to another process by now and is signalled no more.
    reaped: bool,
}

// === impl Process ===

impl Process {
    /// Starts `command` in a process group of its own. What it prints is appended to `log`; it reads nothing.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be run.
    pub fn spawn(name: &str, command: Command, log: &Path) -> Result<Self, SpawnError> {
        let program = PathBuf::from(command.get_program());
        let command = with_log(command, log).map_err(|source| SpawnError::Log {
            name: name.to_owned(),
            path: log.to_owned(),
            source,
        })?;
        let failed = |source| SpawnError::Start { name: name.to_owned(), program: program.clone(), source };
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let (ended, status) = watch::channel(None);
        let life = Arc::<Mutex<Life>>::default();
        let shared = Arc::clone(&life);
        std::thread::Builder::new()
            .name(format!("child {name}"))
            .spawn(move || parent(command, &shared, &started, &ended))
            .map_err(failed)?;
        let pid = start.recv().expect("the thread reports a start or its failure").map_err(failed)?;
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), log: log.to_owned(), pid, life, status }) })
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The file with what it printed.
    pub fn log(&self) -> &Path {
        &self.inner.log
    }

    /// Its process id, which is also that of its process group.
    pub fn pid(&self) -> u32 {
        self.inner.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.inner.status.borrow().is_none()
    }

    /// Its death, if it ended without being asked to.
    pub fn death(&self) -> Option<Death> {
        let status = (*self.inner.status.borrow())?;
        let asked = self.inner.life.lock().asked;
        (!asked).then(|| Death::of(&self.inner.name, status, &self.inner.log))
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn ended(&self) -> ExitStatus {
        let mut status = self.inner.status.clone();
        let ended = status.wait_for(Option::is_some).await.expect("the thread publishes the status before it ends");
        ended.expect("waited until there is one")
    }

    /// Sends a signal to its process group. Nothing happens when it has ended already.
    pub fn signal(&self, signal: Signal) {
        self.inner.signal(signal, Intent::Other);
    }

    /// SIGKILL to its process group; returns when it is dead. Its end is no [`Death`].
    pub async fn kill(&self) {
        self.inner.signal(Signal::KILL, Intent::End);
        self.ended().await;
    }

    /// SIGTERM, then SIGKILL after `grace`; returns when it is dead. Its end is no [`Death`].
    pub async fn stop(&self, grace: Duration) -> ExitStatus {
        self.inner.signal(Signal::TERM, Intent::End);
        match tokio::time::timeout(grace, self.ended()).await {
            Ok(status) => status,
            Err(_) => {
                tracing::warn!(process = self.name(), ?grace, "did not stop in time: killed");
                self.kill().await;
                self.ended().await
            }
        }
    }
}

// === impl Inner ===

impl Inner {
    fn signal(&self, signal: Signal, intent: Intent) {
        let mut life = self.life.lock();
        if life.reaped {
            return;
        }
        life.asked |= intent == Intent::End;
        // It may just have ended: then it is a zombie, which no signal reaches.
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.signal(Signal::KILL, Intent::End);
    }
}

/// What a signal is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    End,
    Other,
}

/// The life of a child, on the thread that forks it.
fn parent(
    mut command: Command,
    life: &Mutex<Life>,
    started: &std::sync::mpsc::SyncSender<std::io::Result<Pid>>,
    ended: &watch::Sender<Option<ExitStatus>>,
) {
    let report = |start| started.send(start).expect("the starting thread waits for the report");
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return report(Err(error)),
    };
    let pid = Pid::from_child(&child);
    report(Ok(pid));
    // Without reaping it: its number must not be given away while others may signal it.
    let left = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), left) {}
    let status = reap(&mut child, pid, &mut life.lock());
    ended.send_replace(Some(status));
}

fn reap(child: &mut Child, pid: Pid, life: &mut Life) -> ExitStatus {
    // What it left in its group goes with it: the group's number is safe while its leader is a zombie.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    life.reaped = true;
    child.wait().expect("an own child that nobody else reaps can be waited for")
}

/// Sends the output to the log, gives the command its own process group and the death of its parent.
fn with_log(mut command: Command, log: &Path) -> std::io::Result<Command> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    die_with_parent(&mut command);
    Ok(command)
}

#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above: then nobody would ever send the signal.
        if rustix::process::getppid() != Some(parent) {
            return Err(rustix::io::Errno::SRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes two system calls (prctl,
    // getppid) through rustix, which neither allocates nor locks, and its error is built from a number.
    unsafe { command.pre_exec(before_exec) };
}
