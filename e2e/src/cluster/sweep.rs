//! Removing what a cluster leaves: when it is stopped, and before the next start where an earlier one was cut short.
//!
//! Mounts, interfaces, iptables rules and sockets live in the cluster's namespaces and end with its last process. What does not
//! are cgroups and files.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cgroups::{self, Hierarchy};
use super::record::{Identity, Record};
use super::settings::Place;

/// The kernel ends a whole tree within a second; a machine that swaps takes longer.
const DEATH_DEADLINE: Duration = Duration::from_secs(30);

/// Pause between two looks whether all is dead.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// What is removed in the state folder, and nothing else there. The logs stay, for whoever wants to know what happened.
const REMOVED: [&str; 5] = ["cluster.json", "cluster.json.new", "kubeconfig", "bin", "data"];

/// Kills what runs of the cluster and removes its cgroups and its state. Nothing happens where nothing is left.
///
/// # Errors
/// When something cannot be removed; the message names it.
pub(super) fn sweep(place: &Place) -> anyhow::Result<()> {
    let hierarchies = cgroups::hierarchies()?;
    let record = Record::load(place);
    kill(&hierarchies, place, record.as_ref())?;
    cgroups::remove(&hierarchies, &place.cgroup_root())?;
    for entry in REMOVED {
        remove(&place.path(entry))?;
    }
    Ok(())
}

/// Makes an empty folder for the logs. Those of the start before stay aside: a crash is often looked for after the next attempt.
///
/// # Errors
/// When the state folder cannot be written.
pub(super) fn rotate_logs(place: &Place) -> anyhow::Result<()> {
    let (logs, previous) = (place.logs(), place.path("log.previous"));
    if logs.exists() {
        remove(&previous)?;
        std::fs::rename(&logs, &previous).context("cannot put the earlier logs aside")?;
    }
    std::fs::create_dir_all(&logs).context("cannot make the folder of the logs")
}

fn kill(hierarchies: &[Hierarchy], place: &Place, record: Option<&Record>) -> anyhow::Result<()> {
    let ours = record.filter(|record| record.is_alive());
    // While its process 1 lives, the namespaces are surely the cluster's: whoever entered them would keep them.
    let visitors = ours.map(|record| sharing_network(record.init)).unwrap_or_default();
    if let Some(record) = record {
        record.kill().context("cannot kill the cluster")?;
    }
    let known: Vec<Identity> =
        ours.into_iter().flat_map(|record| [record.init, record.outer]).chain(visitors).collect();
    let deadline = Instant::now() + DEATH_DEADLINE;
    loop {
        let mut left: BTreeSet<Identity> = known.iter().copied().filter(|process| process.is_running()).collect();
        // Its cgroups tell what a lost record does not.
        left.extend(cgroups::processes(hierarchies, &place.cgroup_root()).into_iter().filter_map(Identity::of));
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let numbers: Vec<_> = left.iter().map(|process| process.pid()).collect();
            bail!("these processes do not die within {DEATH_DEADLINE:?}: {numbers:?}");
        }
        // The parent of process 1 reaps it and ends by itself, in this order.
        let outer = ours.map(|record| record.outer);
        for process in left.into_iter().filter(|process| Some(*process) != outer) {
            process.kill().with_context(|| format!("cannot kill process {}", process.pid()))?;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// The processes in the network namespace of `init`.
fn sharing_network(init: Identity) -> Vec<Identity> {
    let network =
        |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/net")).map(|found| (found.dev(), found.ino())).ok();
    let Some(ours) = network(&init.pid().to_string()) else { return Vec::new() };
    // Never the caller's own: it would be if process 1 had not left the machine's namespace.
    if network("self") == Some(ours) {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| network(name) == Some(ours)).filter_map(|name| Identity::of(name.parse().ok()?)).collect()
}

fn remove(path: &PathBuf) -> anyhow::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clusters_own_entries_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("sweep-test", Some(folder.path())).unwrap();
        std::fs::create_dir_all(place.data("kubelet/pods")).unwrap();
        std::fs::create_dir_all(place.logs()).unwrap();
        std::fs::create_dir(place.tools()).unwrap();
        std::os::unix::fs::symlink("/bin/true", place.tools().join("kubectl")).unwrap();
        for file in ["cluster.json", "kubeconfig", "cluster.lock", "log/kubelet.log", "notes.txt"] {
            std::fs::write(place.path(file), "not a record").unwrap();
        }
        sweep(&place).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["cluster.lock", "log", "notes.txt"]);
        sweep(&place).expect("nothing is left to do");
    }

    #[test]
    fn the_logs_of_one_earlier_start_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("a", Some(folder.path())).unwrap();
        for start in ["first", "second", "third"] {
            rotate_logs(&place).unwrap();
            std::fs::write(place.logs().join("etcd.log"), start).unwrap();
        }
        assert_eq!(std::fs::read_to_string(place.path("log.previous/etcd.log")).unwrap(), "second");
        assert_eq!(std::fs::read_to_string(place.path("log/etcd.log")).unwrap(), "third");
    }

    #[test]
    fn the_own_network_is_never_swept() {
        let own = Identity::of(std::process::id()).unwrap();
        assert_eq!(sharing_network(own), []);
    }
}
