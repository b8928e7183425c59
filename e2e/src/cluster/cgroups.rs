//! The cluster's directories in the machine's cgroup hierarchies: made before it starts, removed when it is gone.
//!
//! Each cluster has a root of its own in every hierarchy, and the kubelet is told to stay below it: two kubelets with one root
//! clean up each other's pods.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Directory for the processes of the cluster that are not in pods.
const SYSTEM: &str = "system";

/// The controllers by which the kubelet and runc limit pods. With version 2, the kubelet refuses a root that lacks one of those that
/// the machine has.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// A cgroup that was just emptied can be busy for a moment longer.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(10);

/// Pause between two attempts of a removal.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    mount: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Version 1; whether the `cpuset` controller is in it.
    One { cpuset: bool },
    /// Version 2, with these controllers: none where version 1 has them all.
    Two { controllers: Vec<String> },
}

/// The hierarchies of this machine.
///
/// # Errors
/// When none is mounted.
pub(super) fn hierarchies() -> anyhow::Result<Vec<Hierarchy>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let found = parse_mounts(&mounts, |mount| {
        let controllers = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        controllers.split_ascii_whitespace().map(str::to_owned).collect()
    });
    anyhow::ensure!(
        !found.is_empty(),
        "no cgroup hierarchy is mounted below /sys/fs/cgroup: a kubelet cannot run here"
    );
    Ok(found)
}

/// Makes the cluster's root in each hierarchy, ready for a kubelet.
///
/// # Errors
/// When a directory cannot be made or a controller not be enabled.
pub(super) fn create(hierarchies: &[Hierarchy], root: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies {
        let system = hierarchy.mount.join(root).join(SYSTEM);
        std::fs::create_dir_all(&system).with_context(|| format!("cannot make the cgroup {}", system.display()))?;
        match &hierarchy.kind {
            Kind::One { cpuset: true } => fill_cpuset(&hierarchy.mount, root)?,
            Kind::One { cpuset: false } => {}
            Kind::Two { controllers } => enable(&hierarchy.mount, root, controllers)?,
        }
    }
    Ok(())
}

/// Puts the calling process into the cluster's directory in each hierarchy.
///
/// # Errors
/// When a hierarchy refuses it.
pub(super) fn enter(hierarchies: &[Hierarchy], root: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies {
        let file = hierarchy.mount.join(root).join(SYSTEM).join("cgroup.procs");
        std::fs::write(&file, "0").with_context(|| format!("cannot enter the cgroup of {}", file.display()))?;
    }
    Ok(())
}

/// Processes in any of the cluster's directories. A start that lost its record left them.
pub(super) fn processes(hierarchies: &[Hierarchy], root: &str) -> Vec<u32> {
    let mut found: Vec<u32> = directories(hierarchies, root)
        .iter()
        .filter_map(|directory| std::fs::read_to_string(directory.join("cgroup.procs")).ok())
        .flat_map(|list| list.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes the cluster's directories. Nothing happens where there are none.
///
/// # Errors
/// When one is still in use after some seconds.
pub(super) fn remove(hierarchies: &[Hierarchy], root: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + REMOVAL_DEADLINE;
    for directory in directories(hierarchies, root) {
        loop {
            match std::fs::remove_dir(&directory) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(_) if Instant::now() < deadline => std::thread::sleep(BETWEEN_ATTEMPTS),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot remove the cgroup {}", directory.display()));
                }
            }
        }
    }
    Ok(())
}

/// The cluster's directories in the order of removal: the deepest first.
fn directories(hierarchies: &[Hierarchy], root: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies {
        let top = hierarchy.mount.join(root);
        if top.is_dir() {
            below(&top, &mut found);
            found.push(top);
        }
    }
    found
}

fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    // A directory that vanishes meanwhile needs no removal.
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        below(&entry.path(), found);
        found.push(entry.path());
    }
}

/// A version 1 cpuset begins empty and takes no process until it is filled from its parent.
fn fill_cpuset(mount: &Path, root: &str) -> anyhow::Result<()> {
    let mut parent = mount.to_owned();
    for step in [root, SYSTEM] {
        let child = parent.join(step);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let value = std::fs::read_to_string(parent.join(file))
                .with_context(|| format!("cannot read {}", parent.join(file).display()))?;
            std::fs::write(child.join(file), value.trim())
                .with_context(|| format!("cannot write {}", child.join(file).display()))?;
        }
        parent = child;
    }
    Ok(())
}

/// A version 2 directory has the controllers that every parent passes on. Those of the mount's own directory stay enabled when the
/// cluster is gone: whether somebody else relies on them by then cannot be told.
fn enable(mount: &Path, root: &str, controllers: &[String]) -> anyhow::Result<()> {
    for directory in [mount.to_owned(), mount.join(root)] {
        let file = directory.join("cgroup.subtree_control");
        let enabled = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let Some(lacking) = lacking(controllers, &enabled) else { continue };
        match std::fs::write(&file, &lacking) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let (at, aside) = (directory.display(), directory.join("init"));
                bail!(
                    "cannot write {lacking} to {}: processes are in this cgroup itself, as in a container. Move them into \
                     one below, once: mkdir {aside} && xargs -rn1 < {at}/cgroup.procs > {aside}/cgroup.procs",
                    file.display(),
                    aside = aside.display(),
                );
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {lacking} to {}", file.display()));
            }
        }
    }
    Ok(())
}

