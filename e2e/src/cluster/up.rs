//! Starting and stopping a cluster.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::control::ComponentState;
use super::handle::Cluster;
use super::handshake::{self, Report};
use super::lock::lock;
use super::materials::Materials;
use super::namespaces::{self, Tree};
use super::record::{Phase, Record, boot_id};
use super::settings::{Place, UpSettings};
use super::{cgroups, kubeconfig, prerequisites, sweep};
use crate::process::{Progress, unless_interrupted};

/// How often the log of a starting cluster is looked at.
const FOLLOW: Duration = Duration::from_millis(50);

/// What `up` found or made.
#[derive(Clone, Debug)]
pub enum Started {
    /// It ran already; the components that had ended and were started again.
    Already(Cluster, Vec<String>),
    /// It was started, in this time from built binaries to usable.
    Now(Cluster, Duration),
}

/// Makes the cluster usable: builds what is missing, starts it, and leaves it running. Where it runs already nothing happens,
/// except that components which have ended are named and started again.
///
/// # Errors
/// When something is missing on this machine, or a component does not come up: then nothing is left running, and the message
/// has the end of its log.
pub async fn up(settings: &UpSettings, progress: &Progress) -> anyhow::Result<Started> {
    let _lock = lock(&settings.place, progress).await?;
    match begin(settings, progress).await? {
        Begun::Already(started) => Ok(started),
        Begun::Now(mut bound) => {
            handshake::keep(&mut bound.control).await?;
            Ok(Started::Now(bound.cluster, bound.time))
        }
    }
}

/// Runs `command` while the cluster is usable. One that ran already stays; one that was started for it ends with it, and at the
/// latest with the caller, however that ends.
///
/// # Errors
/// Those of [`up`], and when the command cannot be run.
pub async fn during(settings: &UpSettings, progress: &Progress, mut command: Command) -> anyhow::Result<ExitStatus> {
    let place = &settings.place;
    let lock_of_start = lock(place, progress).await?;
    let begun = begin(settings, progress).await?;
    // The command may want to use `up` itself, and finds nothing to do.
    drop(lock_of_start);
    command
        .env("KUBECONFIG", place.kubeconfig())
        .env("KFERVING_CLUSTER", place.name())
        .env("KFERVING_CLUSTER_STATE", place.state())
        .kill_on_drop(true);
    let program = command.as_std().get_program().to_owned();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let ended = async {
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        loop {
            tokio::select! {
                status = child.wait() => return status.context("cannot wait for the command"),
                _ = terminated.recv() => return Err(anyhow::anyhow!("terminated")),
                // The terminal sends it to the command too, which decides.
                _ = interrupted.recv() => {}
            }
        }
    };
    let ended = ended.await;
    if let Begun::Now(_) = begun {
        down(place, progress).await?;
    }
    ended
}

/// A cluster that was found or started.
enum Begun {
    Already(Started),
    Now(Bound),
}

/// A cluster that was started, and ends when this is dropped.
struct Bound {
    cluster: Cluster,
    time: Duration,
    control: UnixStream,
}

async fn begin(settings: &UpSettings, progress: &Progress) -> anyhow::Result<Begun> {
    let place = &settings.place;
    if let Some(cluster) = Cluster::running(place) {
        let revived = revive(&cluster, progress).await?;
        return Ok(Begun::Already(Started::Already(cluster, revived)));
    }
    prerequisites::check()?;
    sweep::sweep(place).context("cannot remove what an earlier start left")?;
    sweep::rotate_logs(place)?;
    // Built here, where the network is; the processes inside find it all done.
    let gathering = Materials::gather(place, settings.knative_dir.as_deref(), progress);
    let kubectl = unless_interrupted(gathering).await?.binaries.path("kubectl")?;

    let begin = Instant::now();
    match unless_interrupted(start(settings, &kubectl, progress)).await {
        Ok((cluster, control)) => Ok(Begun::Now(Bound { cluster, time: begin.elapsed(), control })),
        Err(error) => {
            sweep::sweep(place).with_context(|| format!("{error:#}; and then it could not be removed"))?;
            Err(error.context(format!("cluster {} was not started (logs: {})", place.name(), place.logs().display())))
        }
    }
}

