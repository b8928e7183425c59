//! Starting the process tree of a cluster in namespaces of its own, and commands inside them.
//!
//! `unshare` makes net, mount, pid, uts and ipc namespaces and forks process 1 of them, which is this program again. The
//! cluster's cgroups are not hidden from it: the kubelet's paths are the machine's.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::record::{Identity, children};
use super::settings::{Place, UpSettings};

/// The hidden subcommand that runs as process 1.
pub const INIT: &str = "init";

/// `unshare` forks within milliseconds of its start.
const FORK_DEADLINE: Duration = Duration::from_secs(10);

/// Pause between two looks for the forked process.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A process tree that was just started.
#[derive(Debug)]
pub(super) struct Tree {
    /// `unshare`; it ends when process 1 does.
    pub child: Child,
    /// It again.
    pub outer: Identity,
    /// Process 1, by its number outside.
    pub init: Identity,
    /// To the processes inside. While the cluster starts, they end when this is closed.
    pub control: UnixStream,
}

/// Starts process 1 in new namespaces. `relay` becomes its standard input: it listens in the caller's network, so that nothing
/// outside has to run for the cluster to be reachable.
///
/// # Errors
/// When the namespaces cannot be made.
pub(super) fn start(settings: &UpSettings, relay: TcpListener) -> anyhow::Result<Tree> {
    let place = &settings.place;
    let (control, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
    let log =
        OpenOptions::new().create(true).append(true).open(place.own_log()).context("cannot open the cluster's log")?;
    // setsid: no signal of the caller's terminal reaches the tree. --kill-child is SIGKILL by default, which unlike SIGTERM
    // `unshare --fork` cannot block.
    let mut child = Command::new("setsid")
        .args(["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child"])
        .arg(&settings.executable)
        .args(place_arguments(place))
        .arg(INIT)
        .args(knative_arguments(settings.knative_dir.as_deref()))
        .stdin(Stdio::from(OwnedFd::from(relay)))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(log)
        .spawn()
        .context("cannot run setsid")?;
    let found = find(&mut child);
    if found.is_err() {
        // Best effort: the error that led here is the one to tell.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (outer, init) = found?;
    Ok(Tree { child, outer, init, control })
}

/// Arguments with which this program means the same cluster.
pub(super) fn place_arguments(place: &Place) -> [&OsStr; 4] {
    ["--name".as_ref(), place.name().as_ref(), "--state".as_ref(), place.state().as_os_str()]
}

/// Arguments with which this program takes Knative from the same folder.
pub(super) fn knative_arguments(dir: Option<&Path>) -> impl Iterator<Item = &OsStr> {
    dir.into_iter().flat_map(|dir| ["--knative-dir".as_ref(), dir.as_os_str()])
}

/// Which namespaces a command enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// All: it sees the cluster's processes only. It is a grandchild then: a signal to the `nsenter` does not reach it.
    All,
    /// Net and mount: enough to call everything in the cluster, and the program stays a direct child.
    NetworkAndFiles,
}

/// A command that runs `program` in the namespaces of process 1, in the caller's working directory.
pub(super) fn enter(init: Identity, inside: Inside, program: &OsStr) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--target={}", init.pid())).args(["--net", "--mount"]);
    if inside == Inside::All {
        command.args(["--pid", "--uts", "--ipc"]);
    }
    if let Ok(folder) = std::env::current_dir() {
        let mut option = std::ffi::OsString::from("--wdns=");
        option.push(folder);
        command.arg(option);
    }
    command.arg("--").arg(program);
    command
}

fn find(outer: &mut Child) -> anyhow::Result<(Identity, Identity)> {
    let deadline = Instant::now() + FORK_DEADLINE;
    while Instant::now() < deadline {
        if let Some(status) = outer.try_wait().context("cannot wait for unshare")? {
            bail!("unshare ended at once ({status})");
        }
        if let Some(init) = children(outer.id()).first() {
            let outer = Identity::of(outer.id()).context("unshare ended at once")?;
            return Ok((outer, *init));
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    bail!("unshare forks no process within {FORK_DEADLINE:?}")
}
