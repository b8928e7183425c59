//! One replica's process: started, observed, stopped, reaped.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::process::{ChildStdout, Command};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::LocalSettings;
use super::group::ProcessGroup;
use super::lines::{Announced, Lines};
use super::log::LogLine;
use super::metrics::{LocalMetrics, StartOutcome};
use super::store::{StopSignal, Store};
use crate::{ClusterError, Lifecycle, Replica, ReplicaUid};

/// Time that a replica which failed to start has to end by itself, and its stderr to be read to the end: its own exit
/// status and last message say more than our SIGKILL.
const SETTLE: Duration = Duration::from_millis(250);

/// What starting a replica takes.
pub(super) struct Launch {
    pub(super) settings: LocalSettings,
    pub(super) metrics: Arc<LocalMetrics>,
    pub(super) refills: Arc<Semaphore>,
    pub(super) cold_starts: Arc<Semaphore>,
}

// === impl Slots ===

/// Room for replicas. A slot is held from a replica's creation until its record and its process are gone.
#[derive(Clone)]
pub(super) struct Slots {
    limit: usize,
    taken: Arc<watch::Sender<usize>>,
    metrics: Arc<LocalMetrics>,
}

/// One replica's room, given back when dropped.
pub(super) struct Slot(Slots);

impl Slots {
    pub(super) fn new(limit: usize, metrics: Arc<LocalMetrics>) -> Self {
        metrics.replicas_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        Self { limit, taken: Arc::new(watch::Sender::new(0)), metrics }
    }

    pub(super) fn take(&self) -> Result<Slot, ClusterError> {
        let taken = self.taken.send_if_modified(|taken| {
            let room = *taken < self.limit;
            *taken += usize::from(room);
            room
        });
        if !taken {
            return Err(ClusterError::NoCapacity(format!("this machine's limit is {} replicas", self.limit)));
        }
        self.metrics.replicas.inc();
        Ok(Slot(self.clone()))
    }

    pub(super) async fn all_free(&self) {
        // It cannot fail: `self` holds the sender.
        let _ = self.taken.subscribe().wait_for(|taken| *taken == 0).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.metrics.replicas.dec();
        self.0.taken.send_modify(|taken| *taken -= 1);
    }
}

// === impl Supervisor ===

struct Supervisor {
    launch: Arc<Launch>,
    /// Weak: a running process must not keep the cluster alive, or nothing would ever stop it.
    store: Weak<Store>,
    uid: ReplicaUid,
    name: String,
    cold_start: bool,
    created: std::time::SystemTime,
    /// The last thing it said on stderr: the best reason there is for an exit.
    last_words: Arc<Mutex<String>>,
}

/// Runs the replica's process until `stop`, then gives `slot` back.
pub(super) fn supervise(launch: &Arc<Launch>, store: &Arc<Store>, replica: &Replica, stop: StopSignal, slot: Slot) {
    let supervisor = Supervisor {
        launch: Arc::clone(launch),
        store: Arc::downgrade(store),
        uid: replica.uid.clone(),
        name: replica.name.clone(),
        cold_start: replica.claim.is_some(),
        created: replica.created,
        last_words: Arc::default(),
    };
    tokio::spawn(async move {
        supervisor.run(stop).await;
        drop(slot);
    });
}

impl Supervisor {
    async fn run(self, mut stop: StopSignal) {
        let spawns = if self.cold_start { &self.launch.cold_starts } else { &self.launch.refills };
        let permit = tokio::select! {
            permit = spawns.acquire() => permit,
            _ = &mut stop => return self.launch.metrics.count_start(StartOutcome::Stopped),
        };
        let (mut processes, mut stderr) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => {
                let program = self.launch.settings.wrapper.display();
                self.exited(format!("cannot run {program}: {error}"));
                self.launch.metrics.count_start(StartOutcome::Failed);
                drop(permit);
                let _ = stop.await;
                return;
            }
        };
        let leader = processes.leader();
        let pid = leader.id();
        self.observe(|replica| replica.pid = pid);
        // Waiting for a child closes its stdin, whose end means our death to it: hold it apart.
        let _stdin = leader.stdin.take();
        let Some(stdout) = leader.stdout.take() else { unreachable!("stdout was asked to be a pipe") };
        let mut stdout = Lines::new(stdout);

        let started = tokio::select! {
            started = self.start(&mut processes, &mut stdout) => started,
            _ = &mut stop => {
                self.launch.metrics.count_start(StartOutcome::Stopped);
                self.terminate(&mut processes).await;
                return;
            }
        };
        drop(permit);
        if let Err(reason) = started {
            self.launch.metrics.count_start(StartOutcome::Failed);
            let status = match tokio::time::timeout(SETTLE, processes.ended()).await {
                Ok(status) => status,
                Err(_) => processes.kill().await,
            };
            self.exited(format!("{reason} ({})", self.describe(status.ok(), &mut stderr).await));
            let _ = stop.await;
            return;
        }
        self.launch.metrics.count_start(StartOutcome::Ready);