/// Stops the cluster and removes all of it but its logs. Whether one ran.
///
/// # Errors
/// When something of it cannot be removed.
pub async fn down(place: &Place, progress: &Progress) -> anyhow::Result<bool> {
    let record = Record::load(place);
    let ran = record.as_ref().is_some_and(Record::is_alive);
    if let Some(record) = record.filter(|record| record.phase == Phase::Starting) {
        // Whoever starts it notices and gives the lock back.
        record.kill()?;
    }
    let _lock = lock(place, progress).await?;
    sweep::sweep(place)?;
    Ok(ran)
}

/// Starts again what has ended by itself; the names.
async fn revive(cluster: &Cluster, progress: &Progress) -> anyhow::Result<Vec<String>> {
    let mut revived = Vec::new();
    for component in cluster.components().await? {
        match component.state {
            ComponentState::Running(_) => continue,
            ComponentState::Stopped => progress.say(&format!("{} was stopped; it is started again", component.name)),
            ComponentState::Dead(how) => progress.say(&format!("{how}\nit is started again")),
        }
        cluster.start(&component.name).await?;
        revived.push(component.name);
    }
    Ok(revived)
}

async fn start(settings: &UpSettings, kubectl: &Path, progress: &Progress) -> anyhow::Result<(Cluster, UnixStream)> {
    let place = &settings.place;
    std::fs::create_dir_all(place.state().join("data")).context("cannot make the folder of the cluster's files")?;
    cgroups::create(&cgroups::hierarchies()?, &place.cgroup_root())?;
    let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback interface")?;
    let port = relay.local_addr()?.port();
    let Tree { mut child, outer, init, control } = namespaces::start(settings, relay)?;
    let mut record = Record {
        boot: boot_id(),
        phase: Phase::Starting,
        outer,
        init,
        port,
        knative_dir: settings.knative_dir.clone(),
    };
    record.save(place).context("cannot write the cluster's record")?;
    control.set_nonblocking(true)?;
    let mut control = UnixStream::from_std(control)?;

    let mut log = Follower::open(place)?;
    let report = tokio::select! {
        report = handshake::reported(&mut control) => report,
        never = log.follow(progress) => match never {},
    };
    log.tell(progress);
    match report? {
        Some(Report::Ready) => {}
        Some(Report::Failed(reason)) => bail!(reason),
        None => bail!("its processes ended ({}); see above", child.wait().context("cannot wait for unshare")?),
    }
    kubeconfig::write_outside(place, port)?;
    std::fs::create_dir_all(place.tools()).context("cannot make the folder of the caller's tools")?;
    std::os::unix::fs::symlink(kubectl, place.tools().join("kubectl")).context("cannot link kubectl")?;
    // Before the word that it is to stay: killed in between, we leave a record of a cluster that ended, which the next start sweeps.
    record.phase = Phase::Ready;
    record.save(place).context("cannot write the cluster's record")?;
    Ok((Cluster::get(place)?, control))
}

/// Tells the progress what the processes inside print.
struct Follower {
    file: File,
    partial: Vec<u8>,
}

// === impl Follower ===

impl Follower {
    fn open(place: &Place) -> anyhow::Result<Self> {
        let path: PathBuf = place.own_log();
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { file, partial: Vec::new() })
    }

    async fn follow(&mut self, progress: &Progress) -> std::convert::Infallible {
        loop {
            self.tell(progress);
            tokio::time::sleep(FOLLOW).await;
        }
    }

    fn tell(&mut self, progress: &Progress) {
        // An unreadable log is no reason to give up a start.
        let _ = self.file.read_to_end(&mut self.partial);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            progress.say(String::from_utf8_lossy(&line).trim_end());
        }
    }
}
