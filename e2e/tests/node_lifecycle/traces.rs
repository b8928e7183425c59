//! What a cluster could leave on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The namespaces of a process that a cluster has of its own.
const NAMESPACES: [&str; 5] = ["net", "mnt", "pid", "uts", "ipc"];

/// Settings that change by themselves: counters and random values.
const VOLATILE: [&str; 9] = [
    "kernel/random/",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/aio-nr",
    "fs/quota/",
];

/// What the whole machine shares and no cluster may change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    mounts: Vec<String>,
    interfaces: Vec<String>,
    routes: Vec<String>,
    iptables: Vec<String>,
    sysctls: BTreeMap<PathBuf, Vec<u8>>,
}

/// The processes and namespaces of a running cluster, to be looked for when it is gone.
#[derive(Debug)]
pub(crate) struct Tree {
    processes: BTreeSet<u32>,
    namespaces: BTreeSet<(&'static str, u64)>,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn now() -> Self {
        let mut sysctls = BTreeMap::new();
        settings(Path::new("/proc/sys"), &mut sysctls);
        Self {
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect(),
            interfaces: lines("ip", &["-o", "link"]),
            routes: lines("ip", &["route", "show", "table", "all"]),
            iptables: lines("iptables-save", &[]).into_iter().filter(|line| !is_counted(line)).collect(),
            sysctls,
        }
    }

    /// Fails with the first kind of thing that differs.
    #[track_caller]
    pub(crate) fn assert_same(&self, later: &Self) {
        assert_eq!(self.mounts, later.mounts, "mounts");
        assert_eq!(self.interfaces, later.interfaces, "interfaces");
        assert_eq!(self.routes, later.routes, "routes");
        assert_eq!(self.iptables, later.iptables, "iptables rules");
        for (setting, value) in &self.sysctls {
            let now = later.sysctls.get(setting).map(|now| String::from_utf8_lossy(now));
            assert_eq!(Some(String::from_utf8_lossy(value)), now, "{}", setting.display());
        }
    }
}

// === impl Tree ===

impl Tree {
    /// Everything that shares a namespace with process `init`, and its namespaces.
    pub(crate) fn of(init: u32) -> Self {
        let namespaces: BTreeSet<_> =
            NAMESPACES.iter().filter_map(|kind| Some((*kind, namespace(init, kind)?))).collect();
        let own = std::process::id();
        for (kind, inode) in &namespaces {
            assert_ne!(namespace(own, kind), Some(*inode), "the cluster has a {kind} namespace of its own");
        }
        Self { processes: sharing(&namespaces), namespaces }
    }

    pub(crate) fn processes(&self) -> usize {
        self.processes.len()
    }

    /// The process that runs a program of this name.
    pub(crate) fn find(&self, program: &str) -> Option<u32> {
        let runs = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program);
        self.processes.iter().copied().find(runs)
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> BTreeSet<u32> {
        sharing(&self.namespaces)
    }
}

/// Processes that were started for the cluster with this state folder, wherever they run: all of ours have its path among their
/// arguments.
pub(crate) fn processes_of(state: &Path) -> Vec<u32> {
    let needle = state.to_str().unwrap();
    let names = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|arguments| String::from_utf8_lossy(&arguments).contains(needle))
    };
    pids().into_iter().filter(names).collect()
}

/// Directories of the cluster in any cgroup hierarchy.
pub(crate) fn cgroups_of(root: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    hierarchies
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .map(|mount| mount.join(root))
        .filter(|path| path.exists())
        .collect()
}

fn sharing(namespaces: &BTreeSet<(&'static str, u64)>) -> BTreeSet<u32> {
    let shares = |pid: &u32| namespaces.iter().any(|(kind, inode)| namespace(*pid, kind) == Some(*inode));
    pids().into_iter().filter(shares).collect()
}

fn namespace(pid: u32, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|found| found.ino())
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn lines(program: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Comments with a time, and chains with counters of packets.
fn is_counted(line: &str) -> bool {
    line.starts_with('#') || line.starts_with(':')
}

fn settings(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = path.strip_prefix("/proc/sys").unwrap().to_string_lossy().into_owned();
        if VOLATILE.iter().any(|volatile| name.starts_with(volatile)) {
            continue;
        }
        // Some cannot be read by anybody.
        match entry.file_type().unwrap().is_dir() {
            true => settings(&path, found),
            false => drop(fs::read(&path).map(|value| found.insert(path, value))),
        }
    }
}