        tokio::select! {
            status = processes.ended() => {
                self.exited(self.describe(status.ok(), &mut stderr).await);
                let _ = stop.await;
            }
            _ = &mut stop => self.terminate(&mut processes).await,
            never = self.echo(&mut stdout) => match never {},
        }
    }

    /// Its processes, and the task that reads its stderr to the end.
    fn spawn(&self) -> std::io::Result<(ProcessGroup, JoinHandle<()>)> {
        let settings = &self.launch.settings;
        let mut command = Command::new(&settings.wrapper);
        command
            .args(["--pooled", "--exit-on-stdin-close"])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
            .args(["--claim-key", &settings.claim_key, "--pod-uid", &self.uid.0])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KFERVING_") {
                command.env_remove(name);
            }
        }
        command.envs(&settings.environment);
        // Their own group: Ctrl-C reaches this process only, which then stops its replicas in order.
        let mut processes = ProcessGroup::spawn(&mut command)?;
        let Some(stderr) = processes.leader().stderr.take() else { unreachable!("stderr was asked to be a pipe") };
        let name = self.name.clone();
        let last_words = Arc::clone(&self.last_words);
        let echo = tokio::spawn(async move {
            let mut lines = Lines::new(stderr);
            while let Some(line) = lines.next().await {
                let line = LogLine::read(line);
                line.repeat(&name);
                *last_words.lock() = line.text;
            }
        });
        Ok((processes, echo))
    }

    /// Waits until the replica is ready; the reason why it never will be otherwise.
    async fn start(&self, processes: &mut ProcessGroup, stdout: &mut Lines<ChildStdout>) -> Result<(), String> {
        let timeout = self.launch.settings.start_timeout;
        let mut announced = pin!(announced(stdout));
        let announced = async {
            tokio::select! {
                announced = announced.as_mut() => announced,
                // With what it started gone too, all that is announced is in the pipe.
                _ = processes.ended() => announced.await,
            }
        };
        let announced = tokio::time::timeout(timeout, announced)
            .await
            .map_err(|_| format!("it was not ready after {timeout:?}"))??;
        let startup = self.created.elapsed().unwrap_or(Duration::ZERO);
        self.launch.metrics.startup.observe(startup.as_secs_f64());
        self.observe(|replica| {
            replica.lifecycle = announced;
            replica.startup = Some(startup);
        });
        Ok(())
    }

    /// Keeps stdout empty, so that a replica that writes to it does not block.
    async fn echo(&self, stdout: &mut Lines<ChildStdout>) -> Infallible {
        while let Some(line) = stdout.next().await {
            LogLine::read(line).repeat(&self.name);
        }
        std::future::pending().await
    }

    /// SIGTERM, the grace, SIGKILL; returns when the process is reaped and what it started is killed.
    async fn terminate(&self, processes: &mut ProcessGroup) {
        processes.signal(Signal::TERM);
        let grace = self.launch.settings.stop_grace;
        if tokio::time::timeout(grace, processes.ended()).await.is_err() {
            tracing::warn!(replica = %self.name, ?grace, "did not end after SIGTERM: killing it");
            self.launch.metrics.kills.inc();
            let _ = processes.kill().await;
        }
    }

    async fn describe(&self, status: Option<ExitStatus>, stderr: &mut JoinHandle<()>) -> String {
        // What it wrote last may still be in the pipe; the bound is for a process of its own that holds the pipe open.
        let _ = tokio::time::timeout(SETTLE, stderr).await;
        // `ExitStatus` prints both forms: "exit status: 1" and "signal: 9 (SIGKILL)".
        let status = status.map_or_else(|| "exit status unknown".to_owned(), |status| status.to_string());
        let words = self.last_words.lock();
        if words.is_empty() { status } else { format!("{status}; last message: {words}") }
    }

    fn exited(&self, reason: String) {
        tracing::warn!(replica = %self.name, %reason, "replica ended");
        self.observe(|replica| replica.lifecycle = Lifecycle::Exited { reason });
    }

    fn observe(&self, change: impl FnOnce(&mut Replica)) {
        if let Some(store) = self.store.upgrade() {
            store.observe(&self.uid, change);
        }
    }
}

async fn announced(stdout: &mut Lines<ChildStdout>) -> Result<Lifecycle, String> {
    let mut announced = Announced::default();
    while let Some(line) = stdout.next().await {
        announced.read(&line)?;
        if let Some(traffic) = announced.ready {
            let admin = address_of("admin", announced.admin)?;
            let metrics = address_of("metrics", announced.metrics)?;
            return Ok(Lifecycle::Ready { traffic, admin, metrics });
        }
    }
    Err("it ended before it was ready".to_owned())
}

fn address_of(what: &str, address: Option<SocketAddr>) -> Result<SocketAddr, String> {
    address.ok_or_else(|| format!("it announced `ready` without `{what}`"))
}