/// What to write into a `cgroup.subtree_control` that says `enabled`; `None` when nothing is lacking.
fn lacking(controllers: &[String], enabled: &str) -> Option<String> {
    let is_enabled = |name: &str| enabled.split_ascii_whitespace().any(|enabled| enabled == name);
    let needed = CONTROLLERS.iter().filter(|name| controllers.iter().any(|has| has == *name));
    let lacking: Vec<String> = needed.filter(|name| !is_enabled(name)).map(|name| format!("+{name}")).collect();
    (!lacking.is_empty()).then(|| lacking.join(" "))
}

/// The hierarchies among the lines of a `mountinfo` (see proc(5)), each once, below `/sys/fs/cgroup`.
fn parse_mounts(mounts: &str, controllers: impl Fn(&Path) -> Vec<String>) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
        let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        if !mount.starts_with("/sys/fs/cgroup") || found.iter().any(|known| known.mount == mount) {
            continue;
        }
        let kind = match kind {
            Some("cgroup") => Kind::One { cpuset: options.split(',').any(|option| option == "cpuset") },
            Some("cgroup2") => Kind::Two { controllers: controllers(&mount) },
            _ => continue,
        };
        found.push(Hierarchy { mount, kind });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 1 0:22 / /sys rw,relatime - sysfs sysfs rw
48 24 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
49 48 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu
50 48 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
51 48 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
52 48 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
53 1 0:30 / /run/elsewhere rw,relatime - cgroup cgroup rw,cpuset
54 48 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
no mount at all
";

    #[test]
    fn every_hierarchy_is_found_once() {
        let found = parse_mounts(MOUNTS, |_| vec!["pids".into()]);
        let expected = [
            ("/sys/fs/cgroup/cpu", Kind::One { cpuset: false }),
            ("/sys/fs/cgroup/cpuset", Kind::One { cpuset: true }),
            ("/sys/fs/cgroup/systemd", Kind::One { cpuset: false }),
            ("/sys/fs/cgroup/unified", Kind::Two { controllers: vec!["pids".into()] }),
        ];
        let expected: Vec<_> =
            expected.into_iter().map(|(mount, kind)| Hierarchy { mount: mount.into(), kind }).collect();
        assert_eq!(found, expected);
    }

    /// Directories of an ordinary file system have no controllers, but are made, listed and removed alike.
    #[test]
    fn directories_are_removed_depth_first_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy { mount: folder.path().to_owned(), kind: Kind::One { cpuset: false } };
        let all = [hierarchy];
        remove(&all, "mine").expect("nothing to remove");
        create(&all, "mine").unwrap();
        create(&all, "other").unwrap();
        std::fs::create_dir_all(folder.path().join("mine/kubepods/burstable/pod1")).unwrap();
        std::fs::write(folder.path().join("mine/system/cgroup.procs"), "12\n7\n12\n").unwrap();
        assert_eq!(processes(&all, "mine"), [7, 12]);
        std::fs::remove_file(folder.path().join("mine/system/cgroup.procs")).unwrap();
        remove(&all, "mine").unwrap();
        assert!(!folder.path().join("mine").exists());
        assert!(folder.path().join("other/system").exists());
    }

    #[test]
    fn a_machine_with_version_two_alone_has_one_hierarchy() {
        let mounts = "\
31 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
40 24 0:35 / /sys/fs/bpf rw,nosuid,nodev,noexec,relatime shared:11 - bpf bpf rw,mode=700
";
        let found = parse_mounts(mounts, |_| vec!["cpu".into()]);
        assert_eq!(
            found,
            [Hierarchy { mount: "/sys/fs/cgroup".into(), kind: Kind::Two { controllers: vec!["cpu".into()] } }]
        );
    }

    #[test]
    fn only_what_pods_need_and_what_lacks_is_enabled() {
        let machine = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"].map(str::to_owned);
        assert_eq!(lacking(&machine, "memory pids\n").as_deref(), Some("+cpu +cpuset +hugetlb +io"));
        assert_eq!(lacking(&machine, "cpuset cpu io memory hugetlb pids\n"), None);
        assert_eq!(lacking(&["pids".to_owned()], "").as_deref(), Some("+pids"), "the rest is the machine's lack");
        assert_eq!(lacking(&[], ""), None, "version 1 has them all");
    }

    #[test]
    fn version_two_controllers_are_passed_on_to_the_pods() {
        let folder = tempfile::tempdir().unwrap();
        let file = |directory: &str| folder.path().join(directory).join("cgroup.subtree_control");
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        std::fs::write(file(""), "memory pids\n").unwrap();
        std::fs::write(file("mine"), "").unwrap();
        let kind = Kind::Two { controllers: ["cpu", "memory", "pids", "misc"].map(str::to_owned).into() };
        create(&[Hierarchy { mount: folder.path().to_owned(), kind }], "mine").unwrap();
        assert_eq!(std::fs::read_to_string(file("")).unwrap(), "+cpu");
        assert_eq!(std::fs::read_to_string(file("mine")).unwrap(), "+cpu +memory +pids");
        assert!(!file("mine/system").exists(), "the cluster's own processes are in a leaf, as version 2 demands");
    }

    #[test]
    fn a_cpuset_is_filled_from_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cpuset.cpus"), "0-1\n").unwrap();
        std::fs::write(folder.path().join("cpuset.mems"), "0\n").unwrap();
        let all = [Hierarchy { mount: folder.path().to_owned(), kind: Kind::One { cpuset: true } }];
        create(&all, "mine").unwrap();
        for directory in ["mine", "mine/system"] {
            assert_eq!(std::fs::read_to_string(folder.path().join(directory).join("cpuset.cpus")).unwrap(), "0-1");
            assert_eq!(std::fs::read_to_string(folder.path().join(directory).join("cpuset.mems")).unwrap(), "0");
        }
    }
}
